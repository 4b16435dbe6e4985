"""The fitted ensemble of a run: a table in, probabilities or numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from windvane.data.task import Task
from windvane.evaluation.metrics import Metric
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Table
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.models.fitted import Fitted
from windvane.runtime.predictor import EnsemblePredictor


@dataclass(frozen=True)
class Predictor:
    """An ensemble with its task, its metric and the folders of its models."""

    task: Task
    schema: Schema
    metric: Metric
    classes: NDArray[Any] | None  # labels in the order of the probabilities; None for regression
    ensemble: Ensemble
    models: Sequence[Sequence[Fitted]]  # for each member those of its folds, whose predictions are averaged
    folders: Sequence[Sequence[Path]]  # of each of these models
    threads: int = 1  # how many models predict at once, on more than a few rows

    @property
    def blend(self) -> EnsemblePredictor:
        """What predicts."""
        return EnsemblePredictor(self.schema, self.classes, self.ensemble, self.models, self.threads)

    def predict_raw(self, table: Table) -> Floats:
        """Predict probabilities of shape (n, n_classes), or numbers of shape (n,)."""
        return self.blend.predict_raw(table)

    def predict(self, table: Table) -> NDArray[Any]:
        """Predict labels, chosen with the decision weights, or numbers; shape (n,)."""
        return self.blend.predict_table(table)
