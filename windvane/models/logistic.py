"""Logistic regression that looks at the clock: scikit-learn's, fitted in portions of the optimiser's steps."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

from windvane.models.base import DataSplit


def fit_until_deadline(
    estimator: Any, features: Any, train: DataSplit, portions: Sequence[int], deadline: float
) -> bool:
    """Fit, portion by portion, each going on from the coefficients before.

    The portions are the same with and without a deadline, because L-BFGS forgets the curvature it has seen where it
    stops and starts again.
    """
    from sklearn.exceptions import ConvergenceWarning

    for portion in portions:
        estimator.set_params(max_iter=portion)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a portion ends before convergence by intent
            estimator.fit(features, train.target, train.weight)
        if int(estimator.n_iter_.max()) < portion:
            return True
        if time.monotonic() >= deadline:
            return False
    return True
