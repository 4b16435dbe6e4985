from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from benchmarks.metalearning import calibration, metric_groups
from benchmarks.metalearning.policies import ENTRIES, WAYS, Choices, Examples, choose, rows_of
from benchmarks.metalearning.real_runs import agreement
from windvane.metalearning.build_portfolio import BuildPlan
from windvane.metalearning.replay import LearningCurve, TableReplay


def make_examples() -> Examples:
    """Cheap tables want ten folds, others a hold-out; three folds are second everywhere."""
    rng = np.random.default_rng(0)
    names = np.repeat([f"t{i:02d}" for i in range(24)], 4)
    budgets = np.tile([10.0, 60.0, 600.0, 3600.0], 24)
    rows = np.repeat(rng.permutation(np.geomspace(200, 4000, 24)), 4)
    facts = np.column_stack([rows, np.full(96, 10), np.full(96, 2), np.full(96, 0.3), budgets * 1000 / rows])
    ten = rows < 900
    scores = np.column_stack([np.where(ten, 9.0, 1.0), np.full(96, 3.0), np.full(96, 5.0), np.where(ten, 1.0, 9.0)])
    return Examples(names, budgets, facts[:, :2], facts, ("holdout", "cv3", "cv5", "cv10"), scores)


@pytest.fixture(scope="module")
def chosen() -> dict[str, Choices]:
    return choose(make_examples(), n_parts=3, n_trees=3)


def test_choices_for_tables_left_out(chosen: dict[str, Choices]) -> None:
    examples = make_examples()
    assert set(chosen) == set(WAYS)
    best = examples.scores.argmin(axis=1)
    assert set(chosen["single best"].tolist()) == {1}
    assert set(chosen["shipped rule"].tolist()) == {2}
    assert np.mean(chosen["learned rule"] == best) > 0.85
    assert np.mean(chosen["pairwise selector"] == best) > 0.75


def test_rows_hold_the_scores_of_what_was_chosen(chosen: dict[str, Choices]) -> None:
    examples = make_examples()
    rows = {(row["policy"], row["budget"]): row for row in rows_of("ten", examples, chosen)}
    row = rows["learned rule", 60]
    for table, score, choice in zip(row["tables"], row["scores"], row["choices"], strict=True):
        at = int(np.flatnonzero((examples.tables == table) & (examples.budgets == 60))[0])
        assert score == examples.scores[at, examples.policies.index(choice)]
    assert rows["oracle", 60]["scores"] == [1.0] * 24
    assert rows["random", 60]["scores"] == [4.5] * 24


def test_orders_are_scored_by_every_metric_on_tables_left_out() -> None:
    """One entry is good for either metric; an order has the one of its metric among the two that a run carries."""
    entries = ["c", "d", "e", "a", "b"]
    by_metric: dict[str, list[TableReplay]] = {}
    for place, metric in enumerate(("rmse", "mae")):
        by_metric[metric] = []
        for i in range(6):
            target = np.random.default_rng(i).normal(size=60)
            table = TableReplay(f"t{i}", "regression", 500, 3, 0, metric, target, target, 1.0)
            for j, entry in enumerate(entries):
                noise = 0.1 if entry == "ab"[place] else 0.9
                parts = ((target + noise * np.random.default_rng([i, j]).normal(size=60)).astype(np.float32),)
                one = np.array([noise])
                table.curves[entry] = LearningCurve("linear", np.array([6.0]), one, one, parts, parts, True)
            by_metric[metric].append(table)
    rows = metric_groups.cross("regression", by_metric, entries, BuildPlan((20.0,), workers=1, size=1))
    means = {(row["scored"], row["built"]): np.mean([score for _, score in row["scores"]]) for row in rows}
    assert all(len(row["scores"]) == 6 for row in rows)
    assert means["rmse", "rmse"] < means["rmse", "mae"]
    assert means["mae", "mae"] < means["mae", "rmse"]


@pytest.mark.parametrize(
    ("ours", "agree"), [([1.0, 2.0, 3.0, 3.5], 1), ([1.0, 2.0, 3.5, 3.0], 1), ([2.0, 1.0, 3, 4], 0)]
)
def test_agreement_counts_tables_where_real_runs_differ(ours: list[float], agree: int) -> None:
    assert agreement(["s", "s", "t", "t"], np.array([1.0, 2.0, 3.0, 3.001]), np.array(ours)) == (agree, 1)


def test_a_temperature_undoes_what_was_sharpened() -> None:
    rng = np.random.default_rng(0)
    true = rng.dirichlet(np.ones(3), size=(2, 500))  # of validation and test rows
    target, test_target = (np.array([rng.choice(3, p=row) for row in rows]) for rows in true)
    sharp = true**2.5 / (true**2.5).sum(axis=2, keepdims=True)
    table = TableReplay("t", "multiclass", 500, 3, 3, "log_loss", target, test_target, 1.1)
    one = np.ones(1)
    table.curves[ENTRIES[0]] = LearningCurve("linear", one, one, one, (sharp[0],), (sharp[1],), True)
    found = calibration.calibrate(table, "log_loss")
    clipped = np.clip(sharp[1], 1e-7, 1)
    assert found["before"] == pytest.approx(-np.mean(np.log(clipped[np.arange(500), test_target])), abs=1e-4)
    assert found["after"] == pytest.approx(log_loss(test_target, true[1]), abs=0.02)
    assert found["temperature"] == pytest.approx(2.5, abs=0.4)
