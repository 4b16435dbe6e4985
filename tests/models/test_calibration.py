from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit

from windvane.models.calibration import Sigmoids, held_out


def make_scores(k: int, n: int = 400) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float64]], np.ndarray]:
    rng = np.random.default_rng(k)
    scores = rng.normal(size=(n, k)) * 50 + 300
    noisy = scores + rng.normal(size=(n, k)) * 60
    return scores, noisy.argmax(axis=1) if k > 1 else (noisy[:, 0] > 310).astype(int)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_minimum_of_platts_cross_entropy(k: int, weighted: bool) -> None:
    scores, target = make_scores(k)
    weight = np.random.default_rng(9).uniform(0.5, 2, len(scores)) if weighted else np.ones(len(scores))
    weight /= weight.mean()
    found = Sigmoids.fit(scores, target, weight if weighted else None)
    for j in range(k):
        positive = target == (j if k > 1 else 1)
        many, few = weight[positive].sum(), weight[~positive].sum()
        goal = np.where(positive, (many + 1) / (many + 2), 1 / (few + 2))

        def loss(ab: np.ndarray, j: int = j, goal: np.ndarray = goal) -> float:
            odds = ab[0] * (scores[:, j] - 300) / 50 + ab[1]
            return float((weight * (np.logaddexp(0, odds) - goal * odds)).sum())

        best = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}).x
        np.testing.assert_allclose(found.slope[j] * 50, best[0], rtol=1e-4)
        np.testing.assert_allclose(found.shift[j] + found.slope[j] * 300, best[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("k", [1, 3])
def test_probabilities_rise_with_the_score_and_sum_to_one(k: int) -> None:
    scores, target = make_scores(k)
    found = Sigmoids.fit(scores, target)(scores)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found.shape == (len(scores), max(2, k))
    best = -np.mean(np.log(found[np.arange(len(target)), target]))
    prior = np.bincount(target) / len(target)
    assert best < 0.85 * -np.sum(prior * np.log(prior))


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_separable_scores_stay_finite_and_wrong_ones_never_turn_round(scale: float) -> None:
    target = np.arange(100) % 2
    for sign in (1, -1):
        found = Sigmoids.fit(sign * scale * (target[:, None] * 2.0 - 1), target)
        assert np.isfinite(found.slope).all() and np.isfinite(found.shift).all()
        assert (found.slope > 0).all() if sign == 1 else (found.slope == 0).all()
        np.testing.assert_allclose(found(np.zeros((1, 1))), 0.5, atol=1e-6)
    constant = Sigmoids.fit(np.ones((100, 1)), (np.arange(100) % 4 == 0).astype(int))
    np.testing.assert_allclose(constant(np.ones((1, 1)))[0, 1], 0.25, atol=0.02)


def test_scores_that_rule_out_every_class_say_nothing() -> None:
    np.testing.assert_allclose(Sigmoids.plain(3)(np.full((2, 3), -1e5)), 1 / 3)
    np.testing.assert_allclose(Sigmoids.plain(1)(np.array([[0.3]]))[0, 1], expit(0.3))


def test_of_every_class_a_share_is_held_out() -> None:
    target = np.random.default_rng(0).permutation(np.repeat([0, 2, 5], [100, 23, 4]))
    chosen = held_out(target, 5, np.random.default_rng(1))
    assert np.bincount(target[chosen], minlength=6).tolist() == [20, 0, 4, 0, 0, 0]
    assert (chosen != held_out(target, 5, np.random.default_rng(2))).any()
