"""Linear models: logistic regression for classes, ridge regression for numbers."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgWarning

from windvane.data.task import Task
from windvane.models.base import BaseModel, Config, DataSplit, Param, TrainingContext, open_model
from windvane.models.encoding import (
    balance_class_weights,
    class_weight_space,
    encoder_settings,
    fit_encoder,
    preprocessing_space,
)
from windvane.models.logistic import fit_until_deadline
from windvane.models.search_space import fill_defaults
from windvane.models.target_scaler import TargetScaler
from windvane.runtime.columns.table import Floats, Table
from windvane.runtime.models.fitted import Fitted, FittedModel
from windvane.runtime.models.linear import FittedLinear

# Steps of the optimiser between looks at the clock.
_PORTIONS = (16, 32, 64, 128, 256, 512)


class Linear:
    """Linear models; they do not grow, so there is one step."""

    name = "linear"

    def supports(self, task: Task, table: Table) -> bool:
        """Every task and table."""
        return True

    def search_space(self, task: Task) -> dict[str, Param]:
        """Penalty and encoding; the range of C is TabArena's, wider at the strong end."""
        from optuna.distributions import FloatDistribution as Float

        if task.is_classification:
            penalty = {"C": Param(Float(1e-4, 1e3, log=True), 1.0)}
        else:
            penalty = {"alpha": Param(Float(1e-3, 1e5, log=True), 1.0)}
        return {
            **penalty,
            **preprocessing_space("standard"),
            **class_weight_space(task),
        }

    def checkpoint_iterations(self, config: Config, task: Task) -> tuple[int, ...]:
        """One."""
        return (1,)

    def create_model(
        self,
        config: Config,
        train: DataSplit,
        validation: DataSplit,
        context: TrainingContext,
        checkpoint: Path | None = None,
    ) -> LinearModel:
        """Encode the training set; the validation set is not needed."""
        task = context.task
        config = fill_defaults(config, self.search_space(task))
        encoder, features = fit_encoder(encoder_settings(config), train.table, train.target, task)
        target_scaler = TargetScaler.of(train.target, train.weight, task)
        model = LinearModel(encoder, target_scaler, context)
        if checkpoint is not None:
            model.resume(checkpoint)
        model.prepare(_estimator(config, context), features, balance_class_weights(config, train))
        return model

    def load(self, folder: Path, context: TrainingContext) -> Fitted:
        """Open a checkpoint for prediction."""
        model: Fitted = open_model(folder, context, "linear")
        return model


class LinearModel(BaseModel):
    """One linear model; see `windvane.models.base.Model`.

    Attributes
    ----------
    coefficients, intercept
        Shapes (k, q) and (k,): one row for two classes or a number, else one for each class of the training set.
    classes
        Codes of the classes that the training set holds; empty for regression.
    """

    coefficients: Floats
    intercept: Floats
    classes: NDArray[np.intp]

    def resume(self, folder: Path) -> None:
        """Take over the coefficients of a checkpoint."""
        self.restore(folder)
        fitted = open_model(folder, self.context, "linear")
        self.encoder, self.classes = fitted.encoder, fitted.classes
        self.coefficients, self.intercept = fitted.coefficients, fitted.intercept

    def prepare(self, estimator: Any, features: Any, train: DataSplit) -> None:
        """Take what is needed to train."""
        self._estimator, self._features, self._train = estimator, features, train

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        """Train fully; stopped by the clock, it keeps the coefficients reached."""
        if self.finished or time.monotonic() >= deadline:
            return
        if not self.context.task.is_classification:
            self._solve()
        elif len(np.unique(self._train.target)) > 1:
            self._fit_logistic(deadline)
        else:  # a training set of one class: no coefficients, and all certainty
            self.coefficients, self.intercept = np.zeros((1, self._features.shape[1])), np.zeros(1)
            self.classes = np.unique(self._train.target).astype(np.intp)
        self.iterations = self.best_iteration = 1
        self.finished = time.monotonic() < deadline

    def _fit_logistic(self, deadline: float) -> None:
        if self.iterations:  # stopped by the clock in an earlier life
            self._estimator.coef_, self._estimator.intercept_ = self.coefficients, self.intercept
            self._estimator.classes_ = self.classes
        fit_until_deadline(self._estimator, self._features, self._train, _PORTIONS, deadline)
        self._take_over()

    def _solve(self) -> None:
        with warnings.catch_warnings():
            # Numbers that are not scaled may differ by many orders of magnitude.
            warnings.simplefilter("ignore", LinAlgWarning)
            self._estimator.fit(self._features, self.target_scaler.transform(self._train.target), self._train.weight)
        self._take_over()

    def _take_over(self) -> None:
        self.coefficients = np.atleast_2d(self._estimator.coef_)
        self.intercept = np.atleast_1d(self._estimator.intercept_)
        self.classes = np.asarray(getattr(self._estimator, "classes_", []), dtype=np.intp)

    def fitted(self) -> FittedModel:
        """Return what was reached."""
        return FittedLinear(self.encoder, self.output(self.classes), self.coefficients, self.intercept)


def _estimator(config: Config, context: TrainingContext) -> Any:
    from sklearn.linear_model import LogisticRegression, Ridge

    if context.task.is_classification:
        return LogisticRegression(C=config["C"], warm_start=True)
    return Ridge(alpha=config["alpha"])
