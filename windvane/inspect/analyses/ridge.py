"""Ridge classification in closed form: every penalty from one eigendecomposition.

Targets are -1 and 1, features are scaled by the training data, the intercept is not penalised. Leave-one-out errors are
exact given the scale and cost nothing more, so the penalty is chosen without held-out data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from windvane.errors import InputError

Floats = NDArray[np.float64]

ALPHAS = tuple(10.0**exponent for exponent in range(-2, 7))  # for features of unit variance


@dataclass(frozen=True)
class RidgePath:
    """Ridge classifiers that differ in their penalty alone.

    Attributes
    ----------
    classes
        (classes,) sorted.
    alphas
        (alphas,) as given.
    loo_error
        (alphas,): mean square error of the targets of the examples, each left out in turn.
    """

    classes: NDArray[Any]
    alphas: Floats
    loo_error: Floats
    _mean: Floats  # (features,)
    _scale: Floats  # (features,)
    _basis: Floats  # (features, rank)
    _eigenvalues: Floats  # (rank,)
    _weights: Floats  # (rank, classes): before the penalty
    _intercept: Floats  # (classes,)

    @property
    def best(self) -> int:
        """Index of the penalty with the smallest left-out error, the largest of several."""
        return int(np.flatnonzero(self.loo_error == self.loo_error.min())[-1])

    def decision_function(self, features: Floats, penalty: int) -> Floats:
        """Judge examples with one penalty.

        Parameters
        ----------
        features
            (n, features)
        penalty
            Index of the penalty.

        Returns
        -------
        ndarray
            (n, classes): what the classifier gives for each class; the largest wins.
        """
        along = ((features - self._mean) / self._scale) @ self._basis  # (n, rank)
        decisions: Floats = (along / (self._eigenvalues + self.alphas[penalty])) @ self._weights + self._intercept
        return decisions

    def accuracy(self, features: Floats, labels: NDArray[Any], penalty: int | None = None) -> float:
        """Count how often a classifier is right.

        Parameters
        ----------
        features
            (n, features)
        labels
            (n,)
        penalty
            Index of the penalty; the best one by left-out error where it is None.

        Returns
        -------
        float
            Share of the examples.
        """
        decisions = self.decision_function(features, self.best if penalty is None else penalty)
        return float(np.mean(self.classes[decisions.argmax(1)] == labels))


def ridge_path(features: Any, labels: Any, alphas: Sequence[float] = ALPHAS) -> RidgePath:
    """Fit ridge classifiers for all alphas at once.

    Parameters
    ----------
    features
        (n, features)
    labels
        (n,)
    alphas
        Positive; the features are scaled to unit variance.

    Returns
    -------
    RidgePath
        The classifiers, with the left-out error of each.

    Raises
    ------
    InputError
        A penalty that is not positive, a single class, or features that are not finite.
    """
    x = np.asarray(features, dtype=np.float64)
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    strengths = np.asarray(alphas, dtype=np.float64)
    if x.ndim != 2 or len(x) != len(codes):
        raise InputError(f"features {x.shape} and labels {codes.shape} do not fit: (n, features) and (n,) are needed.")
    if len(classes) < 2:
        raise InputError(f"labels hold one class only ({classes.tolist()}); a classifier needs two or more.")
    if not (strengths > 0).all():
        raise InputError(f"alphas={list(alphas)!r} must be positive.")
    if not np.isfinite(x).all():
        raise InputError("features hold numbers that are not finite.")
    targets = np.where(codes[:, None] == np.arange(len(classes)), 1.0, -1.0)  # (n, classes)
    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    x, intercept = (x - mean) / scale, targets.mean(0)
    targets = targets - intercept
    if x.shape[1] <= len(x):
        eigenvalues, basis = eigh(x.T @ x)
        left = x @ basis  # (n, rank); the square of a row over (eigenvalue + penalty) is its leverage
        weights = left.T @ targets
    else:
        eigenvalues, directions = eigh(x @ x.T)
        basis, weights = x.T @ directions, directions.T @ targets
        left = directions * np.sqrt(eigenvalues.clip(0))
    eigenvalues = eigenvalues.clip(0)  # rounding can make the smallest ones negative
    along = x @ basis
    errors = [
        _left_out(targets - (along / (eigenvalues + strength)) @ weights, left**2 @ (1 / (eigenvalues + strength)))
        for strength in strengths
    ]
    return RidgePath(classes, strengths, np.array(errors), mean, scale, basis, eigenvalues, weights, intercept)


def _left_out(residuals: Floats, leverage: Floats) -> float:
    """Mean square of the residuals of examples that are left out, by Sherman and Morrison's formula."""
    return float(np.mean((residuals / (1 - 1 / len(residuals) - leverage)[:, None]) ** 2))
