"""Small tables with every kind of column, and what the tests of all families ask of a model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse as sp

from windvane.data.task import Kind, Task
from windvane.models.base import DataSplit, Family, Model, TrainingContext
from windvane.runtime.columns.table import Table

CLASSES: dict[Kind, int] = {"binary": 2, "multiclass": 3, "regression": 0}


@dataclass(frozen=True)
class Case:
    """A training set, a validation set and rows to predict, of one problem."""

    context: TrainingContext
    train: DataSplit
    validation: DataSplit
    test: DataSplit

    def create_model(
        self, family: Family, config: dict[str, Any] | None = None, checkpoint: Path | None = None
    ) -> Model:
        return family.create_model(config or {}, self.train, self.validation, self.context, checkpoint)

    def loss(self, found: Any) -> float:
        """Log loss (cut off, since a small forest is sure of much) or relative squared error of the test part."""
        target = self.test.target
        if not self.context.task.is_classification:
            return float(np.mean((found - target) ** 2) / np.var(target))
        return float(-np.mean(np.log(np.clip(found[np.arange(len(target)), target], 0.02, 1))))


def make_table(n: int, rng: np.random.Generator, *, texts: bool = False, sparse: bool = False) -> Table:
    """Make 4 numbers (the last all missing), a small and a large category, with missing values in all."""
    numbers = rng.normal(size=(n, 4)) * [1, 10, 1e3, 1] + [0, 5, 0, 0]
    numbers[rng.random((n, 4)) < 0.1] = np.nan
    numbers[:, 3] = np.nan
    codes = np.column_stack([rng.integers(0, 4, n), np.minimum(rng.geometric(0.1, n) - 1, 59)]).astype(float)
    codes[rng.random((n, 2)) < 0.05] = np.nan
    words = np.array(["red", "green", "blue", "", "a longer text of several words"], dtype=object)
    return Table(
        matrix=np.hstack([numbers, codes]),
        n_numbers=4,
        cardinalities=(4, 60),
        texts=(words[rng.integers(0, 5, n)],) if texts else (),
        sparse=sp.csr_matrix(sp.random(n, 12, 0.2, format="csr", random_state=1)) if sparse else None,
    )


def make_case(kind: Kind, *, n: int = 600, seed: int = 0, texts: bool = False, sparse: bool = False) -> Case:
    """Make a problem whose target depends on numbers and both categories."""
    rng = np.random.default_rng(seed)
    table = make_table(n, rng, texts=texts, sparse=sparse)
    signal = np.nan_to_num(table.matrix)
    score = signal[:, 0] + signal[:, 1] / 10 + 0.5 * (signal[:, 4] == 2) + np.sin(signal[:, 5]) + rng.normal(size=n) / 3
    target: Any = 50 + 20 * score
    if kind != "regression":
        target = np.searchsorted(np.quantile(score, np.arange(1, CLASSES[kind]) / CLASSES[kind]), score).astype(
            np.int64
        )
    part = DataSplit(table, target)
    fold = np.arange(n) % 5
    task = Task(kind, n_rows=n, n_columns=table.n_columns, n_classes=CLASSES[kind])
    test, validation, train = (part.take(np.flatnonzero(chosen)) for chosen in (fold == 0, fold == 1, fold > 1))
    return Case(TrainingContext(task, seed=3), train, validation, test)


def unseen(table: Table) -> Table:
    """Replace every category by a value that no training saw, and every number by nothing."""
    matrix = np.full(table.matrix.shape, np.nan)
    matrix[:, table.n_numbers :] = table.cardinalities
    return replace(table, matrix=matrix)
