"""A constant prediction: what a search falls back on when its time ended before any model was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from windvane.data.task import Task
from windvane.models.base import Config, DataSplit, Param, TrainingContext
from windvane.models.base_model import open_model
from windvane.runtime.columns.encoder import Encoder
from windvane.runtime.columns.table import Floats, Table
from windvane.runtime.models.fitted import Fitted
from windvane.runtime.models.linear import FittedLinear
from windvane.runtime.output import Output


class Constant:
    """Frequencies of the classes, the mean, or a quantile; kept as a linear model without coefficients."""

    name = "constant"

    def supports(self, task: Task, table: Table) -> bool:
        return True

    def search_space(self, task: Task) -> dict[str, Param]:
        return {}

    def checkpoint_iterations(self, config: Config, task: Task) -> tuple[int, ...]:
        return (1,)

    def create_model(
        self,
        config: Config,
        train: DataSplit,
        validation: DataSplit,
        context: TrainingContext,
        checkpoint: Path | None = None,
    ) -> ConstantModel:
        return ConstantModel(train, context.task)

    def load(self, folder: Path, context: TrainingContext) -> Fitted:
        return open_model(folder, context, FittedLinear.kind)


class ConstantModel:
    """A model that looks at the target alone."""

    def __init__(self, train: DataSplit, task: Task) -> None:
        self.iterations, self.best_iteration, self.finished = 0, 0, False
        table = train.table
        # Of the columns only their number matters, and that nothing missing meets a coefficient.
        steps, arrays = [{"op": "impute"}, {"op": "numbers"}], {"0_values": np.zeros(table.n_numbers)}
        encoder = Encoder(steps, arrays, table.n_numbers, table.cardinalities)
        n_features = max(1, table.n_numbers + (0 if table.sparse is None else table.sparse.shape[1]))
        if task.is_classification:
            counts = np.bincount(train.target, weights=train.weight, minlength=task.n_classes)
            classes = np.flatnonzero(counts)
            logs = np.log(counts[classes] / counts.sum())
            output = Output(task.n_classes, tuple(classes.tolist()))
            intercept = logs if len(classes) > 2 else logs[-1:] - logs[0]
        elif task.quantile is not None:
            output, intercept = Output(0, mean=float(np.quantile(train.target, task.quantile))), np.zeros(1)
        else:
            output, intercept = Output(0, mean=float(np.average(train.target, weights=train.weight))), np.zeros(1)
        self._fitted = FittedLinear(encoder, output, np.zeros((len(intercept), n_features)), intercept)

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        self.iterations, self.best_iteration, self.finished = 1, 1, True

    def predict(self, table: Table) -> Floats:
        return self._fitted.predict(table)

    def save(self, folder: Path) -> None:
        self._fitted.save(folder)
