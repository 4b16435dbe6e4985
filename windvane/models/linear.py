"""Linear models: logistic regression for classes, ridge regression for numbers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
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

# Steps of the optimiser in each iteration of a model. They are the same with and without a deadline, because L-BFGS
# forgets the curvature it has seen where it stops and starts again.
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
        if not self.context.task.is_classification:
            self._estimator: Any = Ridge(alpha=config["alpha"])
            return
        self._estimator = LogisticRegression(C=config["C"], warm_start=True)
        if self.iterations:
            self._estimator.coef_, self._estimator.intercept_ = self.coefficients, self.intercept
            self._estimator.classes_ = self.classes

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        """Train fully, whatever is asked; stopped by the clock, it keeps the coefficients reached."""
        super().train_until(self.max_iterations, deadline)

    def _train_iterations(self, goal: int, deadline: float) -> None:
        target = self._train.target
        if not self.context.task.is_classification:
            self._fit(self.target_scaler.transform(target))
            self.finished = True
        elif len(np.unique(target)) > 1:
            portion = _PORTIONS[self.iterations]
            self._estimator.set_params(max_iter=portion)
            self._fit(target)
            self.finished = int(self._estimator.n_iter_.max()) < portion or portion == _PORTIONS[-1]
        else:  # one class, which gets the probability 1
            self.coefficients, self.intercept = np.zeros((1, self._features.shape[1])), np.zeros(1)
            self.classes = np.unique(target).astype(np.intp)
            self.finished = True
        self.iterations += 1
        self.best_iteration = self.iterations

    def _fit(self, target: NDArray[Any]) -> None:
        from sklearn.exceptions import ConvergenceWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a portion ends before convergence by intent
            warnings.simplefilter("ignore", LinAlgWarning)  # numbers that are not scaled may differ by many orders
            self._estimator.fit(self._features, target, self._train.weight)
        self.coefficients = np.atleast_2d(self._estimator.coef_)
        self.intercept = np.atleast_1d(self._estimator.intercept_)
        self.classes = np.asarray(getattr(self._estimator, "classes_", []), dtype=np.intp)

    def fitted(self) -> FittedModel:
        return FittedLinear(self.encoder, self.output(self.classes), self.coefficients, self.intercept)


class Linear(BaseFamily):
    """Linear models, whose iterations are portions of one fit."""

    name = kind = "linear"
    model_type = LinearModel
    steps = (len(_PORTIONS),)
    usual_cost = 3.0

    def search_space(self, task: Task) -> dict[str, Param]:
        """Penalty and encoding; the range of C is TabArena's, wider at the strong end."""
        if task.is_classification:
            penalty = {"C": real(1e-4, 1e3, 1.0, log=True)}
        else:
            penalty = {"alpha": real(1e-3, 1e5, 1.0, log=True)}
        return {**penalty, **preprocessing_space("standard"), **class_weight_space(task)}
