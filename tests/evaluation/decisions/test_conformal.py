from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import mean_pinball_loss

from windvane.evaluation.decisions.conformal import (
    GROUP_ROWS,
    MAX_CLASSES,
    cross_fitted,
    fit_class_sets,
    fit_intervals,
    fit_widths,
    interval_score,
)
from windvane.runtime.columns.table import Floats, Integers


def uneven(n: int, seed: int) -> tuple[Floats, Floats]:
    """Predictions, and targets whose errors grow with them and are skewed."""
    rng = np.random.default_rng(seed)
    prediction = rng.gamma(2, 2, n)
    return prediction, prediction + prediction * (rng.exponential(size=n) - 1)


def classes(n: int, seed: int, k: int = 3) -> tuple[Floats, Integers]:
    """Probabilities that are not calibrated, and classes of different frequencies."""
    rng = np.random.default_rng(seed)
    target = np.minimum(rng.geometric(0.6, n) - 1, k - 1)
    frequency = np.bincount(target, minlength=k) / n + 1e-9
    return softmax(1.5 * np.eye(k)[target] + rng.normal(0, 1.5, (n, k)) + np.log(frequency), axis=1), target


@pytest.mark.parametrize("n", [19, 60, 400])
@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_intervals_cover_in_the_mean_over_repetitions(n: int, coverage: float) -> None:
    """With exchangeable rows the mean coverage of constant widths is rank / (n + 1), that of others nearly."""
    found = []
    for seed in range(200):
        prediction, target = uneven(n + 500, seed)
        rule = fit_intervals(prediction[:n], target[:n], None, np.arange(n))
        lower, upper = rule.apply(prediction[n:], rule.scores.limit(coverage)).T
        found.append(np.mean((lower <= target[n:]) & (target[n:] <= upper)))
    rank = np.ceil((n + 1) * coverage - 1e-9) / (n + 1)
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - rank) < 4 * error + (0.005 if n >= 2 * GROUP_ROWS else 0)


@pytest.mark.parametrize("by_class", [False, True])
def test_sets_cover_in_the_mean_over_repetitions(by_class: bool) -> None:
    n, coverage, found = 300, 0.8, []
    labels = np.array(["a", "b", "c"])
    for seed in range(200):
        probabilities, target = classes(n + 1_000, seed)
        rule = fit_class_sets(probabilities[:n], target[:n], None, np.arange(n), 1.3)
        sets = rule.apply(probabilities[n:], rule.limits(coverage, labels, by_class), allow_empty=True)
        hit = sets[np.arange(1_000), target[n:]]
        found.append([hit.mean(), *(hit[target[n:] == code].mean() for code in range(3))])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    if by_class:  # each class by itself
        assert np.all(mean[1:] > coverage - 4 * error[1:]) and np.all(mean[1:] < coverage + 0.03)
    else:  # the classes together; the frequent one more often than the rare one
        assert abs(mean[0] - coverage) < 4 * error[0] + 1 / (n + 1)
        assert mean[1] > coverage + 0.02 and mean[3] < coverage - 0.02


def test_sets_have_the_fewest_classes_of_their_coverage() -> None:
    """Against sets of the classes up to a summed probability (adaptive prediction sets) of the same coverage."""
    probabilities, target = classes(20_000, 0)
    rule = fit_class_sets(probabilities, target, None, np.arange(20_000), 1.0)
    sets = rule.apply(probabilities, rule.limits(0.9, np.arange(3), False), allow_empty=True)
    order = np.argsort(-probabilities, axis=1)
    summed = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    rank = np.argmax(order == target[:, None], axis=1)
    needed = np.sort(summed[np.arange(20_000), rank])[int(0.9 * 20_000)]
    assert sets[np.arange(20_000), target].mean() == pytest.approx(0.9, abs=1e-3)
    assert sets.sum(axis=1).mean() < (summed <= needed).sum(axis=1).mean()


def test_uneven_errors_have_uneven_widths() -> None:
    prediction, target = uneven(2_000, 0)
    rule = fit_intervals(prediction, target, None, np.arange(2_000))
    small, large = rule.apply(np.array([1.0, 8.0]), rule.scores.limit(0.9))
    assert large[1] - large[0] > 3 * (small[1] - small[0])
    assert large[1] - 8 > 1.05 * (8 - large[0])  # the longer tail is above
    new, truth = uneven(20_000, 1)
    constant = np.sort(np.abs(target - prediction))[int(0.9 * 2_000)]

    def worst(lower: Floats, upper: Floats) -> float:
        """The largest difference from 0.9 among rows with similar predictions."""
        inside = (lower <= truth) & (truth <= upper)
        groups = (new < 2, (new > 3) & (new < 5), new > 8)
        return max(abs(float(inside[group].mean()) - 0.9) for group in groups)

    assert worst(*rule.apply(new, rule.scores.limit(0.9)).T) < 0.1 < 0.2 < worst(new - constant, new + constant)


def test_even_errors_have_constant_widths_or_nearly() -> None:
    rng = np.random.default_rng(0)
    prediction = rng.normal(size=2_000)
    rule = fit_intervals(prediction, prediction + rng.normal(size=2_000), None, np.arange(2_000))
    ends = rule.apply(np.linspace(-2, 2, 9), rule.scores.limit(0.9))
    np.testing.assert_allclose(ends[:, 1] - ends[:, 0], 2 * 1.645, rtol=0.15)


def test_few_rows_have_constant_widths() -> None:
    prediction, target = uneven(2 * GROUP_ROWS - 1, 0)
    rule = fit_intervals(prediction, target, None, np.arange(len(target)))
    assert (rule.knots.tolist(), rule.below.tolist(), rule.above.tolist()) == ([0.0], [1.0], [1.0])
    np.testing.assert_array_equal(rule.scores.values, np.sort(np.abs(target - prediction)))
    again = fit_intervals(np.tile(prediction, 3), np.tile(target, 3), None, np.tile(np.arange(len(target)), 3))
    assert len(again.knots) == 1 and again.scores.n_rows == len(target)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_perfect_or_equal_predictions(value: float) -> None:
    prediction = np.full(500, value)
    exact = fit_intervals(prediction, prediction, None, np.arange(500))
    np.testing.assert_array_equal(
        exact.apply(np.array([value, 9.0]), exact.scores.limit(0.9)), [[value] * 2, [9.0] * 2]
    )
    error = np.random.default_rng(0).normal(size=500)
    rule = fit_intervals(prediction, prediction + error, None, np.arange(500))
    lower, upper = rule.apply(prediction, rule.scores.limit(0.9)).T
    assert 0.88 < np.mean((lower - value <= error) & (error <= upper - value)) < 0.94


def test_widths_are_of_rows_that_they_were_not_learned_from() -> None:
    prediction, target = uneven(400, 0)
    scores, (below, above) = cross_fitted(prediction, target - prediction, None)
    changed = target.copy()
    changed[7] += 1e6  # its own widths stay
    _, (below_again, above_again) = cross_fitted(prediction, changed - prediction, None)
    assert (below_again[7], above_again[7]) == (below[7], above[7])
    assert scores[7] == max((prediction[7] - target[7]) / below[7], (target[7] - prediction[7]) / above[7])


def test_whole_weights_are_repeated_rows() -> None:
    prediction, target = uneven(300, 0)
    times = np.random.default_rng(1).integers(1, 4, 300)
    knots, *sides = fit_widths(prediction, target - prediction, times.astype(float))
    groups = np.array_split(np.argsort(prediction, kind="stable"), 5)
    for side, sign in zip(sides, (-1, 1), strict=True):
        raw = []
        for group in groups:
            errors = np.repeat(sign * (target - prediction)[group], times[group])
            raw.append(float(np.quantile(errors, 0.9, method="inverted_cdf")))
        around = [raw[0], *raw, raw[-1]]
        wanted = [(around[i] + 2 * around[i + 1] + around[i + 2]) / 4 for i in range(5)]
        least = 0.1 * np.mean(np.repeat(np.abs(target - prediction), times))
        np.testing.assert_allclose(side, np.maximum(wanted, least))
    np.testing.assert_allclose(knots, [np.median(prediction[group]) for group in groups])


def test_the_interval_score_is_two_pinball_losses() -> None:
    rng = np.random.default_rng(0)
    target, lower = rng.normal(size=50), rng.normal(-1, 0.5, 50)
    upper = lower + rng.exponential(size=50)
    outside = np.maximum(np.maximum(lower - target, target - upper), 0)
    wanted = mean_pinball_loss(target, lower, alpha=0.1) + mean_pinball_loss(target, upper, alpha=0.9)
    assert interval_score(upper - lower, outside, 0.8).mean() == pytest.approx(wanted * 2 / 0.2)


def test_many_classes_have_no_scores_of_their_own() -> None:
    k = MAX_CLASSES + 1
    probabilities, target = classes(500, 0, k)
    assert fit_class_sets(probabilities, target, None, np.arange(500), 1.0).by_class == ()
    assert len(fit_class_sets(probabilities[:, 1:], np.zeros(500, int), None, np.arange(500), 1.0).by_class) == k - 1
