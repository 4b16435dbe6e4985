"""The numbers behind the figures are scikit-learn's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import auc, confusion_matrix, log_loss, precision_recall_curve, roc_auc_score, roc_curve

from windvane.data.metrics import get_metric
from windvane.data.task import Task
from windvane.report import judgement
from windvane.report.evidence import Judged, Run, collect
from windvane.runtime.table import Table

RNG = np.random.default_rng(0)
TRUE = RNG.random(5000) < 0.3
SCORE = np.clip(0.3 * TRUE + 0.7 * RNG.random(5000), 0, 1)


def judged(target: Any, raw: Any) -> Judged:
    return Judged(Table(np.empty((len(target), 0)), 0), np.arange(len(target)), target, raw)


def test_thinned_curves_are_those_of_scikit_learn() -> None:
    x, y = judgement.roc_points(TRUE, SCORE)
    whole_x, whole_y, _ = roc_curve(TRUE, SCORE)
    assert len(x) <= judgement.MOST_POINTS + 2 < len(whole_x)
    assert auc(x, y) == pytest.approx(roc_auc_score(TRUE, SCORE), abs=3e-3)
    assert {*zip(x, y, strict=True)} <= {*zip(whole_x, whole_y, strict=True)}
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    recall, precision = judgement.precision_points(TRUE, SCORE)
    whole = precision_recall_curve(TRUE, SCORE)
    assert {*zip(precision, recall, strict=True)} <= {*zip(whole[0], whole[1], strict=True)}
    assert abs(auc(recall, precision)) == pytest.approx(auc(whole[1], whole[0]), abs=2e-3)


def test_few_points_are_all_kept() -> None:
    x, y = judgement.roc_points(np.array([True, False, True]), np.array([0.9, 0.5, 0.2]))
    np.testing.assert_array_equal((x, y), roc_curve([1, 0, 1], [0.9, 0.5, 0.2])[:2])


def test_calibration_is_that_of_scikit_learn() -> None:
    said, share = judgement.calibration(TRUE, SCORE)
    np.testing.assert_allclose((share, said), calibration_curve(TRUE, SCORE, n_bins=10, strategy="quantile"))


@pytest.mark.parametrize("k", [2, 5, 30])
def test_confusion(k: int) -> None:
    target = np.minimum(RNG.integers(k, size=4000), RNG.integers(k, size=4000))
    predicted = np.where(RNG.random(4000) < 0.6, target, RNG.integers(k, size=4000))
    labels = [str(i) for i in range(k)]
    found = judgement.confusion(target, predicted, labels)
    whole = confusion_matrix(target, predicted)
    if k <= judgement.MOST_CLASSES:
        np.testing.assert_array_equal(found.counts, whole)
        assert found.names == labels
        return
    rows = whole.sum(axis=1)
    few = judgement.MOST_CLASSES
    kept = [int(name) for name in found.names[:few]]
    assert found.names == [*sorted(found.names[:few], key=int), judgement.OTHERS]
    assert min(rows[kept]) >= max(np.delete(rows, kept))
    np.testing.assert_array_equal(found.counts[:few, :few], whole[np.ix_(kept, kept)])
    others = np.delete(np.arange(k), kept)
    np.testing.assert_array_equal(found.counts[:few, few], whole[np.ix_(kept, others)].sum(axis=1))
    assert found.counts[few, few] == whole[np.ix_(others, others)].sum()


def test_confused_pairs() -> None:
    target, predicted = RNG.integers(5, size=300), RNG.integers(5, size=300)
    whole = confusion_matrix(target, predicted)
    pairs = judgement.confused(target, predicted, 5)
    assert [count for *_, count, _ in pairs] == sorted(whole[~np.eye(5, dtype=bool)], reverse=True)
    assert all(whole[i, j] == count and share == count / whole[i].sum() for i, j, count, share in pairs)
    assert judgement.confused(target, target, 5) == []


def test_score_is_that_of_the_metric(binary: Any, regression: Any) -> None:
    model, X, y, _ = binary
    found = collect(Run.of(model), X, y).test
    assert found is not None
    expected = roc_auc_score(y == model.classes_[1], model.predict_proba(X)[:, 1])
    assert judgement.score_of(model.predictor_, found) == pytest.approx(expected)
    model, X, y = regression
    found = collect(Run.of(model), X, y).test
    assert found is not None
    assert judgement.score_of(model.predictor_, found) == pytest.approx(-model.score(X, y))


def test_baseline_is_that_of_a_dummy() -> None:
    known = RNG.choice(3, 300, p=[0.6, 0.3, 0.1])
    target = RNG.choice(3, 200)
    task = Task("multiclass", 300, 1, 3)
    metric = get_metric("log_loss", task, None)
    dummy = DummyClassifier(strategy="prior").fit(np.zeros((300, 1)), known).predict_proba(np.zeros((200, 1)))
    guess = judgement.baseline(task, metric, known, judged(target, np.empty((200, 3))))
    assert guess == pytest.approx(log_loss(target, dummy))
    numbers, wanted = RNG.exponential(size=300), RNG.exponential(size=50)
    task = Task("regression", 300, 1)
    for name, strategy in (("rmse", "mean"), ("mae", "median")):
        middle = DummyRegressor(strategy=strategy).fit(np.zeros((300, 1)), numbers).predict(np.zeros((50, 1)))
        metric = get_metric(name, task, None)
        found = judgement.baseline(task, metric, numbers, judged(wanted, np.empty(50)))
        assert found == pytest.approx(metric.loss(wanted, middle))


def test_interval_holds_the_score(binary: Any) -> None:
    model, X, y, _ = binary
    predictor = model.predictor_
    found = collect(Run.of(model), X, y).test
    assert found is not None
    low, high = judgement.interval(predictor, found, seed=0) or (np.nan, np.nan)
    assert low < judgement.score_of(predictor, found) < high


def test_interval_of_a_mean_is_that_of_its_standard_error(regression: Any) -> None:
    model, *_ = regression
    errors = RNG.normal(size=2000)
    metric = get_metric("mae", model.predictor_.task, None)
    predictor = replace(model.predictor_, metric=metric)
    low, high = judgement.interval(predictor, judged(np.zeros(2000), errors), seed=0) or (np.nan, np.nan)
    half = 1.96 * np.abs(errors).std() / np.sqrt(2000)
    assert (high - low) / 2 == pytest.approx(half, rel=0.2)
