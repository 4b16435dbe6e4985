"""Corrections of predicted probabilities, learned on validation predictions: calibration and decision weights.

Notation: n rows, k classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.isotonic import isotonic_regression
from sklearn.model_selection import StratifiedKFold

from windvane.errors import InputError, check_choice
from windvane.evaluation.metric_functions import log_loss
from windvane.evaluation.metrics import ORDINAL, Metric, round_loss
from windvane.runtime.columns.table import Floats, Integers
from windvane.runtime.ensemble import Ensemble, apply_temperature
from windvane.runtime.output import log_probabilities

N_BINS = 10  # of a calibration curve
N_PASSES = 2  # over the classes, in search of decision weights
MIN_FACTORS, MAX_FACTORS = 5, 51  # evaluated for a class
MAX_WORK = 2e8  # probabilities that this search may read: about a second
TEMPERATURE_SPREAD = 0.3  # standard deviation of the logarithm of a temperature, before any row is seen

N_FOLDS = 5  # that compare the methods of calibration
N_KNOTS, MAX_KNOTS = 60, 200  # of a calibration: computed by Venn-Abers, kept of any
MIN_GAP, SLOPE = 1e-6, 1e-6

Loss = Callable[[Floats], float]
Knots = tuple[tuple[float, ...], tuple[float, ...]]


def fit_temperature(probabilities: Floats, loss: Loss) -> float:
    """The most likely temperature, given the mean log loss of n rows and a normal prior of its logarithm.

    Without the prior, validation rows that are all predicted right would sharpen without end, and the first wrong row
    afterwards would cost more than all others together.
    """

    def penalized(log_t: float) -> float:
        penalty = log_t**2 / (2 * TEMPERATURE_SPREAD**2 * len(probabilities))
        return loss(apply_temperature(probabilities, float(np.exp(log_t)))) + penalty

    found = minimize_scalar(penalized, bounds=(-1.5, 1.5), method="bounded", options={"xatol": 0.01})
    return float(np.exp(found.x)) if found.fun < loss(probabilities) else 1.0


def fit_decision_weights(
    probabilities: Floats, loss: Loss, standard_error: Loss, max_calls: float = np.inf
) -> tuple[float, ...] | None:
    """Factors of the classes with which the largest probability decides best, found one class after the other.

    `loss` evaluates the labels of the largest values, `standard_error` is that of this loss. None if the gain is within
    the standard error times the root of k - 1, the noise that a search over so many factors finds where there is
    nothing to find, or if the search would take long: more than `max_calls` of `loss`, or many rows and classes.
    """
    k = probabilities.shape[1]
    n_factors = int(min(max_calls, MAX_WORK / probabilities.size) / (N_PASSES * k))
    if n_factors < MIN_FACTORS:
        return None
    grid = np.exp(np.linspace(-2.5, 2.5, min(n_factors, MAX_FACTORS)))
    plain = best = loss(probabilities)
    factors = np.ones(k)
    for _ in range(N_PASSES):
        for j in range(1 if k == 2 else k):  # of two factors only the ratio counts
            for factor in grid:
                candidate = factors.copy()
                candidate[j] = factor
                value = loss(probabilities * candidate)
                if round_loss(value) < round_loss(best):
                    best, factors = value, candidate
    if not plain - best > standard_error(probabilities) * np.sqrt(k - 1):
        return None
    return tuple(float(f) for f in factors)


def fit_rank_costs(probabilities: Floats, metric: Metric, loss: Loss) -> tuple[tuple[float, ...], ...] | None:
    """Costs of errors as an ordinal metric counts them: the distance of the ranks, or its square.

    The class with the least expected cost is then the median of the predicted distribution, or the class nearest to its
    mean. None for other metrics, and where the most probable class has no larger `loss`.
    """
    if metric.own or metric.name not in ORDINAL:
        return None
    ranks = np.arange(probabilities.shape[1], dtype=np.float64)
    costs = np.abs(ranks[:, None] - ranks) ** ORDINAL[metric.name]  # (k, k)
    if round_loss(loss(-(probabilities @ costs))) >= round_loss(loss(probabilities)):
        return None
    return tuple(map(tuple, costs.tolist()))


def with_label_decision(
    ensemble: Ensemble, probabilities: Floats, metric: Metric, loss: Loss, standard_error: Loss, max_calls: float
) -> Ensemble:
    """Return the ensemble with the costs, or else the decision weights, that a metric of labels gains by."""
    costs = fit_rank_costs(probabilities, metric, loss)
    if costs is not None:
        return replace(ensemble, costs=costs)
    weights = fit_decision_weights(probabilities, loss, standard_error, max_calls)
    return replace(ensemble, decision_weights=weights)


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: at most `N_BINS` groups of rows with similar probabilities, of equal counts."""

    probability: Floats  # mean of each group, (b,)
    frequency: Floats  # of the outcome, (b,)
    n: Integers  # rows, (b,)
    error: float  # expected calibration error: mean distance of the two over the rows


def reliability(outcome: NDArray[np.bool_], probability: Floats, weight: Floats | None = None) -> Reliability:
    """Compare probabilities, (n,), with how often the outcome happens."""
    weight = np.ones(len(outcome)) if weight is None else weight
    edges = np.quantile(probability, np.linspace(0, 1, N_BINS + 1))
    group = np.searchsorted(edges[1:-1], probability)  # (n,)
    counts = np.bincount(group, minlength=N_BINS)
    sizes = np.bincount(group, weights=weight, minlength=N_BINS)
    there = sizes > 0
    mean = np.bincount(group, weights=weight * probability, minlength=N_BINS)[there] / sizes[there]
    frequency = np.bincount(group, weights=weight * outcome, minlength=N_BINS)[there] / sizes[there]
    error = float(np.average(np.abs(mean - frequency), weights=sizes[there]))
    return Reliability(mean, frequency, counts[there], error)


def outcome_and_probability(
    target: Integers, probabilities: Floats, positive: int | None
) -> tuple[NDArray[np.bool_], Floats]:  # (n,) each
    """Return whether a row is of the positive class; None: whether the largest probability is right."""
    if positive is not None:
        return target == positive, np.clip(probabilities[:, positive], 0.0, 1.0)
    return probabilities.argmax(axis=1) == target, np.clip(probabilities.max(axis=1), 0.0, 1.0)


def expected_calibration_error(y_true: Integers, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    """Mean distance of probability and frequency: of the second of two classes, or of the largest probability."""
    outcome, probability = outcome_and_probability(y_true, y_pred, 1 if y_pred.shape[1] == 2 else None)
    return reliability(outcome, probability, sample_weight).error


CALIBRATION_ERROR = Metric(
    "expected_calibration_error", expected_calibration_error, "probabilities", greater_is_better=False, own=False
)


@dataclass(frozen=True, repr=False)
class Calibration:
    """The result of `windvane.AutoClassifier.calibrate`.

    Attributes
    ----------
    method
        "none", "temperature", "isotonic" or "venn_abers".
    log_losses
        Log loss of each method that was compared, cross-validated over the rows.
    error, error_before
        Expected calibration error of the method and without it, cross-validated too.
    n_rows
        Rows that it was learned from.
    temperature
        1 for methods without one.
    knots
        For two classes, probabilities of the second one and what they become; None for methods without them.
    """

    method: str
    log_losses: Mapping[str, float]
    error: float
    error_before: float
    n_rows: int
    temperature: float = 1.0
    knots: Knots | None = None

    def __repr__(self) -> str:
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in self.log_losses.items())
        return (
            f"{self.method.replace('_', '-')} on {self.n_rows:,} rows; cross-validated log loss: {losses}; "
            f"expected calibration error {self.error_before:.4f} -> {self.error:.4f}"
        )


def fit_calibration(
    probabilities: Floats, target: Integers, weight: Floats | None = None, method: str = "auto"
) -> Calibration:
    """Learn a calibration from validation predictions.

    "auto" takes the simplest method whose cross-validated log loss no other beats by more than one standard error of
    the difference; isotonic regression and Venn-Abers are for two classes.
    """
    n, k = probabilities.shape
    known = list(METHODS) if k == 2 else ["none", "temperature"]
    check_choice("method", method, ["auto", *known])
    names = known if method == "auto" else list(dict.fromkeys(["none", method]))
    _, counts = np.unique(target, return_counts=True)
    if len(counts) < 2 or counts.min() < N_FOLDS:
        raise InputError(f"calibrate needs at least two classes with {N_FOLDS} rows each; y has too few.")
    held_out = {name: np.empty((n, k)) for name in names}
    for train, test in StratifiedKFold(N_FOLDS, shuffle=True, random_state=0).split(target, target):
        of_train = None if weight is None else weight[train]
        for name in names:
            temperature, knots = METHODS[name](probabilities[train], target[train], of_train)
            fitted = Ensemble((), 0.0, temperature, calibration=knots)
            held_out[name][test] = fitted.calibrate(probabilities[test])
    losses = {name: -log_probabilities(p[np.arange(n), target]) for name, p in held_out.items()}
    means = {name: float(np.average(values, weights=weight)) for name, values in losses.items()}
    best = method
    if method == "auto":
        best = "none"
        for name in names:
            gain = losses[best] - losses[name]
            if float(np.average(gain, weights=weight)) > float(np.std(gain)) / np.sqrt(n):
                best = name
    temperature, knots = METHODS[best](probabilities, target, weight)
    errors = [expected_calibration_error(target, held_out[name], weight) for name in (best, "none")]
    return Calibration(best, means, errors[0], errors[1], n, temperature, knots)


def _nothing(probabilities: Floats, target: Integers, weight: Floats | None) -> tuple[float, Knots | None]:
    return 1.0, None


def _temperature(probabilities: Floats, target: Integers, weight: Floats | None) -> tuple[float, Knots | None]:
    return fit_temperature(probabilities, lambda p: log_loss(target, p, weight)), None


def _isotonic(probabilities: Floats, target: Integers, weight: Floats | None) -> tuple[float, Knots | None]:
    x, mean, size = _pooled(probabilities, target, weight)
    values = isotonic_regression(mean, sample_weight=size)
    changes = np.flatnonzero(np.diff(values))  # only the ends of each level are needed
    ends = np.unique(np.concatenate([[0], changes, changes + 1, [len(x) - 1]]))
    return 1.0, _make_knots(x[ends], values[ends], len(target))


def _venn_abers(probabilities: Floats, target: Integers, weight: Floats | None) -> tuple[float, Knots | None]:
    """Inductive Venn-Abers (Vovk et al., 2015), merged to one probability, at quantiles of the probabilities."""
    x, mean, size = _pooled(probabilities, target, weight)
    places = evenly_spaced(len(x), N_KNOTS)
    values = []
    for place in places.tolist():
        ends = []
        for label in (0.0, 1.0):  # one more row there, of either class
            more, of = size.copy(), mean.copy()
            more[place] += 1.0
            of[place] = (mean[place] * size[place] + label) / more[place]
            ends.append(float(isotonic_regression(of, sample_weight=more)[place]))
        values.append(ends[1] / (1.0 - ends[0] + ends[1]))
    return 1.0, _make_knots(x[places], np.maximum.accumulate(values), len(target))


METHODS: dict[str, Callable[[Floats, Integers, Floats | None], tuple[float, Knots | None]]] = {
    "none": _nothing,
    "temperature": _temperature,
    "isotonic": _isotonic,
    "venn_abers": _venn_abers,
}


def evenly_spaced(n: int, most: int) -> Integers:
    """Return at most so many of the positions 0 to n - 1, both ends among them."""
    return np.unique(np.linspace(0, n - 1, most).astype(np.int64))


def _pooled(
    probabilities: Floats, target: Integers, weight: Floats | None
) -> tuple[Floats, Floats, Floats]:  # each (m,)
    """Distinct probabilities of the second class, ascending, with the frequency of that class and the weight there."""
    x, place = np.unique(np.clip(probabilities[:, 1], 0.0, 1.0), return_inverse=True)
    size = np.bincount(place, weights=weight).astype(np.float64)
    hits = np.bincount(place, weights=(target == 1) * (1.0 if weight is None else weight))
    return x, hits / size, size


def _make_knots(x: Floats, values: Floats, n_rows: int) -> Knots:
    """Turn a non-decreasing function into one that keeps the order of all probabilities, from 0 to 1."""
    inside = np.flatnonzero(np.diff(x, prepend=-1.0) > MIN_GAP)
    x, values = x[inside], np.clip(values[inside], 1 / (n_rows + 2), 1 - 1 / (n_rows + 2))
    if len(x) > MAX_KNOTS:
        kept = evenly_spaced(len(x), MAX_KNOTS)
        x, values = x[kept], values[kept]
    ends = [0.0] * bool(x[0] > MIN_GAP), [1.0] * bool(x[-1] < 1 - MIN_GAP)
    knots = np.concatenate([ends[0], x, ends[1]])
    # Level parts rise a little, so that no ranking is lost.
    rising = (1 - SLOPE) * np.interp(knots, x, values) + SLOPE * knots
    return tuple(knots.tolist()), tuple(rising.tolist())
