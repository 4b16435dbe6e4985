"""Thresholds and costs: the curve equals counting, the choice is the best of the curve, labels follow."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from windvane.data.task import Task
from windvane.errors import InputError
from windvane.evaluation.decisions.calibration import fit_calibration
from windvane.evaluation.decisions.thresholds import (
    DecisionTuning,
    check_costs,
    mean_cost,
    threshold_by_hand,
    threshold_curve,
    threshold_of,
    transfer_decision,
    tune_decision,
    with_threshold,
    without_decision,
)
from windvane.evaluation.metrics import Metric, get_metric
from windvane.evaluation.predictions import Predictions
from windvane.runtime.columns.table import Table
from windvane.runtime.ensemble import Ensemble

PLAIN = Ensemble((), 0.0)
CLASSES = np.array(["no", "yes"])
TASK = Task("binary", 100, 2, 2)


def make(n: int = 300, seed: int = 0, k: int = 2, *, weighted: bool = False, decimals: int = 8) -> Predictions:
    rng = np.random.default_rng(seed)
    target = np.concatenate([np.arange(k), rng.choice(k, n - k, p=[0.8, 0.2] if k == 2 else None)])
    raw = rng.dirichlet(np.ones(k), n) + 0.7 * np.eye(k)[target]
    p = np.maximum((raw / raw.sum(axis=1, keepdims=True)).round(decimals), 1e-6)
    weight = rng.integers(1, 5, n) / 2 if weighted else None
    rows = np.arange(n)
    return Predictions(
        Table(np.empty((n, 0)), 0), rows, target, p / p.sum(axis=1, keepdims=True), weight, ensemble=PLAIN
    )


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 10_000), st.sampled_from([0, 1]), st.booleans(), st.integers(1, 4))
def test_the_curve_is_what_counting_gives(seed: int, positive: int, weighted: bool, decimals: int) -> None:
    predictions = make(40, seed, weighted=weighted, decimals=decimals)
    costs = np.array([[0.0, 1.0], [7.0, -1.0]])
    curve = threshold_curve(predictions, positive, costs)
    true, w = predictions.target == positive, predictions.weight
    for row in curve.to_dict("records"):
        chosen = with_threshold(PLAIN, row["threshold"], positive)
        labels = replace(predictions, ensemble=chosen).labels == positive
        np.testing.assert_array_equal(labels, predictions.prediction[:, positive] > row["threshold"])
        assert row["selected"] == pytest.approx(np.average(labels, weights=w))
        assert row["cost"] == pytest.approx(mean_cost(replace(predictions, ensemble=chosen), costs))
        for name in ("precision", "recall", "f1"):
            wanted = getattr(sk, f"{name}_score")(true, labels, sample_weight=w, zero_division=0.0)
            assert row[name] == pytest.approx(wanted), name


@pytest.mark.parametrize("positive", [0, 1])
@pytest.mark.parametrize("name", ["f1", "balanced_accuracy", "matthews_corrcoef"])
def test_no_threshold_is_better(name: str, positive: int) -> None:
    predictions, metric = make(), get_metric(name, TASK, CLASSES, positive)
    ensemble, tuning = tune_decision(predictions, positive, metric=metric)
    assert tuning.threshold == pytest.approx(threshold_of(ensemble, positive))
    assert tuning.score == pytest.approx(replace(predictions, ensemble=ensemble).score(metric))
    assert tuning.default_score == pytest.approx(predictions.score(metric))
    assert tuning.curve is not None and len(tuning.curve) <= 101
    others = [with_threshold(PLAIN, t, positive) for t in tuning.curve["threshold"]]
    assert tuning.score >= max(replace(predictions, ensemble=one).score(metric) for one in others) - 1e-12


def test_precision_and_recall_are_reached() -> None:
    predictions = make(weighted=True)
    for kept, other in (("precision", "recall"), ("recall", "precision")):
        goal: dict[str, Any] = {kept: 0.9}
        ensemble, tuning = tune_decision(predictions, 1, **goal)
        found = replace(predictions, ensemble=ensemble)
        scores = {name: found.score(get_metric(name, TASK, CLASSES, 1)) for name in ("precision", "recall")}
        assert scores[kept] >= 0.9
        assert scores[other] == pytest.approx(tuning.score)
        curve = threshold_curve(predictions, 1)
        assert tuning.score == curve[other][curve[kept] >= 0.9].max()
        assert str(tuning).startswith(f"threshold {tuning.threshold:.4g} for {kept} >= 0.9: {other} {tuning.score:.4g}")


def test_costs_of_two_classes_are_least() -> None:
    predictions, costs = make(), check_costs({("yes", "no"): 10}, CLASSES)
    ensemble, tuning = tune_decision(predictions, 1, costs=costs)
    assert ensemble.costs is None and (tuning.threshold or 1) < 0.5
    assert tuning.score == pytest.approx(mean_cost(replace(predictions, ensemble=ensemble), costs))
    assert tuning.score < tuning.default_score
    assert tuning.default_score == pytest.approx(mean_cost(predictions, costs))


def test_costs_of_more_classes_choose_the_least_expected_cost() -> None:
    predictions = make(k=3)
    true = [np.random.default_rng(row).choice(3, p=p) for row, p in enumerate(predictions.prediction)]
    predictions = replace(predictions, target=np.array(true))  # so that the probabilities are right
    costs = np.array([[0.0, 1.0, 5.0], [2.0, 0.0, 1.0], [9.0, 1.0, 0.0]])
    ensemble, tuning = tune_decision(predictions, None, costs=costs)
    found = replace(predictions, ensemble=ensemble)
    for p, label in zip(predictions.prediction, found.labels, strict=True):
        expected = [sum(p[i] * costs[i, j] for i in range(3)) for j in range(3)]
        assert expected[label] == min(expected)
    assert (tuning.threshold, tuning.curve) == (None, None)
    assert tuning.score < tuning.default_score


def test_factors_of_more_classes_are_for_a_metric() -> None:
    rng = np.random.default_rng(0)
    target = rng.choice(3, 600, p=[0.9, 0.05, 0.05])
    raw = np.array([0.9, 0.05, 0.05]) * np.exp(rng.normal(size=(600, 3)) + 1.5 * np.eye(3)[target])
    p = raw / raw.sum(axis=1, keepdims=True)
    predictions = Predictions(Table(np.empty((600, 0)), 0), np.arange(600), target, p, ensemble=PLAIN)
    metric = get_metric("balanced_accuracy", Task("multiclass", 600, 1, 3))
    ensemble, tuning = tune_decision(predictions, None, metric=metric)
    assert ensemble.decision_weights is not None
    labels = (p * np.array(ensemble.decision_weights)).argmax(axis=1)
    assert tuning.score == pytest.approx(sk.balanced_accuracy_score(target, labels))
    assert tuning.score > tuning.default_score + 0.05


def test_costs_as_users_write_them() -> None:
    wanted = [[0.0, 1.0], [10.0, 0.0]]
    named = pd.DataFrame([[0, 10], [1, 0]], index=["yes", "no"], columns=["yes", "no"])
    for costs in (wanted, np.array(wanted), {("yes", "no"): 10}, named):
        np.testing.assert_array_equal(check_costs(costs, CLASSES), wanted)
    np.testing.assert_array_equal(check_costs({(1, 0): 10}, np.array([0, 1])), wanted)


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ([1, 2], "costs has the shape (2,). Allowed: finite numbers of the shape (2, 2)"),
        ([[0, np.nan], [1, 0]], "finite numbers"),
        ([["a", 1], [1, 0]], "are not numbers"),
        ({("yes", "maybe"): 2}, "costs has the key ('yes', 'maybe'). Allowed: pairs"),
        ({("yes", "no"): "much"}, "costs[('yes', 'no')]='much' is not usable"),
        (pd.DataFrame([[0, 1], [1, 0]]), "Allowed: the classes ['no', 'yes'] for both"),
    ],
)
def test_costs_that_cannot_be_used(costs: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        check_costs(costs, CLASSES)


@pytest.mark.parametrize("value", [0, 1, -0.5, 2, float("nan"), "half", True])
def test_thresholds_that_cannot_be_used(value: Any) -> None:
    with pytest.raises(InputError, match="threshold="):
        with_threshold(PLAIN, value, 1)


def test_goals_that_cannot_be_reached() -> None:
    predictions = make()
    wrong = replace(predictions, prediction=predictions.prediction[:, ::-1])
    with pytest.raises(
        InputError, match=r"precision=0.99 is reached by no threshold on these 300 rows. Allowed: up to"
    ):
        tune_decision(wrong, 1, precision=0.99)
    with pytest.raises(InputError, match="metric='roc_auc' does not look at labels"):
        tune_decision(predictions, 1, metric=get_metric("roc_auc", TASK))
    with pytest.raises(InputError, match="rows of both classes"):
        tune_decision(predictions.take(np.flatnonzero(predictions.target == 0)), 1, recall=0.5)


def test_a_metric_may_be_named_like_a_condition() -> None:
    metric = Metric("hits >= 1", lambda y, p: float(np.mean(y == p)))
    _, tuning = tune_decision(make(), 1, metric=replace(metric, classes=CLASSES, positive=1))
    assert f"for hits >= 1: hits >= 1 {tuning.score:.4g}" in str(tuning)


def test_a_threshold_that_was_set() -> None:
    predictions = make()
    found, tuning = threshold_by_hand(PLAIN, 0.7, 1, predictions)
    assert tuning.curve is not None
    chosen = predictions.prediction[:, 1] > 0.7
    assert tuning.score == pytest.approx(sk.f1_score(predictions.target, chosen))
    assert str(tuning).startswith(f"threshold 0.7 set by hand: f1 {tuning.score:.4g}, for the most probable class")
    same, unknown = threshold_by_hand(PLAIN, 0.7, 1, None)
    assert same == found
    again = DecisionTuning.from_json(json.loads(json.dumps(unknown.to_json(), allow_nan=False)))
    assert again is not None and np.isnan(again.score) and str(again) == "threshold 0.7 set by hand"
    assert without_decision(found) == PLAIN


def test_a_tuning_in_json() -> None:
    _, tuning = tune_decision(make(), 1, recall=0.9)
    again = DecisionTuning.from_json(tuning.to_json())
    assert again is not None and again.curve is not None and tuning.curve is not None
    pd.testing.assert_frame_equal(again.curve, tuning.curve)
    assert again.to_json() == tuning.to_json()
    assert DecisionTuning.from_json(None) is None


@pytest.mark.parametrize("method", ["temperature", "isotonic", "venn_abers"])
@pytest.mark.parametrize("positive", [0, 1])
def test_a_calibration_keeps_the_labels(method: str, positive: int) -> None:
    predictions = make()
    first, tuning = tune_decision(predictions, positive, recall=0.8)
    labels = replace(predictions, ensemble=first).labels
    before = first
    for one in (method, "temperature", "none"):  # from each to the next
        found = fit_calibration(predictions.prediction, predictions.target, method=one)
        after = replace(PLAIN, temperature=found.temperature, calibration=found.knots)
        after, tuning = transfer_decision(before, after, tuning)
        np.testing.assert_array_equal(after.decision_values(after.calibrate(predictions.prediction)).argmax(1), labels)
        assert tuning.threshold == pytest.approx(threshold_of(after, positive))
        assert tuning.curve["threshold"].is_monotonic_increasing
        before = after
    assert threshold_of(before, positive) == pytest.approx(threshold_of(first, positive))


def test_a_temperature_keeps_the_labels_of_factors() -> None:
    predictions = make(k=3)
    before = replace(PLAIN, temperature=1.3, decision_weights=(1.0, 2.0, 0.5))
    after, _ = transfer_decision(before, replace(PLAIN, temperature=0.7), None)
    labels = [one.decision_values(one.calibrate(predictions.prediction)).argmax(axis=1) for one in (before, after)]
    np.testing.assert_array_equal(*labels)
