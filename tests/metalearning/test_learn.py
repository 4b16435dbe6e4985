from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.metalearning.matrix import read_matrix, write_matrix
from benchmarks.metalearning.portfolio import leave_out
from windvane.errors import InputError
from windvane.metalearning.build_portfolio import BuildPlan, build, make_scores
from windvane.metalearning.learn import (
    LARGE_ROWS,
    complete_tables,
    evaluated,
    find_tables,
    full_order,
    learn_portfolio,
)
from windvane.metalearning.replay import LearningCurve, TableReplay, entry_id
from windvane.search.strategy.portfolio import PortfolioEntry

ENTRIES = [
    PortfolioEntry("linear", {}),
    PortfolioEntry("linear", {"C": 0.1}),
    PortfolioEntry("lightgbm", {}),
    PortfolioEntry("mlp", {"depth": 1}),
]
BY_ID = {entry_id(entry.family, entry.config): entry for entry in ENTRIES}
PLAN = BuildPlan(budgets=(10.0, 60.0), workers=1, size=3)


def make_table(name: str, kind: str, rows: int, best: int, seed: int = 0) -> TableReplay:
    """Every entry predicts with noise; the one at `best` with little."""
    rng = np.random.default_rng([seed, best])
    k = {"binary": 2, "multiclass": 3, "regression": 0}[kind]
    target = rng.integers(0, k, 150) if k else rng.normal(size=150)
    metric = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}[kind]
    table = TableReplay(name, kind, rows, 5, k, metric, target, target, 1.0)
    for i, entry in enumerate(BY_ID):
        noise = 0.1 if i == best else 3.0
        scores = (4 * np.eye(k)[target] if k else target) + noise * rng.normal(size=(150, k) if k else 150)
        parts = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True) if k else scores
        parts = parts.astype(np.float32)
        losses = np.array([2 * noise, noise])
        cost = 1.0 if i == 3 else 2.0
        family = BY_ID[entry].family
        table.curves[entry] = LearningCurve(
            *(family, np.array([0.1, cost]), losses, losses, (parts,) * 2, (parts,) * 2, True),
            np.array([0.05, 1.0]),
        )
    return table


def test_scores_of_regression_do_not_depend_on_the_unit_of_the_target(tmp_path: Path) -> None:
    """Losses and constants are recorded in the unit of the target; predictions are standardized."""
    found = []
    for unit in (1.0, 600.0):
        table = make_table("t", "regression", 500, 2)
        curves = {e: replace(c, test_loss=unit * c.test_loss) for e, c in table.curves.items()}
        write_matrix([replace(table, constant=unit, curves=curves)], BY_ID, tmp_path / "m.parquet")
        (read,), _ = read_matrix(tmp_path / "m.parquet")
        (score,) = make_scores([read], PLAN)
        found.append(score.scores(list(BY_ID)[:2]))
    assert found[0] == found[1]
    assert found[0][0] > 0.5  # noise of three standard deviations


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_the_matrix_keeps_what_replays_need(kind: str, tmp_path: Path) -> None:
    tables = [make_table(f"t{i}", kind, 100 * i, i) for i in range(3)]
    write_matrix(tables, BY_ID, tmp_path / "m.parquet")
    read, entries = read_matrix(tmp_path / "m.parquet")
    assert entries == BY_ID and [table.name for table in read] == ["t0", "t1", "t2"]
    for before, after in zip(tables, read, strict=True):
        assert (after.kind, after.rows, after.metric) == (kind, before.rows, before.metric)
        spread = float(np.sqrt(np.mean(after.test_target**2))) if kind == "regression" else 1.0
        assert after.constant == spread
        np.testing.assert_allclose(after.target, before.target, atol=2e-3)
        for entry, curve in before.curves.items():
            np.testing.assert_array_equal(after.curves[entry].cpu, curve.cpu)
            np.testing.assert_allclose(after.curves[entry].test_loss, spread * curve.test_loss)
            np.testing.assert_array_equal(after.curves[entry].fraction, [0.05, 1.0])
            wanted = curve.test[-1]
            if kind == "binary":
                wanted = wanted[:, 1]
            elif kind == "multiclass":
                wanted = wanted[np.arange(150), before.target]
            np.testing.assert_allclose(after.curves[entry].test[-1], wanted, atol=0.015)
    write_matrix(tables, BY_ID, tmp_path / "all.parquet", min_step=1.5, all_classes=True)
    tables[0].curves["rung"] = replace(tables[0].curves[next(iter(BY_ID))], fraction=np.array([0.25, 1.0]))
    write_matrix(
        tables[:1], {**BY_ID, "rung": PortfolioEntry("linear", {"C": 7.0})}, tmp_path / "r.parquet", min_step=5
    )
    curves = read_matrix(tmp_path / "r.parquet")[0][0].curves
    assert [len(curve.cpu) for curve in curves.values()] == [1, 1, 1, 1, 2]  # a rung ends there
    del tables[0].curves["rung"]
    for before, after in zip(tables, read_matrix(tmp_path / "all.parquet")[0], strict=True):
        for entry, curve in before.curves.items():
            assert len(after.curves[entry].cpu) == (2 if curve.cpu[1] == 2.0 else 1)
            wanted = curve.test[-1][:, 1] if kind == "binary" else curve.test[-1]
            np.testing.assert_allclose(after.curves[entry].test[-1], wanted, atol=0.015)
    write_matrix(tables, BY_ID, tmp_path / "again.parquet")
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "m.parquet").read_bytes()


def test_a_kind_with_enough_tables_has_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windvane.metalearning.learn.MIN_TABLES", 4)
    many = [make_table(f"b{i}", "binary", 500, 2, i) for i in range(4)]
    few = [make_table(f"r{i}", "regression", 100, 2, i) for i in range(2)]
    large = [make_table(f"l{i}", "multiclass", 50_000, 1, i) for i in range(2)]
    cases, made = learn_portfolio([*many, *few], large, BY_ID, BuildPlan(budgets=(10.0, 60.0), workers=1, size=2))
    assert all(case.entries[0] == ENTRIES[3] for case in cases)  # the cheapest
    found = [(case.kinds, case.max_rows, case.entries[1]) for case in cases]
    assert found == [
        (("binary",), LARGE_ROWS, ENTRIES[2]),
        (("multiclass", "regression"), LARGE_ROWS, ENTRIES[2]),
        (("binary", "multiclass", "regression"), None, ENTRIES[1]),
    ]
    assert "4 configurations on 8 tables" in made
    for case in cases:  # what was not chosen follows
        assert sorted(case.entries, key=ENTRIES.index) == ENTRIES


def test_what_is_learned_wins_on_tables_left_out() -> None:
    tables = [make_table(f"t{i}", "multiclass", 500, 2, i) for i in range(10)]
    start = tuple(list(BY_ID)[:1])
    assert full_order(tables, list(BY_ID), replace(PLAN, start=start))[1] == start[0]  # after the cheapest
    scores = leave_out(tables, list(BY_ID), replace(PLAN, start=start), {"first": start})
    assert set(scores["order"]) == {"first", "learned", "start kept"} and len(scores) == 30
    mean = scores.groupby("order")["60 s"].mean()
    assert mean["learned"] < 0.2 < mean["first"]


def test_tables_that_are_still_being_collected_wait_and_those_that_lack_a_new_entry_do_not() -> None:
    tables = [make_table(f"t{i}", "binary", 100, 0) for i in range(3)]
    tables[0].curves.popitem()
    for _ in range(3):
        tables[1].curves.popitem()
    assert [table.name for table in complete_tables(tables)] == ["t0", "t2"]


def test_an_entry_is_compared_on_the_tables_that_have_it() -> None:
    """The new entry is better by far on the two tables of five where it was evaluated, the old one is good on all."""
    tables = [make_table(f"t{i}", "multiclass", 500, 1 if i < 3 else 2, i) for i in range(5)]
    new = list(BY_ID)[2]
    for table in tables[:3]:
        del table.curves[new]
    (first, score), *_ = build(make_scores(tables, PLAN), list(BY_ID), PLAN.size)
    assert first == new
    on_all = [float(np.mean(one.scores([new]))) for one in make_scores(tables, PLAN)]
    assert score == pytest.approx(np.mean(on_all))  # where it is unknown, nothing is assumed


def test_entries_of_half_of_the_tables_are_no_candidates() -> None:
    tables = [make_table(f"t{i}", "binary", 100, 0) for i in range(4)]
    for table in tables[:2]:
        table.curves.popitem()
    assert evaluated(tables, BY_ID) == list(BY_ID)[:3]


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(InputError, match="no tables to learn from"):
        learn_portfolio([], [], {}, PLAN)


def test_a_folder_of_tables(tmp_path: Path) -> None:
    pd.DataFrame({"x": np.arange(40.0), "y": ["a", "b"] * 20}).to_csv(tmp_path / "one.csv", index=False)
    pd.DataFrame({"y": np.linspace(0, 1, 40), "x": np.arange(40)}).to_parquet(tmp_path / "two.parquet")
    one, two = find_tables(tmp_path, "y", max_rows=30)
    assert (one.name, one.target, one.goal, one.max_rows) == ("one", "y", "classification", 30)
    assert (two.name, two.target, two.goal) == ("two", "y", "regression")
    assert [table.target for table in find_tables(tmp_path, None)] == ["y", "x"]
    with pytest.raises(InputError, match=r"--target 'z' is no column of one.csv. Allowed: \['x', 'y'\]"):
        find_tables(tmp_path, "z")
    for folder in (tmp_path / "none", tmp_path / "one.csv"):
        with pytest.raises(InputError, match="holds no table"):
            find_tables(folder, "y")
