"""Families that misbehave, to see that the promises hold: used by `engine.py` and by the tests of the limits."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from windvane.data.task import Task
from windvane.models.base import Config, DataSplit, Param, TrainingContext
from windvane.runtime.columns.table import Floats, Table


class BadModel:
    """Grows well for one iteration, then misbehaves."""

    def __init__(self, behaviour: str, good_steps: int, context: TrainingContext) -> None:
        self.behaviour, self.good_steps, self.context = behaviour, good_steps, context
        self.iterations = self.best_iteration = 0
        self.finished = False

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        """Go one step, or do what the family is for."""
        if self.iterations >= self.good_steps:
            _MISBEHAVIOURS[self.behaviour]()
        self.iterations = self.best_iteration = iterations
        time.sleep(0.01)

    def predict(self, table: Table) -> Floats:
        """Predict the same for all."""
        task = self.context.task
        shape = (table.n_rows, task.n_classes) if task.is_classification else (table.n_rows,)
        return np.full(shape, 1 / max(1, task.n_classes))

    def save(self, folder: Path) -> None:
        """Keep next to nothing."""
        (folder / "state.json").write_text("{}")


class BadFamily:
    """A family that sleeps, hangs in native code, eats memory, crashes or raises, after some good iterations."""

    def __init__(self, behaviour: str, good_steps: int = 0) -> None:
        self.name = f"bad_{behaviour}"
        self.behaviour, self.good_steps = behaviour, good_steps

    def supports(self, task: Task, table: Table) -> bool:
        """Everything."""
        return True

    def search_space(self, task: Task) -> dict[str, Param]:
        """One number, so that there is something to suggest."""
        from optuna.distributions import FloatDistribution

        return {"x": Param(FloatDistribution(0.0, 1.0), 0.5)}

    def checkpoint_iterations(self, config: Config, task: Task) -> tuple[int, ...]:
        """Four steps; long ones are not joined, because the first is not timed as short."""
        return (1, 2, 200, 400)

    def create_model(
        self,
        config: Config,
        train: DataSplit,
        validation: DataSplit,
        context: TrainingContext,
        checkpoint: Path | None = None,
    ) -> BadModel:
        """Make a model."""
        return BadModel(self.behaviour, self.good_steps, context)

    def load(self, folder: Path, context: TrainingContext) -> BadModel:
        """Open a checkpoint."""
        return BadModel(self.behaviour, self.good_steps, context)


def _eat() -> None:
    held = []
    while True:
        held.append(np.ones(4_000_000))  # 32 MB, written to
        time.sleep(0.002)


def _raise() -> None:
    raise ValueError("this family always fails")


_MISBEHAVIOURS: dict[str, Callable[[], object]] = {
    "sleep": lambda: time.sleep(10_000),
    # PyDLL keeps the interpreter's lock: no thread of Python runs in this process any more.
    "hang": lambda: ctypes.PyDLL(None).sleep(10_000),
    "eat": _eat,
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: os._exit(3),
    "raise": _raise,
}
