"""Detect where random folds flatter rows with dates: compare small models on random rows and on the latest rows.

Notation: n rows, m of them in the comparison.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.generated import train_small_booster
from windvane.data.task import Task
from windvane.evaluation.metrics import Metric
from windvane.evaluation.score_text import score_text
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Integers, Table

MIN_ROWS, MAX_ROWS = 300, 4_000  # m
MAX_CELLS = 200_000  # m x columns: some tenths of a second
MIN_DATES = 20  # fewer distinct dates are hardly an order of rows
MAX_MISSING = 0.05  # share of rows without a date
LATEST = 1 / 3  # share of the rows that is predicted
MIN_RATIO = 1.2  # of mean squared errors or log losses
MIN_Z = 3.0  # standard errors between the two
SEED = 20_261_130
TINY = 1e-6  # probability


def random_folds_flatter(schema: Schema, table: Table, target: NDArray[Any], task: Task, metric: Metric) -> str | None:
    """Return a warning where a model predicts random rows much better than the latest ones; None otherwise."""
    if table.matrix.shape[1] == 0 or table.n_rows < MIN_ROWS:
        return None
    ordering = _ordering_column(schema, table)
    n_rows = min(table.n_rows, MAX_ROWS, MAX_CELLS // table.matrix.shape[1])
    if ordering is None or n_rows < MIN_ROWS:
        return None
    name, days = ordering
    rng = np.random.default_rng(SEED)
    rows = rng.permutation(np.flatnonzero(np.isfinite(days)))[:n_rows]  # (m,)
    rows = rows[np.argsort(days[rows], kind="stable")]
    cut = int(np.searchsorted(days[rows], days[rows[int(len(rows) * (1 - LATEST))]]))  # between two dates
    shuffled = rng.permutation(rows)
    if cut < len(rows) // 3 or len(np.unique(days[rows])) < MIN_DATES:
        return None
    on_random = _errors(table, target, task, shuffled[:cut], shuffled[cut:])
    on_latest = _errors(table, target, task, rows[:cut], rows[cut:])
    if on_random is None or on_latest is None:
        return None
    (random, random_prediction), (latest, latest_prediction) = on_random, on_latest
    standard_error = float(np.hypot(random.std(), latest.std()) / np.sqrt(len(latest)))
    if latest.mean() < MIN_RATIO * random.mean() or latest.mean() - random.mean() < MIN_Z * standard_error:
        return None
    random_score = score_text(metric, metric.score(metric.loss(target[shuffled[cut:]], random_prediction)))
    latest_score = score_text(metric, metric.score(metric.loss(target[rows[cut:]], latest_prediction)))
    return (
        f"Column {name!r} dates the rows, and validation on random rows may flatter: a small model reaches "
        f"{random_score} on random rows, but {latest_score} on the latest third. If later rows are to be predicted, "
        f"time={name!r} (--time-column) validates on later rows."
    )


def _ordering_column(schema: Schema, table: Table) -> tuple[str, Floats] | None:  # name, (n,)
    """Return the dates that follow the order of rows best, as days."""
    dates = [
        column
        for column in schema.columns
        if column.kind == "date"
        and "days" in column.parts
        and (column.n_unique or 0) >= MIN_DATES
        and column.n_missing <= MAX_MISSING * table.n_rows
    ]
    if not dates:
        return None
    places = schema.matrix_places
    found: list[tuple[float, str, Floats]] = []
    for column in dates:
        days = np.asarray(table.matrix[:, places[column.name][column.parts.index("days")]])
        known = np.flatnonzero(np.isfinite(days))
        found.append((float(np.abs(np.corrcoef(days[known], known)[0, 1])), column.name, days))
    return max(found, key=lambda one: one[0])[1:]


def _errors(
    table: Table, target: NDArray[Any], task: Task, train: Integers, test: Integers
) -> tuple[Floats, Floats] | None:
    """Return the error of each row of a test set and the predictions; None if training lacks a class."""
    if task.is_classification and len(np.unique(target[train])) < task.n_classes:
        return None
    matrix = np.asarray(table.matrix)
    categories = list(range(table.n_numbers, matrix.shape[1]))
    truth = target[test]
    if not task.is_classification:
        center, scale = target[train].mean(), target[train].std() or 1.0
        booster = train_small_booster(matrix[train], (target[train] - center) / scale, task, categories, SEED)
        predicted = center + scale * np.asarray(booster.predict(matrix[test]))
        return ((truth - predicted) / scale) ** 2, predicted
    booster = train_small_booster(matrix[train], target[train], task, categories, SEED)
    predicted = np.asarray(booster.predict(matrix[test]))
    probabilities = np.column_stack([1 - predicted, predicted]) if task.n_classes == 2 else predicted
    return -np.log(probabilities[np.arange(len(test)), truth].clip(TINY)), probabilities
