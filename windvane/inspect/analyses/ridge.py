"""Ridge classification in closed form: every penalty from one eigendecomposition.

Targets are -1 and 1, features are standardized by the training data, the intercept is not penalized. Leave-one-out
errors are exact given the scale and cost nothing more, so the penalty is chosen without held-out data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from windvane.errors import InputError, check_usable
from windvane.inspect.result import Floats

ALPHAS = tuple(10.0**exponent for exponent in range(-2, 7))  # penalties, for features of unit variance


@dataclass(frozen=True)
class RidgePath:
    """Ridge classifiers that differ in their penalty alone.

    Examples
    --------
    ::

        path = ridge_path(features, labels)
        path.alphas[path.best], path.accuracy(test_features, test_labels)
    """

    classes: NDArray[Any]  # (classes,) sorted
    alphas: Floats  # (alphas,) penalties as given
    loo_error: Floats  # (alphas,): leave-one-out mean square error of the targets
    _mean: Floats  # (features,)
    _scale: Floats  # (features,)
    _basis: Floats  # (features, rank)
    _eigenvalues: Floats  # (rank,)
    _weights: Floats  # (rank, classes): before the penalty
    _intercept: Floats  # (classes,)

    @property
    def best(self) -> int:
        """Index of the penalty with the smallest leave-one-out error; the largest penalty on ties."""
        return int(np.flatnonzero(self.loo_error == self.loo_error.min())[-1])

    def decision_function(self, features: Floats, index: int) -> Floats:
        """Compute the scores of a classifier.

        Parameters
        ----------
        features
            (n, features)
        index
            Of the penalty.

        Returns
        -------
        ndarray
            (n, classes); the largest one wins.
        """
        along = ((features - self._mean) / self._scale) @ self._basis  # (n, rank)
        scores: Floats = (along / (self._eigenvalues + self.alphas[index])) @ self._weights + self._intercept
        return scores

    def accuracy(self, features: Floats, labels: NDArray[Any], index: int | None = None) -> float:
        """Compute the accuracy of a classifier.

        Parameters
        ----------
        features
            (n, features)
        labels
            (n,)
        index
            Of the penalty; None uses the best one by leave-one-out error.

        Returns
        -------
        float
            Fraction of the examples that are classified correctly.
        """
        scores = self.decision_function(features, self.best if index is None else index)
        return float(np.mean(self.classes[scores.argmax(1)] == labels))


def ridge_path(features: Any, labels: Any, alphas: Sequence[float] = ALPHAS) -> RidgePath:
    """Fit ridge classifiers for all penalties at once.

    Parameters
    ----------
    features
        (n, features)
    labels
        (n,)
    alphas
        Positive penalties, for features of unit variance.

    Returns
    -------
    RidgePath
        The classifiers, with the leave-one-out error of each.

    Examples
    --------
    >>> import numpy as np
    >>> features = np.array([[0.0], [0.1], [0.9], [1.0]])
    >>> ridge_path(features, ["a", "a", "b", "b"]).accuracy(features, np.array(["a", "a", "b", "b"]))
    1.0
    """
    x = np.asarray(features, dtype=np.float64)
    classes, codes = np.unique(np.asarray(labels), return_inverse=True)
    penalties = np.asarray(alphas, dtype=np.float64)
    if x.ndim != 2 or len(x) != len(codes):
        raise InputError(f"features {x.shape} and labels {codes.shape} do not fit. Allowed: (n, features) and (n,).")
    if len(classes) < 2:
        raise InputError(f"labels have one class only ({classes.tolist()}). Allowed: two classes or more.")
    check_usable("alphas", list(alphas), bool((penalties > 0).all()), "numbers above 0")
    if not np.isfinite(x).all():
        raise InputError("features have NaN or infinite numbers. Allowed: finite ones.")
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
    errors = np.empty(len(penalties))
    for i, alpha in enumerate(penalties):
        residuals = targets - (along / (eigenvalues + alpha)) @ weights
        leverage = left**2 @ (1 / (eigenvalues + alpha))
        errors[i] = np.mean((residuals / (1 - 1 / len(x) - leverage)[:, None]) ** 2)  # by Sherman and Morrison
    return RidgePath(classes, penalties, errors, mean, scale, basis, eigenvalues, weights, intercept)
