"""What a family of models is: where its configurations come from, how one is trained, and how it is saved.

A `Family` has a name, a search space, and two ways to make a `Model`: `create_model` begins or resumes
the training of one configuration on one training set, `load` opens a checkpoint for prediction. A `Model` trains and
predicts. Nothing here knows of folds, budgets, files of a run, or the search.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from windvane.data.task import Task
from windvane.runtime.columns.table import Floats, Integers, Table
from windvane.runtime.models.fitted import Fitted

Value = bool | int | float | str
Config = Mapping[str, Value]


@dataclass(frozen=True)
class Param:
    """One hyperparameter."""

    distribution: Any  # of Optuna
    default: Value  # in the family's default configuration
    # ``{name: values}``: the parameter exists only where the parameters named have one of the values.
    when: Mapping[str, tuple[Value, ...]] | None = None


@dataclass(frozen=True)
class DataSplit:
    """Some rows to learn from or to be evaluated on."""

    table: Table  # the columns
    # Class codes 0 .. n_classes - 1 as int64, or float64 numbers; shape (n,), of several targets (n, t).
    target: NDArray[Any]
    weight: Floats | None = None  # of shape (n,); None where all count the same

    def take(self, rows: Integers) -> DataSplit:
        """Copy some rows."""
        return DataSplit(self.table.take(rows), self.target[rows], None if self.weight is None else self.weight[rows])


@dataclass(frozen=True)
class TrainingContext:
    """What surrounds a model."""

    task: Task
    seed: int  # of the training's randomness
    threads: int = 1  # that the training may use
    # Models of the same configuration whose predictions are averaged, this one included. Where a model is an average
    # itself, it may then leave some of its parts out.
    n_bagged_models: int = 1
    # Encoders by their settings with the encoded training rows, which the models of several targets share; None for one
    # target.
    encodings: dict[Any, Any] | None = None


class Model(Protocol):
    """One configuration being trained on one training set.

    Attributes
    ----------
    iterations
        How many iterations (trees, rounds, epochs) it has now.
    best_iteration
        The iteration that `predict` uses: the best on the validation set, at most `iterations`.
    finished
        Whether further training is useless: fully trained, or stopped early on the validation set.
    """

    iterations: int
    best_iteration: int
    finished: bool

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        """Train up to this total of iterations.

        Parameters
        ----------
        iterations
            The total to reach. A family without iterations trains fully, whatever is asked.
        deadline
            A `time.monotonic` instant after which it returns as soon as it can, with what it has. With infinity
            nothing may depend on the clock.
        """

    def predict(self, table: Table) -> Floats:
        """Predict with the best iteration so far.

        Parameters
        ----------
        table
            n rows.

        Returns
        -------
        ndarray
            Probabilities of shape (n, n_classes) whose rows sum to 1, or numbers of shape (n,).
        """

    def save(self, folder: Path) -> None:
        """Write a checkpoint: enough to predict (`Family.load`) and to resume training (`Family.create_model`).

        No file is a pickle.

        Parameters
        ----------
        folder
            An existing, empty folder.
        """


class Family(Protocol):
    """A kind of model with its search space.

    Attributes
    ----------
    name
        Its key in `windvane.models.FAMILIES`, lower case.
    """

    name: str

    def supports(self, task: Task, table: Table) -> bool:
        """Whether it can be trained on this task and this kind of table at all."""

    def search_space(self, task: Task) -> dict[str, Param]:
        """Make the search space: name -> hyperparameter, conditions pointing upwards only."""

    def checkpoint_iterations(self, config: Config, task: Task) -> tuple[int, ...]:
        """Return the totals of iterations after which a checkpoint is written, about doubling.

        The last is the fully trained model; a family without iterations has one entry.
        """

    def create_model(
        self,
        config: Config,
        train: DataSplit,
        validation: DataSplit,
        context: TrainingContext,
        checkpoint: Path | None = None,
    ) -> Model:
        """Make a model that is not trained yet, or resume from a checkpoint that `Model.save` wrote.

        Parameters
        ----------
        config
            Values for the active hyperparameters of `search_space`; one that is missing has its default.
        train
            What to learn from. Encoders and imputers are fitted on this alone.
        validation
            Used for nothing but early stopping.
        context
            Task, seed, threads.
        checkpoint
            A folder written by `Model.save` with the same configuration, rows and seed.
        """

    def load(self, folder: Path, context: TrainingContext) -> Fitted:
        """Open a checkpoint for prediction only; raises `windvane.errors.ModelFileError` where it is not sound."""


def train_side_by_side(models: Sequence[Model], iterations: int, deadline: float) -> None:
    """Train each model up to this total of iterations; those without one share the time, so that none is left out."""
    left = [model for model in models if not model.finished and model.iterations < iterations]
    n_new = sum(model.iterations == 0 for model in left)
    for model in left:
        if model.iterations:
            model.train_until(iterations, deadline)
        else:
            now = time.monotonic()
            model.train_until(iterations, now + (deadline - now) / n_new)
            n_new -= 1
