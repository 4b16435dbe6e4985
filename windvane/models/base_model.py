"""The training skeleton of windvane's own families.

A family file holds its search space, how one more iteration is trained, and what must be remembered to resume. A
checkpoint is the folder of a fitted model, which predicts, and files ``training.*``, which only resuming reads.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from windvane.data.task import Task
from windvane.errors import ModelFileError
from windvane.models.base import Config, DataSplit, Param, TrainingContext
from windvane.models.early_stopping import EarlyStopping
from windvane.models.encoding import EncoderSettings, balance_class_weights, encoder_settings, fit_encoder
from windvane.models.search_space import fill_defaults
from windvane.models.targets.target_scaler import TargetScaler
from windvane.runtime.columns.encoder import Encoded, Encoder
from windvane.runtime.columns.table import Floats, Table
from windvane.runtime.models import load_model
from windvane.runtime.models.fitted import FittedModel
from windvane.runtime.output import Output
from windvane.runtime.serialization import read_json, reading, write_json


class BaseModel:
    """One configuration being trained; a model of windvane.models.base.Model."""

    patience: ClassVar[int] = 0  # iterations without improvement that early stopping always allows

    def __init__(
        self, family: BaseFamily, encoder: Encoder, target_scaler: TargetScaler, context: TrainingContext
    ) -> None:
        self.iterations = self.best_iteration = 0
        self.finished = False
        self.family, self.max_iterations = family, family.steps[-1]
        self.encoder, self.target_scaler, self.context = encoder, target_scaler, context
        self.early_stopping = EarlyStopping(self.patience)

    def prepare(self, config: Config, features: Encoded, train: DataSplit, validation: DataSplit) -> None:
        """Prepare the training; `features` are the encoded training rows."""
        raise NotImplementedError

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        """Train up to this total of iterations; the clock is asked before each step."""
        goal = min(iterations, self.max_iterations)
        while self.iterations < goal and not self.finished and time.monotonic() < deadline:
            self._train_iterations(goal, deadline)

    def _train_iterations(self, goal: int, deadline: float) -> None:
        """Train at least one more iteration, `goal` in total at most."""
        raise NotImplementedError

    def _after_evaluation(self) -> None:
        """Update the progress once the loss of each iteration is in `early_stopping`."""
        self.iterations, self.best_iteration = len(self.early_stopping.losses), self.early_stopping.best
        self.finished = self.early_stopping.should_stop or self.iterations >= self.max_iterations

    def _draw_seeds(self, count: int = 1) -> NDArray[Any]:
        """Draw seeds, (count,), of what is trained after the iterations so far."""
        return np.random.SeedSequence([self.context.seed, self.iterations]).generate_state(count)

    def output(self, classes: Iterable[int] = ()) -> Output:
        """Describe the predictions; with the classes of the training set where the model may lack some."""
        scaler = self.target_scaler
        return Output(self.context.task.n_classes, tuple(map(int, classes)), scaler.mean, scaler.scale)

    def fitted(self) -> FittedModel:
        """Return the model of the best iteration so far."""
        raise NotImplementedError

    def predict(self, table: Table) -> Floats:
        """Predict with the best iteration so far."""
        return self.fitted().predict(table)

    def save(self, folder: Path) -> None:
        """Write a checkpoint; what only training needs is left out once it has finished."""
        self.fitted().save(folder)
        write_json(
            folder / "training.json",
            {
                "iterations": self.iterations,
                "best_iteration": self.best_iteration,
                "finished": self.finished,
                "target_scaler": [self.target_scaler.mean, self.target_scaler.scale],
                "losses": self.early_stopping.losses,
                **({} if self.finished else self._save_training(folder)),
            },
        )

    def _save_training(self, folder: Path) -> Mapping[str, Any]:
        """Write what only resuming needs; return what else ``training.json`` must hold."""
        return {}

    def resume(self, folder: Path, fitted: FittedModel) -> None:
        """Continue from a checkpoint, whose model of the best iteration is `fitted`."""
        state = self._read_progress(folder)
        with reading(folder):
            self.encoder = fitted.encoder
            self._resume_training(folder, state, fitted)

    def _read_progress(self, folder: Path) -> Mapping[str, Any]:
        """Read how far a checkpoint is."""
        state = read_json(folder / "training.json")
        with reading(folder):
            self.iterations, self.best_iteration = int(state["iterations"]), int(state["best_iteration"])
            self.finished = bool(state["finished"])
            self.target_scaler = TargetScaler(*map(float, state["target_scaler"]))
            self.early_stopping = EarlyStopping(self.patience, state["losses"])
        return state

    def _resume_training(self, folder: Path, state: Mapping[str, Any], fitted: Any) -> None:
        """Restore what `_save_training` wrote and what predicts."""
        raise NotImplementedError


class FinishedModel(BaseModel):
    """A model that trains no further, from its checkpoint."""

    def __init__(self, family: BaseFamily, folder: Path, fitted: FittedModel, context: TrainingContext) -> None:
        super().__init__(family, fitted.encoder, TargetScaler(), context)
        self._fitted = fitted
        self._read_progress(folder)

    def fitted(self) -> FittedModel:
        return self._fitted


class BaseFamily:
    """A family whose models derive from `BaseModel`."""

    name: str
    kind: ClassVar[str]  # of the fitted models
    model_type: ClassVar[type[BaseModel]]
    scales_target: ClassVar[bool] = True  # in a regression
    predicts_quantiles: ClassVar[bool] = False  # where a task asks for one in place of the mean
    takes_sparse: ClassVar[bool] = True  # tables with a sparse part
    steps: tuple[int, ...] = (1,)  # totals of iterations of the checkpoints
    usual_cost: ClassVar[float] = 50.0  # see `prediction_cost`

    def supports(self, task: Task, table: Table) -> bool:
        """Whether the family takes such a table, and learns a quantile if the task asks for one."""
        return (self.takes_sparse or table.sparse is None) and (self.predicts_quantiles or task.quantile is None)

    def search_space(self, task: Task) -> dict[str, Param]:
        raise NotImplementedError

    def checkpoint_iterations(self, config: Config, task: Task) -> tuple[int, ...]:
        return self.steps

    def prediction_cost(self, config: Config, iterations: float, task: Task) -> float:
        """Return about how many milliseconds one core takes to predict 10,000 rows after so many iterations.

        An estimate by size, not a measurement, so that the same trials always make the same ensemble.
        """
        return self.usual_cost

    def encoding(self, config: Config, table: Table) -> EncoderSettings:
        """Return how tables are encoded; here by the hyperparameters of `preprocessing_space`."""
        return encoder_settings(config)

    def create_model(
        self,
        config: Config,
        train: DataSplit,
        validation: DataSplit,
        context: TrainingContext,
        checkpoint: Path | None = None,
    ) -> BaseModel:
        """Encode the training set and make a model, or resume one."""
        task = context.task
        config = fill_defaults(config, self.search_space(task))
        if checkpoint is not None and read_json(checkpoint / "training.json").get("finished") is True:
            return FinishedModel(self, checkpoint, self.load(checkpoint, context), context)
        settings = self.encoding(config, train.table)
        encoder, features = fit_encoder(settings, train.table, train.target, task, context.encodings)
        scaler = TargetScaler.of(train.target, train.weight, task) if self.scales_target else TargetScaler()
        model = self.model_type(self, encoder, scaler, context)
        if checkpoint is not None:
            model.resume(checkpoint, self.load(checkpoint, context))
        model.prepare(config, features, balance_class_weights(config, train), validation)
        return model

    def load(self, folder: Path, context: TrainingContext) -> FittedModel:
        return open_model(folder, context, self.kind)


def open_model(folder: Path, context: TrainingContext, kind: str, trusted: Sequence[str] = ()) -> FittedModel:
    """Open the fitted model of a checkpoint, which must be of this kind and for this task."""
    model = load_model(folder, context.threads, context.n_bagged_models, trusted)
    if model.kind != kind or model.output.n_classes != context.task.n_classes:
        raise ModelFileError(f"{folder} holds a model of another family or task.")
    return model
