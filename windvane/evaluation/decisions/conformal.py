"""Learns prediction intervals and prediction sets from out-of-fold predictions.

Split-conformal scores (Papadopoulos et al. 2002, Lei et al. 2018) of all folds together, which is the cross-conformal
prediction of Vovk (2015); CV+ (Barber, Candès, Ramdas & Tibshirani 2021) would ask all fold models again for each row.
Intervals may have widths by prediction, on each side, in the way of the quantile scores of Romano, Patterson & Candès
(2019); sets are those with the fewest classes (Sadinle, Lei & Wasserman 2019).

Notation: v validation rows, k classes, m scores, g groups of rows with similar predictions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from windvane.runtime.columns.table import Floats, Integers
from windvane.runtime.conformal import ClassSets, Intervals, Scores
from windvane.runtime.ensemble import apply_temperature

MAX_SCORES = 1_000  # stored; coverages between two of them are rounded up, by at most 0.1 %
MAX_CLASS_SCORES = 200  # of each class
MAX_CLASSES = 50  # with separate scores

# Widths by prediction: how many rows a group has at least, how many groups there are, what share of the errors of a
# group is within the width of a side, and how small a width may be, as a share of the mean absolute error.
GROUP_ROWS, MAX_GROUPS = 60, 20
SIDE_SHARE = 0.9
MIN_WIDTH = 0.1
MIN_ADAPTIVE_ROWS = 2 * GROUP_ROWS
N_PARTS = 5  # of cross-fitting
COVERAGES = (0.8, 0.9, 0.95)  # at which widths are compared

Shape = tuple[Floats, Floats, Floats]  # knots, widths below, widths above; (g,) each
CONSTANT: Shape = (np.zeros(1), np.ones(1), np.ones(1))


def rank_scores(values: Floats, weight: Floats | None = None, n_rows: int = 0, most: int = MAX_SCORES) -> Scores:
    """Sort scores and say which coverage each reaches, with a new row of mean weight among them; keep at most `most`.

    `n_rows` is the number of different rows where some count more than once.
    """
    n_rows = n_rows or len(values)
    order = np.argsort(values, kind="stable")
    shares = np.full(len(values), 1 / max(1, len(values))) if weight is None else weight[order] / weight.sum()
    coverages = np.minimum(np.cumsum(shares), 1.0) * (n_rows / (n_rows + 1))
    kept = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    return Scores(values[order][kept], coverages[kept], n_rows)


def fit_intervals(prediction: Floats, target: Floats, weight: Floats | None, rows: Integers) -> Intervals:
    """Learn intervals from the predictions of validation rows, whose positions in the table are `rows`; all (v,).

    Widths by prediction are taken where their cross-validated interval score is better than that of constant widths.
    """
    error = target - prediction
    shape, scores = CONSTANT, np.abs(error)
    if len(np.unique(rows)) >= MIN_ADAPTIVE_ROWS:
        other_scores, widths = cross_fitted(prediction, error, weight)
        constant = _mean_interval_score(scores, error, CONSTANT[1:], weight)
        if _mean_interval_score(other_scores, error, widths, weight) < constant:
            shape, scores = fit_widths(prediction, error, weight), other_scores
    return Intervals(rank_scores(scores, weight, len(np.unique(rows))), *shape)


def fit_class_sets(
    blend: Floats, target: Integers, weight: Floats | None, rows: Integers, temperature: float
) -> ClassSets:
    """Learn sets of classes from the blended probabilities (v, k) of validation rows with the class codes `target`."""
    probabilities = apply_temperature(blend, temperature)
    scores = 1 - probabilities[np.arange(len(target)), target]
    n_classes = probabilities.shape[1]
    by_class = []
    for code in range(n_classes if n_classes <= MAX_CLASSES else 0):
        of_class = target == code
        of_weight = None if weight is None else weight[of_class]
        by_class.append(rank_scores(scores[of_class], of_weight, len(np.unique(rows[of_class])), most=MAX_CLASS_SCORES))
    return ClassSets(rank_scores(scores, weight, len(np.unique(rows))), tuple(by_class), temperature)


def fit_widths(prediction: Floats, error: Floats, weight: Floats | None = None) -> Shape:
    """Learn the widths of both sides by prediction: quantiles of the errors in groups of similar predictions."""
    n_groups = int(np.clip(len(prediction) // GROUP_ROWS, 1, MAX_GROUPS))
    groups = np.array_split(np.argsort(prediction, kind="stable"), n_groups)
    least = MIN_WIDTH * float(np.average(np.abs(error), weights=weight)) or 1.0
    knots = np.array([np.median(prediction[group]) for group in groups])
    below, above = (
        np.maximum(_smooth([_quantile(side[group], weight, group) for group in groups]), least)
        for side in (-error, error)
    )
    knots, first = np.unique(knots, return_index=True)  # equal predictions may fill several groups
    return knots, below[first], above[first]


def cross_fitted(prediction: Floats, error: Floats, weight: Floats | None) -> tuple[Floats, tuple[Floats, Floats]]:
    """Return scores, and widths of both sides, of rows that the widths were not learned from; all (v,)."""
    part = np.random.default_rng(0).permutation(len(error)) % N_PARTS
    below, above = np.empty(len(error)), np.empty(len(error))
    for one in range(N_PARTS):
        rest, here = part != one, part == one
        knots, *sides = fit_widths(prediction[rest], error[rest], None if weight is None else weight[rest])
        below[here], above[here] = (np.interp(prediction[here], knots, side) for side in sides)
    return np.maximum(-error / below, error / above), (below, above)


def interval_score(width: Floats, outside: Floats, coverage: float) -> Floats:
    """Return the interval score of rows (Winkler 1972): the width, and a penalty for how far the target is outside."""
    return width + 2 / (1 - coverage) * outside


def _mean_interval_score(scores: Floats, error: Floats, sides: tuple[Floats, Floats], weight: Floats | None) -> float:
    """Mean over rows, summed over some coverages as in the weighted interval score (Bracher et al. 2021)."""
    ranked = rank_scores(scores, weight)
    found = []
    for coverage in COVERAGES:
        limit = ranked.limit(coverage)
        outside = np.maximum(np.maximum(-error - limit * sides[0], error - limit * sides[1]), 0)
        scores_of_rows = interval_score(limit * (sides[0] + sides[1]), outside, coverage)
        found.append(float(np.average(scores_of_rows, weights=weight)))
    return float(np.dot(found, 1 - np.array(COVERAGES)))


def _quantile(values: Floats, weight: Floats | None, group: Integers) -> float:
    if weight is None:
        return float(np.quantile(values, SIDE_SHARE))
    return float(np.quantile(values, SIDE_SHARE, weights=weight[group], method="inverted_cdf"))


def _smooth(values: Sequence[float]) -> Floats:
    """Average each value with half of its neighbours; the ends stand twice."""
    around = np.array([values[0], *values, values[-1]])
    return np.asarray((around[:-2] + 2 * around[1:-1] + around[2:]) / 4)
