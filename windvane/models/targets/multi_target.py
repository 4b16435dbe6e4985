"""Several targets: any family trains one model for each inside one trial.

The models learn from the same rows with the same configuration, and share the encoded columns wherever an encoding does
not look at the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from windvane.data.task import Task
from windvane.models.base import Config, DataSplit, Family, Model, Param, TrainingContext, train_side_by_side
from windvane.models.encoding import EncoderSettings
from windvane.runtime.columns.table import Floats, Table
from windvane.runtime.models.fitted import Fitted
from windvane.runtime.models.multi_target import FittedMultiTarget, target_folder


class MultiTarget:
    """A family whose models are one model of another family for each target."""

    def __init__(self, family: Family) -> None:
        self.name, self.family = family.name, family
        self.refits = bool(getattr(family, "refits", True))

    def supports(self, task: Task, table: Table) -> bool:
        return self.family.supports(task.of_one_target(), table)

    def search_space(self, task: Task) -> dict[str, Param]:
        return self.family.search_space(task.of_one_target())

    def checkpoint_iterations(self, config: Config, task: Task) -> tuple[int, ...]:
        return self.family.checkpoint_iterations(config, task.of_one_target())

    def create_model(
        self,
        config: Config,
        train: DataSplit,
        validation: DataSplit,
        context: TrainingContext,
        checkpoint: Path | None = None,
    ) -> MultiTargetModel:
        shared: dict[EncoderSettings, Any] = {}
        one = replace(context, task=context.task.of_one_target(), encodings=shared)
        models = [
            self.family.create_model(
                config,
                replace(train, target=train.target[:, j]),
                replace(validation, target=validation.target[:, j]),
                one,
                None if checkpoint is None else target_folder(checkpoint, j),
            )
            for j in range(context.task.n_targets)
        ]
        shared.clear()  # some models keep no encoded rows
        return MultiTargetModel(models)

    def load(self, folder: Path, context: TrainingContext) -> Fitted:
        one, n_targets = replace(context, task=context.task.of_one_target()), context.task.n_targets
        return FittedMultiTarget([self.family.load(target_folder(folder, j), one) for j in range(n_targets)])


class MultiTargetModel:
    """The models of all targets, trained side by side."""

    def __init__(self, models: Sequence[Model]) -> None:
        self.models = models
        self._update_progress()

    def _update_progress(self) -> None:
        """Update the progress: as far as the last model that is not finished."""
        reached = [model.iterations for model in self.models]
        self.iterations = min((m.iterations for m in self.models if not m.finished), default=max(reached))
        self.best_iteration = round(float(np.mean([model.best_iteration for model in self.models])))
        self.finished = all(model.finished for model in self.models)

    def train_until(self, iterations: int, deadline: float = np.inf) -> None:
        train_side_by_side(self.models, iterations, deadline)
        self._update_progress()

    def predict(self, table: Table) -> Floats:
        """Predict numbers, or probabilities that a label is there; shape (n, t)."""
        return FittedMultiTarget(self.models).predict(table)

    def save(self, folder: Path) -> None:
        for j, model in enumerate(self.models):
            target_folder(folder, j).mkdir()
            model.save(target_folder(folder, j))
        FittedMultiTarget.write_record(folder, len(self.models))


def for_task(family: Family, task: Task) -> Family:
    """Return a family that can train on a task: where it has several targets, one model for each."""
    return family if task.n_targets == 1 or isinstance(family, MultiTarget) else MultiTarget(family)
