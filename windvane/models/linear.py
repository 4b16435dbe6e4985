"""Linear models: logistic regression for classes, ridge regression for numbers."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning

from windvane.data.task import Task
from windvane.models.base import Config, DataSplit, Param
from windvane.models.base_model import BaseFamily, BaseModel
from windvane.models.encoding import class_weight_space, preprocessing_space
from windvane.models.search_space import real
from windvane.runtime.columns.encoder import Encoded
from windvane.runtime.columns.table import Floats
from windvane.runtime.models.fitted import FittedModel
from windvane.runtime.models.linear import FittedLinear

# Steps of the optimiser between looks at the clock.
_PORTIONS = (16, 32, 64, 128, 256, 512)


class LinearModel(BaseModel):
    coefficients: Floats  # shape (k, q): one row for two classes or a number, else one for each class
    intercept: Floats  # shape (k,)
    classes: NDArray[np.intp]  # codes of the classes that the training set holds; empty for regression

    def _resume_training(self, folder: Path, state: Mapping[str, Any], fitted: Any) -> None:
        self.classes, self.coefficients, self.intercept = fitted.classes, fitted.coefficients, fitted.intercept

    def prepare(self, config: Config, features: Encoded, train: DataSplit, validation: DataSplit) -> None:
        from sklearn.linear_model import LogisticRegression, Ridge

        self._features, self._train = features, train
        if self.context.task.is_classification:
            self._estimator: Any = LogisticRegression(C=config["C"], warm_start=True)
        else:
            self._estimator = Ridge(alpha=config["alpha"])

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        """Train fully; stopped by the clock, it keeps the coefficients reached."""
        if self.finished or time.monotonic() >= deadline:
            return
        estimator, train = self._estimator, self._train
        self.finished = True
        if not self.context.task.is_classification:
            with warnings.catch_warnings():
                # Numbers that are not scaled may differ by many orders of magnitude.
                warnings.simplefilter("ignore", LinAlgWarning)
                estimator.fit(self._features, self.target_scaler.transform(train.target), train.weight)
        elif (train.target == train.target[0]).all():  # one class, which gets the probability 1
            estimator.coef_, estimator.intercept_ = np.zeros((1, self._features.shape[1])), np.zeros(1)
            estimator.classes_ = train.target[:1]
        else:
            if self.iterations:  # a deadline stopped the training of the checkpoint
                estimator.coef_, estimator.intercept_ = self.coefficients, self.intercept
                estimator.classes_ = self.classes
            self.finished = fit_until_deadline(estimator, self._features, train, _PORTIONS, deadline)
        self.coefficients, self.intercept = np.atleast_2d(estimator.coef_), np.atleast_1d(estimator.intercept_)
        self.classes = np.asarray(getattr(estimator, "classes_", []), dtype=np.intp)
        self.iterations = self.best_iteration = 1

    def fitted(self) -> FittedModel:
        return FittedLinear(self.encoder, self.output(self.classes), self.coefficients, self.intercept)


class Linear(BaseFamily):
    """Linear models; they have one iteration."""

    name = kind = "linear"
    model_type = LinearModel
    usual_cost = 3.0

    def search_space(self, task: Task) -> dict[str, Param]:
        """Penalty and encoding; the range of C is TabArena's, wider at the strong end."""
        if task.is_classification:
            penalty = {"C": real(1e-4, 1e3, 1.0, log=True)}
        else:
            penalty = {"alpha": real(1e-3, 1e5, 1.0, log=True)}
        return {**penalty, **preprocessing_space("standard"), **class_weight_space(task)}


def fit_until_deadline(
    estimator: Any, features: Any, train: DataSplit, portions: Sequence[int], deadline: float
) -> bool:
    """Fit portion by portion, each from the coefficients of the one before; return whether the time was enough.

    The portions are the same with and without a deadline, because L-BFGS forgets the curvature it has seen where it
    stops and starts again.
    """
    from sklearn.exceptions import ConvergenceWarning

    for i, portion in enumerate(portions):
        if i and time.monotonic() >= deadline:
            return False
        estimator.set_params(max_iter=portion)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a portion ends before convergence by intent
            estimator.fit(features, train.target, train.weight)
        if int(estimator.n_iter_.max()) < portion:
            return True
    return True
