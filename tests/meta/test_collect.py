from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import portfolio as benchmark
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import Ridge
from sklearn.model_selection import train_test_split

from windvane.meta.cells import append_line, read_lines, to_outcomes
from windvane.meta.collect import Effort, Source, choose_tables, collect
from windvane.search.portfolio import Entry

CONFIGURATIONS = [
    Entry("linear", {}),
    Entry("extra_trees", {"min_samples_leaf": 2}),
    Entry("martian", {}),
    Entry("random_forest", {}),
]
EFFORT = Effort("cv3", seconds=20.0, workers=1, memory=4000.0)


def source(name: str, n: int = 120) -> Source:
    X, y = (load_iris if name == "iris" else load_diabetes)(return_X_y=True, as_frame=True)
    parts = train_test_split(X, y, train_size=n, random_state=0)
    return Source(name, "classification" if name == "iris" else "regression", parts[0], parts[2], parts[1], parts[3])


def test_cells_are_collected_once_and_a_lost_one_again(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    assert collect(source("iris"), CONFIGURATIONS[:2], EFFORT, path) == 2
    kept = path.read_bytes()
    assert collect(source("iris"), CONFIGURATIONS, EFFORT, path) == 2
    assert path.read_bytes().startswith(kept)
    assert collect(source("iris"), CONFIGURATIONS, EFFORT, path) == 0
    lines = read_lines(path)
    assert [line["family"] for line in lines] == [entry.family for entry in CONFIGURATIONS]
    linear, first, martian, second = lines
    assert (martian["status"], martian["points"]) == ("unsupported", [])
    assert [point[0] for point in linear["points"]] == [1.0]  # does not grow
    for line in (first, second):
        assert line["status"] == "done"
        shares, valid, test, seconds = zip(*line["points"], strict=True)
        assert shares == (1 / 16, 0.25, 1.0)
        assert seconds == tuple(sorted(seconds))
        assert 0 < test[-1] < line["constant"] == pytest.approx(np.log(3), abs=0.1)
        assert 0 < valid[-1] < line["constant"]
    assert {line["policy"] for line in lines} == {"cv3"} and {line["classes"] for line in lines} == {3}

    path.write_bytes(path.read_bytes()[:-20])  # a kill in the middle of the last line
    assert collect(source("iris"), CONFIGURATIONS, EFFORT, path) == 1
    again = read_lines(path)[-1]
    assert [point[:3] for point in again["points"]] == [point[:3] for point in second["points"]]
    outcomes, entries, tables = to_outcomes(read_lines(path))
    assert tables == ["iris"] and outcomes.valid.shape == (4, 1, 3)
    assert len(entries) == 4


def test_the_test_loss_is_that_of_the_folds_models_on_rows_never_seen(tmp_path: Path) -> None:
    """Ridge regression by hand: standardised inputs, the mean of three folds' predictions."""
    from windvane.data.split import make_folds

    table, path = source("diabetes", 300), tmp_path / "cells.jsonl"
    collect(table, [Entry("linear", {"alpha": 10.0})], EFFORT, path)
    (line,) = read_lines(path)
    X, y, X_test, y_test = (part.to_numpy(float) for part in (table.X, table.y, table.X_test, table.y_test))
    found = []
    for fold in make_folds(y, 3, seed=0)[0]:
        mean, spread = X[fold.train].mean(axis=0), X[fold.train].std(axis=0)
        target = y[fold.train]
        model = Ridge(alpha=10.0).fit((X[fold.train] - mean) / spread, (target - target.mean()) / target.std())
        found.append(model.predict((X_test - mean) / spread) * target.std() + target.mean())
    assert line["metric"] == "rmse"
    assert line["points"][0][2] == pytest.approx(np.sqrt(np.mean((np.mean(found, axis=0) - y_test) ** 2)), rel=0.02)
    assert line["constant"] == pytest.approx(np.sqrt(np.mean((y.mean() - y_test) ** 2)))


def test_no_cell_is_begun_after_the_end(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    assert collect(source("iris"), CONFIGURATIONS, EFFORT, path, until=time.monotonic()) == 0
    assert read_lines(path) == []


def index(n: int = 80) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    names = [f"t{i:02d}" for i in range(n)]
    columns = {"n_rows": rng.integers(100, 9000, n), "n_features": rng.integers(2, 300, n)}
    more = {"n_categorical": rng.integers(0, 2, n), "n_missing": rng.integers(0, 2, n), "n_classes": 2.0}
    return pd.DataFrame({"name": names, **columns, **more})


def test_tables_are_chosen_by_their_facts_alone() -> None:
    given = index()
    chosen = choose_tables(given, 10, rows=(500, 8000), cells=500_000, without=["t03", "t08"])
    assert len(set(chosen)) == 10 and not {"t03", "t08"} & set(chosen)
    facts = given.set_index("name").loc[chosen]
    assert facts["n_rows"].between(500, 8000).all()
    assert (facts["n_rows"] * facts["n_features"] <= 500_000).all()
    shuffled = given.sample(frac=1, random_state=1)
    assert choose_tables(shuffled, 10, rows=(500, 8000), cells=500_000, without=["t03", "t08"]) == chosen
    assert choose_tables(given, 4, rows=(500, 8000), cells=500_000, without=["t03", "t08"]) == chosen[:4]
    everything = choose_tables(given, 99, rows=(0, 10**6), cells=10**9, without=[])
    assert sorted(everything) == sorted(given["name"])


def test_chosen_tables_are_spread_wider_than_random_ones() -> None:
    given = index(200).set_index("name")
    logs = np.log(given[["n_rows", "n_features"]].astype(float))
    logs = (logs - logs.mean()) / logs.std()

    def nearest(names: list[str]) -> float:
        points = logs.loc[names].to_numpy()
        return float(np.linalg.norm(points[:, None] - points, axis=2)[np.triu_indices(len(points), 1)].min())

    chosen = choose_tables(index(200).assign(n_categorical=0, n_missing=0), 8, rows=(0, 10**6), cells=10**9, without=[])
    rng = np.random.default_rng(1)
    others = [nearest(list(rng.choice(given.index, 8, replace=False))) for _ in range(50)]
    assert nearest(chosen) > max(others)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_no_table_of_a_benchmark_is_learned_from(shared_tables: Path, kind: str) -> None:
    import peers

    assert shared_tables == benchmark.TABLES
    reserved = {*peers.TABLES["classification"], *peers.TABLES["regression"]}
    assert reserved <= benchmark.RESERVED
    names = set(pd.read_csv(shared_tables / "index.csv")["name"])
    assert names >= benchmark.RESERVED
    every = benchmark.choose(kind, 1000)
    assert len(every) > 30 and not benchmark.RESERVED & set(every)


def test_a_portfolio_is_built_compared_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script, from finished cells to the file."""
    rng, path = np.random.default_rng(0), tmp_path / "cells.jsonl"
    candidates = benchmark.candidates("regression", per_family=1, strong=1, published=0)
    for table in ("a", "b", "c"):
        for entry in candidates:
            points = [[share, *rng.random(2), 3 * share] for share in (1 / 16, 0.25, 1.0)]
            facts = {"table": table, "family": entry.family, "config": dict(entry.config), "constant": 0.9}
            append_line(path, {**facts, "status": "done", "seconds": 3.0, "points": points, "policy": "cv3"})
    out = tmp_path / "learned"
    words = ["portfolio.py", "build", "--kind", "regression", "--cells", str(path), "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match="3 complete"):
        benchmark.main()
    monkeypatch.setattr("sys.argv", [*words, "--least-tables", "3", "--size", "4"])
    benchmark.main()
    written = json.loads((out / "portfolio_regression.json").read_text())
    assert 1 <= len(written["entries"]) <= 4
    assert all(Entry(entry["family"], entry["config"]) in candidates for entry in written["entries"])
    assert f"{len(candidates)} configurations on 3 tables (cv3)" in written["made"]
