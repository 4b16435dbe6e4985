"""Scores, intervals and baselines of predictions with a known target."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import balanced_accuracy_score, log_loss

from windvane.data.task import Task
from windvane.evaluation.baseline import constant_prediction
from windvane.evaluation.metrics import Metric, get_metric
from windvane.evaluation.predictions import Predictions
from windvane.runtime.columns.table import Table
from windvane.runtime.ensemble import Ensemble

RNG = np.random.default_rng(0)
BINARY = Task("binary", 100, 2, 2)


def make(target: Any, prediction: Any, weight: Any = None, **fields: Any) -> Predictions:
    table = Table(np.arange(len(target), dtype=float)[:, None], 1)
    return Predictions(table, np.arange(len(target)), target, prediction, weight, **fields)


def test_loss_is_that_of_labels_or_of_probabilities() -> None:
    y, weight, second = RNG.integers(0, 2, 40), RNG.random(40), RNG.random(40)
    predictions = make(
        y, np.column_stack([1 - second, second]), weight, ensemble=Ensemble((), 0.0, decision_weights=(0.25, 1.0))
    )
    loss = predictions.loss(get_metric("balanced_accuracy", BINARY))
    assert loss == pytest.approx(1 - balanced_accuracy_score(y, second > 0.2, sample_weight=weight))
    np.testing.assert_array_equal(predictions.labels, second > 0.2)
    # Decision weights are for labels alone.
    predictions = replace(predictions, weight=None)
    assert predictions.loss(get_metric("log_loss", BINARY)) == pytest.approx(log_loss(y, second))


def test_baseline_is_that_of_a_dummy() -> None:
    known = RNG.choice(3, 300, p=[0.6, 0.3, 0.1])
    target = RNG.choice(3, 200)
    metric = get_metric("log_loss", Task("multiclass", 300, 1, 3), None)
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((300, 1)), known).predict_proba(np.zeros((200, 1)))
    constant = constant_prediction(known, 3, metric)
    assert make(target, np.empty((200, 3))).constant_score(metric, constant) == pytest.approx(log_loss(target, dummy))
    numbers, wanted = RNG.exponential(size=300), RNG.exponential(size=50)
    task = Task("regression", 300, 1)
    for name, strategy in (("rmse", "mean"), ("mae", "median")):
        middle = DummyRegressor(strategy=strategy).fit(np.zeros((300, 1)), numbers).predict(np.zeros((50, 1)))
        metric = get_metric(name, task, None)
        found = make(wanted, np.empty(50)).constant_score(metric, constant_prediction(numbers, 0, metric))
        assert found == pytest.approx(metric.loss(wanted, middle))


def test_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    errors = RNG.normal(size=2000)
    metric = get_metric("mae", Task("regression", 2000, 1), None)
    predictions = make(np.zeros(2000), errors)
    low, high = predictions.interval(metric, seed=0) or (np.nan, np.nan)
    half = 1.96 * np.abs(errors).std() / np.sqrt(2000)
    assert (high - low) / 2 == pytest.approx(half, rel=0.2)
    assert low < predictions.score(metric) < high


def test_metrics_that_fail_on_resampled_rows_have_no_interval() -> None:
    wanted = RNG.normal(size=50)

    def own(y: Any, p: Any) -> float:
        if len(np.unique(y)) < 50:
            raise ValueError("a row stands twice")
        return float(np.mean(np.abs(y - p)))

    predictions = make(wanted, np.zeros(50))
    assert predictions.interval(Metric("own", own, needs="values", greater_is_better=False), seed=0) is None
    same = Metric("own", lambda y, p: float(np.mean(np.abs(y - p))), needs="values", greater_is_better=False)
    mae = get_metric("mae", Task("regression", 50, 1), None)
    assert predictions.interval(same, seed=0) == predictions.interval(mae, seed=0)


def test_resamples_of_one_class_do_not_count() -> None:
    target = np.array([0] * 9 + [1])
    second = np.linspace(0, 1, 10)
    interval = make(target, np.column_stack([1 - second, second])).interval(get_metric("roc_auc", BINARY), seed=0)
    assert interval == (1.0, 1.0)


def test_a_sample_keeps_rows_together() -> None:
    whole = make(np.arange(100), RNG.random(100), RNG.random(100), fold=np.arange(100) % 3)
    some = whole.sample(30, seed=1)
    assert len(some) == 30 == len(np.unique(some.rows))
    np.testing.assert_array_equal(some.target, some.rows)
    np.testing.assert_array_equal(some.prediction, whole.prediction[some.rows])
    np.testing.assert_array_equal(some.weight, whole.weight[some.rows])  # type: ignore[index]
    np.testing.assert_array_equal(some.fold, some.rows % 3)
    assert whole.sample(10**6, seed=1) is whole
