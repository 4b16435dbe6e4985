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
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression

from windvane.data.task import Task
from windvane.errors import InputError
from windvane.evaluation.bootstrap import bootstrap_standard_error
from windvane.evaluation.decisions.calibration import (
    expected_calibration_error,
    fit_calibration,
    fit_decision_weights,
    fit_rank_costs,
    fit_temperature,
    reliability,
)
from windvane.evaluation.metrics import get_metric
from windvane.runtime.columns.table import Floats
from windvane.runtime.ensemble import Ensemble, apply_temperature

MEMBER = {"number": 0, "checkpoint": "c", "family": "linear", "weight": 1.0}
WHOLE: dict[str, Any] = {"members": [MEMBER], "loss": 0.0}


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
            return bootstrap_standard_error(lambda y, q, weight: wrong(q, y), y, q)

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
            return bootstrap_standard_error(lambda y, q, weight: cost(q, y), y, q)

        accepted += fit_decision_weights(p, cost, spread) is not None
    assert accepted <= 3


def test_many_rows_of_many_classes_are_not_searched() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(200), 5000)

    def never(q: Floats) -> float:
        raise AssertionError("a blend was evaluated")

    assert fit_decision_weights(p, never, never) is None


@pytest.mark.parametrize("decimals", [1, 8])
def test_the_reliability_diagram_is_that_of_scikit_learn(decimals: int) -> None:
    rng = np.random.default_rng(0)
    true = rng.random(5000) < 0.3
    score = np.clip(0.3 * true + 0.7 * rng.random(5000), 0, 1).round(decimals)
    found = reliability(true, score)
    np.testing.assert_allclose(
        (found.frequency, found.probability), calibration_curve(true, score, n_bins=10, strategy="quantile")
    )
    assert found.n.sum() == 5000
    assert found.error == pytest.approx(np.average(abs(found.frequency - found.probability), weights=found.n))


def test_weights_count_like_copies_in_a_reliability_diagram() -> None:
    rng = np.random.default_rng(1)
    score = rng.choice([0.1, 0.5, 0.9], 60)
    true, weight = rng.random(60) < score, rng.integers(1, 4, 60)
    copies = np.repeat(np.arange(60), weight)
    weighted, copied = reliability(true, score, weight.astype(float)), reliability(true[copies], score[copies])
    np.testing.assert_allclose(weighted.frequency, copied.frequency)
    assert weighted.error == pytest.approx(copied.error)


def distorted(n: int, seed: int = 0) -> tuple[Floats, Any]:
    """Probabilities that no temperature makes right, and the classes."""
    rng = np.random.default_rng(seed)
    true = rng.random(n)
    second = np.clip(true**3, 1e-6, 1 - 1e-6)
    return np.column_stack([1 - second, second]), (rng.random(n) < true).astype(np.int64)


@pytest.mark.parametrize("method", ["temperature", "isotonic", "venn_abers"])
def test_a_calibration_keeps_the_ranking(method: str) -> None:
    p, y = distorted(600)
    found = fit_calibration(p, y, method=method)
    after = Ensemble((), 0.0, found.temperature, calibration=found.knots).calibrate(p)
    np.testing.assert_allclose(after.sum(axis=1), 1)
    order = np.argsort(p[:, 1])
    assert (np.diff(after[order, 1])[np.diff(p[order, 1]) > 1e-5] > 0).all()
    if found.knots is not None:
        assert Ensemble.from_json(WHOLE | {"calibration": found.knots}).calibration == found.knots


def test_curves_win_where_a_temperature_cannot() -> None:
    p, y = distorted(4000)
    found = fit_calibration(p, y)
    assert found.method in ("isotonic", "venn_abers")
    fresh, true = distorted(4000, seed=1)
    after = Ensemble((), 0.0, found.temperature, calibration=found.knots).calibrate(fresh)
    assert expected_calibration_error(true, after) < 0.03 < 0.1 < expected_calibration_error(true, fresh)
    assert sk.log_loss(true, after) == pytest.approx(found.log_losses[found.method], abs=0.02)


def test_probabilities_that_are_right_stay() -> None:
    rng = np.random.default_rng(0)
    second = rng.random(2000)
    p, y = np.column_stack([1 - second, second]), (rng.random(2000) < second).astype(np.int64)
    found = fit_calibration(p, y)
    assert (found.method, found.temperature, found.knots) == ("none", 1.0, None)
    assert found.error == found.error_before


def test_isotonic_regression_is_that_of_scikit_learn() -> None:
    p, y = distorted(500)
    knots = fit_calibration(p, y, method="isotonic").knots
    assert knots is not None
    reference = IsotonicRegression(out_of_bounds="clip", y_min=1 / 502, y_max=1 - 1 / 502).fit(p[:, 1], y)
    np.testing.assert_allclose(np.interp(p[:, 1], *knots), reference.predict(p[:, 1]), atol=1e-5)


def test_venn_abers_is_what_two_fits_with_one_more_row_give() -> None:
    p, y = distorted(50)
    knots = fit_calibration(p, y, method="venn_abers").knots
    assert knots is not None
    for second in p[:, 1]:
        ends = [IsotonicRegression().fit([*p[:, 1], second], [*y, label]).predict([second])[0] for label in (0.0, 1.0)]
        wanted = ends[1] / (1 - ends[0] + ends[1])
        assert np.interp(second, *knots) == pytest.approx(np.clip(wanted, 1 / 52, 51 / 52), abs=1e-4)


def test_what_cannot_be_calibrated() -> None:
    p, y = distorted(100)
    with pytest.raises(InputError, match=r"method='platt' is not known. .*Allowed: auto, none, temperature, isotonic"):
        fit_calibration(p, y, method="platt")
    with pytest.raises(InputError, match="at least two classes with 5 rows each"):
        fit_calibration(p, np.zeros(100, dtype=np.int64))
    three = np.full((30, 3), 1 / 3)
    with pytest.raises(InputError, match="Allowed: auto, none, temperature"):
        fit_calibration(three, np.arange(30) % 3, method="isotonic")
    assert fit_calibration(three, np.arange(30) % 3).method == "none"


@pytest.mark.parametrize("name", ["ordinal_mae", "quadratic_kappa"])
def test_rank_costs_choose_the_median_or_the_class_nearest_to_the_mean(name: str) -> None:
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.full(5, 0.7), 2_000)
    y = (p.cumsum(axis=1) < rng.random((len(p), 1))).sum(axis=1).clip(max=4)

    def loss(values: Floats) -> float:
        return float(np.mean(np.abs(values.argmax(axis=1) - y) ** (1 if name == "ordinal_mae" else 2)))

    costs = fit_rank_costs(p, get_metric(name, Task("multiclass", len(y), 1, 5)), loss)
    assert costs is not None
    chosen = -(p @ np.array(costs))
    expected = (p.cumsum(axis=1) < 0.5).sum(axis=1) if name == "ordinal_mae" else np.rint(p @ np.arange(5))
    assert chosen.argmax(axis=1).tolist() == expected.tolist()
    assert loss(chosen) < loss(p)


def test_rank_costs_only_where_they_are_better() -> None:
    p = np.array([[0.4, 0.0, 0.6], [0.6, 0.0, 0.4]] * 5)
    y = np.array([2, 0] * 5)  # the most probable class is always right, and the one between has the least cost
    for name in ("ordinal_mae", "quadratic_kappa", "accuracy"):
        metric = get_metric(name, Task("multiclass", len(y), 1, 3))
        assert fit_rank_costs(p, metric, lambda values, metric=metric: metric.loss(y, values)) is None
