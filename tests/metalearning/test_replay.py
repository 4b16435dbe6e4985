from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score, root_mean_squared_error

from benchmarks.metalearning.matrix import with_metric
from windvane.metalearning.build_portfolio import BuildPlan, build, make_scores, rank_alone
from windvane.metalearning.replay import (
    LearningCurve,
    RunPlan,
    TableReplay,
    greedy,
    losses_of,
    run_trials,
    score_run,
)
from windvane.search.ensemble_selection import greedy_selection


def make_curve(valid: list[float], cpu: list[float], target: np.ndarray, noise: float, seed: int) -> LearningCurve:
    rng = np.random.default_rng(seed)
    predictions = tuple((target + noise * rng.normal(size=len(target))).astype(np.float32) for _ in cpu)
    return LearningCurve("linear", np.array(cpu), np.array(valid), np.array(valid), predictions, predictions, True)


def make_table() -> TableReplay:
    rng = np.random.default_rng(0)
    target = rng.normal(size=200)
    table = TableReplay("t", "regression", 10_000, 3, 0, "rmse", target, target, 1.0)
    table.curves = {
        "quick": make_curve([0.5], [1.0], target, 0.5, 1),
        "grows": make_curve([0.9, 0.4, 0.2], [1.0, 4.0, 30.0], target, 0.2, 2),
        "slow": make_curve([0.1], [100.0], target, 0.1, 3),
    }
    return table


def test_a_run_fills_its_workers_in_order_and_counts_the_last_checkpoint_in_time() -> None:
    table = make_table()
    plan = RunPlan(seconds=60, workers=1, startup=0.0, overhead=0.0, share=0.5)
    assert run_trials(["grows", "quick"], table, plan) == [("grows", 2), ("quick", 0)]
    # slow takes its share of 30 s and has no checkpoint; grows has the other 30 s, and then the time is over
    assert run_trials(["slow", "grows", "quick"], table, plan) == [("grows", 2)]
    two = RunPlan(seconds=10, workers=2, startup=0.0, overhead=0.0, share=1.0)
    assert run_trials(["slow", "grows", "quick"], table, two) == [("grows", 1)]
    assert run_trials(["unknown", "quick"], table, two) == [("quick", 0)]


def test_a_run_without_a_checkpoint_predicts_a_constant() -> None:
    table = make_table()
    assert score_run([], table) == table.constant
    assert score_run([("quick", 0)], table) == pytest.approx(0.5, rel=0.2)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_losses_are_those_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.append(rng.integers(0, 3, 40), [0, 1, 2])
    p = rng.dirichlet(np.ones(3), size=(2, len(y)))
    np.testing.assert_allclose(losses_of(p, y, "log_loss"), [log_loss(y, one) for one in p], rtol=1e-9)
    values = np.round(rng.normal(size=(2, len(y))), 1)
    np.testing.assert_allclose(losses_of(values, y, "rmse"), [root_mean_squared_error(y, one) for one in values])
    binary = (y == 1).astype(int)
    tied = np.round(p[..., :2], 1)
    expected = [1 - roc_auc_score(binary, one[:, 1]) for one in tied]
    np.testing.assert_allclose(losses_of(tied, binary, "roc_auc"), expected, atol=1e-12)


def test_another_metric_has_the_losses_of_scikit_learn() -> None:
    rng = np.random.default_rng(4)
    y, y_test = rng.integers(0, 2, 80), rng.integers(0, 2, 60)
    valid, test = rng.random((2, 80)).astype(np.float32), rng.random((2, 60)).astype(np.float32)
    table = TableReplay("t", "binary", 80, 3, 2, "roc_auc", y, y_test, 0.5)
    nothing = np.zeros(2)
    table.curves["a"] = LearningCurve("linear", np.array([1.0, 2.0]), nothing, nothing, tuple(valid), tuple(test), True)
    found = {metric: with_metric(table, metric) for metric in ("roc_auc", "log_loss", "accuracy")}
    for i in range(2):
        wrong = 1 - accuracy_score(y_test, test[i] > 0.5)
        assert found["accuracy"].curves["a"].test_loss[i] == pytest.approx(wrong)
        assert found["log_loss"].curves["a"].valid_loss[i] == pytest.approx(log_loss(y, valid[i]), rel=1e-4)
        assert found["roc_auc"].curves["a"].test_loss[i] == pytest.approx(1 - roc_auc_score(y_test, test[i]))
    assert found["log_loss"].constant == pytest.approx(log_loss(y_test, np.full(60, y.mean())))
    assert found["roc_auc"].constant == 0.5
    assert score_run([("a", 1)], found["accuracy"]) == found["accuracy"].curves["a"].test_loss[1]


def test_what_was_not_kept_is_not_scored() -> None:
    table = TableReplay("t", "multiclass", 80, 3, 3, "log_loss", np.array([0, 1, 2]), np.array([0, 1, 2]), 1.1)
    true_class = (np.array([0.5, 0.5, 0.5], dtype=np.float32),)
    one = np.ones(1)
    table.curves["a"] = LearningCurve("linear", one, one, one, true_class, true_class, True)
    with pytest.raises(ValueError, match="for the log_loss alone"):
        with_metric(table, "accuracy")


def test_greedy_selection_is_that_of_the_search() -> None:
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 150)
    stack = np.stack([rng.dirichlet(np.ones(3) + 3 * np.eye(3)[c]) for c in y for _ in range(6)])
    stack = stack.reshape(len(y), 6, 3).transpose(1, 0, 2)
    ours = greedy(stack, y, "log_loss", 25)
    theirs = greedy_selection(stack, lambda blend: log_loss(y, blend / blend.sum(axis=1, keepdims=True)), 25)
    np.testing.assert_allclose(ours, theirs)


def test_a_portfolio_takes_what_is_quick_first_and_leaves_out_what_adds_nothing() -> None:
    table = make_table()
    table.curves["copy"] = table.curves["quick"]
    scores = make_scores([table], BuildPlan(budgets=(5.0, 60.0), workers=1))
    chosen = build(scores, ["slow", "copy", "grows", "quick"], 2)
    assert chosen[0][0] == "grows"
    assert "slow" not in dict(chosen)
    means = [mean for _, mean in chosen]
    assert means == sorted(means, reverse=True)
    alone = {entry: np.mean(scores[0].scores([entry])) for entry in table.curves}
    assert rank_alone(scores, ["slow", "quick", "grows"]) == sorted(["slow", "quick", "grows"], key=alone.__getitem__)
