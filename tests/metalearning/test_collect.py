from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import Ridge

from windvane.data.splits import make_folds
from windvane.metalearning.cells import read_cells
from windvane.metalearning.collect import CollectSettings, SourceTable, _collect_table, collect
from windvane.metalearning.learn import entries_of
from windvane.metalearning.replay import entry_id
from windvane.search.strategy.portfolio import PortfolioEntry

ENTRIES = [
    PortfolioEntry("linear", {}),
    PortfolioEntry("extra_trees", {"min_samples_leaf": 2}),
    PortfolioEntry("martian", {}),
]


def source(folder: Path, name: str = "iris") -> SourceTable:
    X, y = (load_iris if name == "iris" else load_diabetes)(return_X_y=True, as_frame=True)
    X.assign(target=y).to_parquet(folder / f"{name}.parquet")
    goal = "classification" if name == "iris" else "regression"
    return SourceTable(name, folder / f"{name}.parquet", "target", goal)  # type: ignore[arg-type]


def test_cells_are_collected_once_and_a_lost_one_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, table = tmp_path / "cells.jsonl", source(tmp_path)
    settings = CollectSettings("cv3", cache=tmp_path / "cache")
    assert collect([table], ENTRIES[:1], settings, path, quiet=False) == 1
    progress = capsys.readouterr()
    assert progress.out == "" and progress.err.startswith(f"{table.name}: 1 of 1 cells")
    kept = path.read_bytes()
    assert collect([table], ENTRIES, settings, path, quiet=True) == 2
    assert path.read_bytes().startswith(kept)
    assert collect([table], ENTRIES, settings, path, quiet=True) == 0
    linear, trees, martian = read_cells(path)
    assert (martian.status, martian.checkpoints) == ("unsupported", [])
    assert len(linear.checkpoints) == 1  # does not grow
    iterations = [point["iterations"] for point in trees.checkpoints]  # what takes no time is joined
    assert iterations == [[8] * 3, [32] * 3, [128] * 3]  # but for the rungs of successive halving
    assert [point["fraction"] for point in trees.checkpoints] == [0.0625, 0.25, 1.0]
    for cell in (linear, trees):
        assert (cell.status, cell.policy, cell.rows, cell.classes) == ("done", "cv3", 112, 3)
        seconds = [point["cpu"] for point in cell.checkpoints]
        assert seconds == sorted(seconds)
        assert all(0 < point["cpu_first"] < point["cpu"] for point in cell.checkpoints)
        valid, test, first_valid, first_test = cell.checkpoints[-1]["losses"]["log_loss"]
        assert max(valid, test, first_valid, first_test) < cell.constant["log_loss"] == pytest.approx(np.log(3), 0.1)

    path.write_bytes(path.read_bytes()[:-20])  # a kill in the middle of the last line
    assert collect([table], ENTRIES, settings, path, quiet=True) == 1
    assert read_cells(path)[-1].family == "martian"


def test_kept_predictions_give_the_recorded_losses(tmp_path: Path) -> None:
    path, table = tmp_path / "cells.jsonl", source(tmp_path)
    collect([table], ENTRIES[1:2], CollectSettings("cv3", cache=tmp_path / "cache"), path, quiet=True)
    (cell,) = read_cells(path)
    with np.load(tmp_path / "cache" / "iris" / "targets.npz") as targets:
        valid, test = targets["valid"].astype(int), targets["test"].astype(int)
    with np.load(tmp_path / "cache" / "iris" / f"{entry_id(cell.family, cell.config)}.npz") as arrays:
        for i, point in enumerate(cell.checkpoints):
            wrong = [
                np.mean(arrays[f"{name}_{i}"].argmax(axis=1) != y) for name, y in (("valid", valid), ("test", test))
            ]
            assert wrong == pytest.approx(point["losses"]["accuracy"][:2], abs=1e-5)


def test_the_test_loss_is_that_of_the_folds_models_on_rows_never_seen(tmp_path: Path) -> None:
    """Ridge regression by hand: standardized inputs, the mean of three folds' predictions."""
    path, table = tmp_path / "cells.jsonl", source(tmp_path, "diabetes")
    collect([table], [PortfolioEntry("linear", {"alpha": 10.0})], CollectSettings("cv3"), path, quiet=True)
    (cell,) = read_cells(path)
    X, y, X_test, y_test = (np.asarray(part, dtype=float) for part in table.read())
    found = []
    for fold in make_folds(y, 3, seed=0)[0]:
        mean, spread = X[fold.train].mean(axis=0), X[fold.train].std(axis=0)
        target = y[fold.train]
        model = Ridge(alpha=10.0).fit((X[fold.train] - mean) / spread, (target - target.mean()) / target.std())
        found.append(model.predict((X_test - mean) / spread) * target.std() + target.mean())
    expected = np.sqrt(np.mean((np.mean(found, axis=0) - y_test) ** 2))
    assert cell.checkpoints[0]["losses"]["rmse"][1] == pytest.approx(expected, rel=0.02)
    assert cell.constant["rmse"] == pytest.approx(np.sqrt(np.mean((y.mean() - y_test) ** 2)))


def test_a_cell_that_kills_its_process_is_recorded_and_the_others_are_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, table = tmp_path / "cells.jsonl", source(tmp_path)
    entries = [PortfolioEntry("extra_trees", {}), *ENTRIES[:1]]
    monkeypatch.setattr("windvane.metalearning.collect._collect_table", _die_on_trees)
    collect([table], entries, CollectSettings("cv3"), path, quiet=True)
    assert [(cell.family, cell.status) for cell in read_cells(path)] == [("extra_trees", "crashed"), ("linear", "done")]


def _die_on_trees(*arguments: Any) -> None:
    from windvane.models.forest import ForestModel

    ForestModel._train_iterations = lambda *_: os._exit(9)  # type: ignore[assignment, method-assign, misc]
    _collect_table(*arguments)


def test_a_table_that_kills_its_process_leaves_one_record(tmp_path: Path) -> None:
    path, table = tmp_path / "cells.jsonl", source(tmp_path)
    broken = replace(table, name="broken", path=tmp_path / "broken.csv")
    broken.path.write_text("a,b\n1,2\n")  # it lacks the target
    collect([broken, table], ENTRIES[:1], CollectSettings("cv3"), path, quiet=True)
    assert [(cell.table, cell.family, cell.status) for cell in read_cells(path)] == [
        ("broken", "", "unreadable"),
        (table.name, "linear", "done"),
    ]
    assert list(entries_of(path).values()) == ENTRIES[:1]


def test_no_cell_is_begun_after_the_end(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    missing = replace(source(tmp_path), path=tmp_path / "missing.csv")  # a process that began it would record this
    assert collect([missing], ENTRIES, CollectSettings(), path, deadline=time.monotonic(), quiet=True) == 0
    assert read_cells(path) == []


def test_rare_classes_are_left_out_and_rows_are_capped(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(300.0), "target": ["a"] * 150 + ["b"] * 146 + ["rare"] * 4})
    frame.to_parquet(tmp_path / "t.parquet")
    table = SourceTable("t", tmp_path / "t.parquet", "target", "classification", max_rows=100)
    X, y, X_test, y_test = table.read()
    assert len(X) + len(X_test) <= 100 and len(X_test) == pytest.approx(25, abs=1)
    assert set(y) == set(y_test) == {"a", "b"}
    assert not set(X.index) & set(X_test.index)
