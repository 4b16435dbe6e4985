"""Temperature and decision weights gain where there is something to gain, and seldom where there is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve as sklearn_calibration_curve

from windvane.evaluation.bootstrap import bootstrap_standard_error
from windvane.evaluation.calibration import (
    calibration_curve,
    fit_decision_weights,
    fit_temperature,
)
from windvane.runtime.columns.table import Floats
from windvane.runtime.ensemble import apply_temperature


@given(st.floats(0.2, 5), st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_temperature_divides_logits(temperature: float, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(0, 2, (20, 4))
    found = apply_temperature(softmax(logits, axis=1), temperature)
    np.testing.assert_allclose(found, softmax(logits / temperature, axis=1), rtol=1e-9)


def test_certain_probabilities_stay_finite() -> None:
    certain = np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    assert apply_temperature(certain, 1.0) is certain
    for temperature in (0.3, 4.0):
        found = apply_temperature(certain, temperature)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        np.testing.assert_array_equal(found.argmax(axis=1), certain.argmax(axis=1))
    assert apply_temperature(np.empty((0, 2)), 2.0).shape == (0, 2)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_temperature_is_the_best_of_a_grid(scale: float) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (2000, 3))
    y = (softmax(logits, axis=1).cumsum(axis=1) < rng.random((2000, 1))).sum(axis=1)
    p = softmax(scale * logits, axis=1)  # under-confident, calibrated, over-confident
    temperature = fit_temperature(p, lambda q: float(sk.log_loss(y, q)))
    grid = [sk.log_loss(y, apply_temperature(p, t)) for t in np.exp(np.linspace(-1.5, 1.5, 151))]
    assert sk.log_loss(y, apply_temperature(p, temperature)) <= min(grid) + 1e-4
    assert temperature == pytest.approx(scale, rel=0.1)


def test_few_rows_that_are_all_right_sharpen_little() -> None:
    y = np.arange(200) % 3
    p = np.full((200, 3), 0.005)
    p[np.arange(200), y] = 0.99
    assert 0.7 < fit_temperature(p, lambda q: float(sk.log_loss(y, q))) < 0.95
    y, p = np.tile(y, 500), np.tile(p, (500, 1))  # as much evidence as speaks for it
    assert fit_temperature(p, lambda q: float(sk.log_loss(y, q))) < 0.45


def test_temperature_is_one_where_it_gains_nothing() -> None:
    p = np.full((10, 2), 0.5)
    assert fit_temperature(p, lambda q: 0.3) == 1.0


def imbalanced(n: int = 2000) -> tuple[Any, Floats]:
    """A rare second class whose probabilities are right, but seldom above a half."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=n)
    p = 1 / (1 + np.exp(2.5 - 1.5 * x))
    return (rng.random(n) < p).astype(int), np.column_stack([1 - p, p])


@pytest.mark.parametrize("score", [sk.balanced_accuracy_score, sk.f1_score], ids=lambda score: score.__name__)
def test_decision_weights_are_the_best_threshold(score: Callable[..., float]) -> None:
    y, p = imbalanced()

    def loss(q: Floats) -> float:
        return 1 - score(y, q.argmax(axis=1))

    decision = fit_decision_weights(p, loss, lambda q: 0.01)
    assert decision is not None
    found = loss(p * decision)
    # Class 1 where p1 > f * p0, that is p1 > f / (1 + f).
    factors = np.exp(np.linspace(-2.5, 2.5, 51))
    assert found == pytest.approx(min(1 - score(y, p[:, 1] > f / (1 + f)) for f in factors), abs=2e-6)
    every = min(1 - score(y, p[:, 1] >= threshold) for threshold in np.unique(p[:, 1])[::20])
    assert found <= every + 0.01
    assert found < loss(p) - 0.1


def test_decision_weights_of_several_classes_gain_what_makes_up_for_rare_ones() -> None:
    rng = np.random.default_rng(0)
    prior = np.array([0.8, 0.15, 0.05])
    y = rng.choice(3, 3000, p=prior)
    likelihood = softmax(1.5 * np.eye(3)[y] + rng.normal(size=(3000, 3)), axis=1)
    p = likelihood * prior / (likelihood * prior).sum(axis=1, keepdims=True)

    def loss(q: Floats) -> float:
        return 1 - float(sk.balanced_accuracy_score(y, q.argmax(axis=1)))

    decision = fit_decision_weights(p, loss, lambda q: 0.01)
    assert decision is not None
    assert loss(p * decision) <= loss(p / prior) + 0.01


def test_noise_is_seldom_a_reason_for_decision_weights() -> None:
    """Where equal classes leave nothing to gain, factors that please the validation set only harm."""
    changes = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        k = 2 + 2 * (seed % 2)
        y = rng.integers(0, k, 1200)
        p = softmax(1.2 * np.eye(k)[y] + rng.normal(size=(1200, k)), axis=1)

        def wrong(q: Floats, y: Any = y[:200]) -> float:
            return float(np.mean(q.argmax(axis=1) != y))

        def spread(q: Floats, y: Any = y[:200]) -> float:
            return bootstrap_standard_error(lambda rows: wrong(q[rows], y[rows]), y)

        decision = fit_decision_weights(p[:200], wrong, spread)
        right = [np.mean((p * factors).argmax(axis=1)[200:] == y[200:]) for factors in (decision or 1.0, 1.0)]
        changes.append(right[0] - right[1])
    assert np.count_nonzero(changes) <= 3
    assert np.mean(changes) > -0.004


def test_an_own_cost_of_wrong_labels_finds_no_gain_in_noise() -> None:
    """A loss above 1 once made the guard vanish."""
    accepted = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        y = rng.integers(0, 2, 200)
        p = softmax(1.2 * np.eye(2)[y] + rng.normal(size=(200, 2)), axis=1)

        def cost(q: Floats, y: Any = y) -> float:
            return 20 * float(np.mean(q.argmax(axis=1) != y))

        def spread(q: Floats, y: Any = y) -> float:
            return bootstrap_standard_error(lambda rows: 20 * float(np.mean(q[rows].argmax(axis=1) != y[rows])), y)

        accepted += fit_decision_weights(p, cost, spread) is not None
    assert accepted <= 3


def test_many_rows_of_many_classes_are_not_searched() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(200), 5000)

    def never(q: Floats) -> float:
        raise AssertionError("a blend was evaluated")

    assert fit_decision_weights(p, never, never) is None


def test_the_calibration_curve_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    true = rng.random(5000) < 0.3
    score = np.clip(0.3 * true + 0.7 * rng.random(5000), 0, 1)
    predicted, frequency = calibration_curve(true, score)
    np.testing.assert_allclose(
        (frequency, predicted), sklearn_calibration_curve(true, score, n_bins=10, strategy="quantile")
    )
