"""The fitted ensemble: a table in, probabilities or numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.schema import Schema
from windvane.data.table import Floats, Table
from windvane.data.task import Task
from windvane.evaluation.calibration import apply_temperature
from windvane.evaluation.metrics import Metric
from windvane.models.base import Model
from windvane.search.ensemble import Ensemble

# A prediction is cut into pieces of this many rows, so that memory does not grow with the table.
CHUNK_ROWS = 50_000
FEW_ROWS = 500  # up to here starting threads costs more than it saves


@dataclass(frozen=True)
class Predictor:
    """Models of an ensemble with everything that a prediction needs.

    Attributes
    ----------
    task, schema, metric
        What was learned, from which columns, judged how.
    classes
        Labels in the order of the probabilities; None for regression.
    ensemble
        Members, weights, temperature and decision weights.
    models
        For each member the models of its folds, whose predictions are averaged (bagging by folds).
    folders
        Where each of these models is kept.
    threads
        How many models predict at once, on more than a few rows.
    """

    task: Task
    schema: Schema
    metric: Metric
    classes: NDArray[Any] | None
    ensemble: Ensemble
    models: Sequence[Sequence[Model]]
    folders: Sequence[Sequence[Path]]
    threads: int = 1

    def predict_raw(self, table: Table) -> Floats:
        """Blend the members.

        Parameters
        ----------
        table
            n rows.

        Returns
        -------
        ndarray
            Probabilities of shape (n, n_classes), or numbers of shape (n,).
        """
        if table.n_rows > CHUNK_ROWS:
            pieces = np.array_split(np.arange(table.n_rows), -(-table.n_rows // CHUNK_ROWS))
            return np.concatenate([self.predict_raw(table.take(rows)) for rows in pieces])
        shape = (table.n_rows, self.task.n_classes) if self.task.is_classification else (table.n_rows,)
        blend = np.zeros(shape)  # (n, k) or (n,)
        shares = [
            (member.weight / len(folds), model)
            for member, folds in zip(self.ensemble.members, self.models, strict=True)
            for model in folds
        ]
        if self.threads > 1 and table.n_rows > FEW_ROWS:
            with ThreadPoolExecutor(self.threads) as pool:  # the libraries let go of the interpreter's lock
                found = pool.map(lambda share: share[1].predict(table), shares)
                for (weight, _), prediction in zip(shares, found, strict=True):
                    blend += weight * prediction
        else:
            for weight, model in shares:
                blend += weight * model.predict(table)
        return apply_temperature(blend, self.ensemble.temperature) if self.task.is_classification else blend

    def predict(self, table: Table) -> NDArray[Any]:
        """Predict labels or numbers.

        Parameters
        ----------
        table
            n rows.

        Returns
        -------
        ndarray
            Shape (n,); labels are chosen with the decision weights.
        """
        raw = self.predict_raw(table)
        if self.classes is None:
            return raw
        return np.asarray(self.classes[self.weighted(raw).argmax(axis=1)])

    def weighted(self, probabilities: Floats) -> Floats:
        """Apply the decision weights.

        Parameters
        ----------
        probabilities
            Shape (n, n_classes).

        Returns
        -------
        ndarray
            The same shape; the largest of a row decides.
        """
        decision = self.ensemble.decision
        return probabilities if decision is None else probabilities * np.asarray(decision)
