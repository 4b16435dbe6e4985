"""Metrics of several targets and of quantiles, against scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as theirs

from windvane import Metric
from windvane.data.task import Task
from windvane.errors import InputError
from windvane.evaluation.metrics import best_constant, get_metric, quantile_level

LABELS = Task("binary", 100, 3, n_targets=4)
NUMBERS = Task("regression", 100, 3, n_targets=3)
RNG = np.random.default_rng(0)
TRUE = (RNG.random((100, 4)) < [0.2, 0.4, 0.5, 0.8]).astype(np.int64)
FOUND = np.clip(0.6 * TRUE + 0.5 * RNG.random((100, 4)), 0, 1)
WEIGHT = RNG.random(100)


def of_labels(score: Callable[..., float]) -> Callable[..., float]:
    return lambda true, found, **more: score(true, found > 0.5, **more)


@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("roc_auc", theirs.roc_auc_score),
        ("average_precision", theirs.average_precision_score),
        ("f1", of_labels(lambda *a, **k: theirs.f1_score(*a, average="macro", **k))),
        ("f1_macro", of_labels(lambda *a, **k: theirs.f1_score(*a, average="macro", **k))),
        ("f1_micro", of_labels(lambda *a, **k: theirs.f1_score(*a, average="micro", **k))),
        ("f1_samples", of_labels(lambda *a, **k: theirs.f1_score(*a, average="samples", zero_division=0, **k))),
        ("subset_accuracy", of_labels(theirs.accuracy_score)),
        ("hamming_loss", of_labels(theirs.hamming_loss)),
        ("log_loss", lambda t, p, **k: np.mean([theirs.log_loss(t[:, j], p[:, j], **k) for j in range(4)])),
    ],
)
def test_metrics_of_labels(name: str, score: Callable[..., float]) -> None:
    metric = get_metric(name, LABELS)
    assert metric.score(metric.loss(TRUE, FOUND)) == pytest.approx(score(TRUE, FOUND))
    assert metric.score(metric.loss(TRUE, FOUND, WEIGHT)) == pytest.approx(score(TRUE, FOUND, sample_weight=WEIGHT))


def test_errors_of_numbers_are_relative_to_the_best_constant() -> None:
    true = RNG.normal(size=(100, 3)) * [1, 100, 1e4] + 5
    found = true + RNG.normal(size=(100, 3)) * [0.1, 20, 3e3]
    metric = get_metric("auto", NUMBERS)
    assert metric.name == "relative_rmse"
    expected = [np.sqrt(1 - theirs.r2_score(true[:, j], found[:, j])) for j in range(3)]
    assert metric.loss(true, found) == pytest.approx(np.mean(expected))
    assert metric.loss(true, true) == 0
    assert metric.loss(true, np.broadcast_to(true.mean(axis=0), true.shape)) == pytest.approx(1)
    r2 = get_metric("r2", NUMBERS)
    assert r2.score(r2.loss(true, found)) == pytest.approx(theirs.r2_score(true, found))
    mae = get_metric("relative_mae", NUMBERS)
    assert mae.loss(true, np.broadcast_to(best_constant(true, mae), true.shape)) == pytest.approx(1)
    constant = np.column_stack([true[:, 0], np.ones(100)])
    assert get_metric("rmse", Task("regression", 100, 3, n_targets=2)).loss(constant, constant) == 0


def test_an_own_metric_is_computed_of_each_target() -> None:
    own = get_metric(Metric("hits", lambda true, found: float((true == found).mean())), LABELS)
    assert own.score(own.loss(TRUE, FOUND)) == pytest.approx(((FOUND > 0.5) == TRUE).mean())


@pytest.mark.parametrize("level", [0.1, 0.5, 0.95])
def test_pinball(level: float) -> None:
    true, found = RNG.normal(size=100), RNG.normal(size=100)
    metric = get_metric(f"quantile_{level}", Task("regression", 100, 3))
    assert (metric.name, quantile_level(metric)) == (f"pinball_{level}", level)
    assert metric.loss(true, found) == pytest.approx(theirs.mean_pinball_loss(true, found, alpha=level))
    assert metric.loss(true, found, WEIGHT) == pytest.approx(
        theirs.mean_pinball_loss(true, found, alpha=level, sample_weight=WEIGHT)
    )
    least = best_constant(true, metric)
    for other in (least - 0.1, least + 0.1):
        assert metric.loss(true, np.full(100, other)) > metric.loss(true, np.full(100, least))


@pytest.mark.parametrize("given", ["pinball", "pinball_90", "quantile_0", "quantile_1.0", "pinball_0.0"])
def test_a_level_is_between_0_and_1(given: str) -> None:
    with pytest.raises(InputError, match="above 0 and below 1"):
        get_metric(given, Task("regression", 100, 3))


@pytest.mark.parametrize(("name", "task"), [("rmse", LABELS), ("roc_auc", NUMBERS), ("pinball_0.9", LABELS)])
def test_metrics_of_the_other_task(name: str, task: Any) -> None:
    with pytest.raises(InputError, match="metric="):
        get_metric(name, task)
