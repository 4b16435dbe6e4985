"""Corrections of predicted probabilities, learned on validation predictions: temperature and decision weights.

Notation: n rows, k classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from windvane.evaluation.metrics import round_loss
from windvane.runtime.columns.table import Floats
from windvane.runtime.ensemble import apply_temperature

N_BINS = 10  # of a calibration curve
N_PASSES = 2  # over the classes, in search of decision weights
MIN_FACTORS, MAX_FACTORS = 5, 51  # tried for a class
MAX_WORK = 2e8  # numbers looked at in that search: about a second
TEMPERATURE_SPREAD = 0.3  # standard deviation of the logarithm of a temperature, before any row is seen

Loss = Callable[[Floats], float]


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
    n_factors = int(min(max_calls, MAX_WORK / probabilities.size) / (N_PASSES * probabilities.shape[1]))
    if n_factors < MIN_FACTORS:
        return None
    grid = np.exp(np.linspace(-2.5, 2.5, min(n_factors, MAX_FACTORS)))
    plain = best = loss(probabilities)
    factors = np.ones(probabilities.shape[1])  # (k,)
    for _ in range(N_PASSES):
        for j in range(len(factors) - 1 if len(factors) == 2 else len(factors)):
            for factor in grid:
                candidate = factors.copy()
                candidate[j] = factor
                value = loss(probabilities * candidate)
                if round_loss(value) < round_loss(best):
                    best, factors = value, candidate
    if not plain - best > standard_error(probabilities) * np.sqrt(len(factors) - 1):
        return None
    return tuple(float(f) for f in factors)


def calibration_curve(outcome: NDArray[np.bool_], probability: Floats) -> tuple[Floats, Floats]:
    """Mean probability and frequency of the outcome in at most `N_BINS` bins of equal counts."""
    from sklearn.calibration import calibration_curve as sklearn_curve

    frequency, predicted = sklearn_curve(outcome, probability, n_bins=N_BINS, strategy="quantile")
    return predicted, frequency
