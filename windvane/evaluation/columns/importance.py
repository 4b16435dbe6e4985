"""Permutation importance: how much the score drops when a column is shuffled (Breiman 2001; Fisher et al. 2019).

Columns are shuffled in the encoded table, which the models read: the same as shuffling the user's columns, since every
column is encoded for itself and row by row.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils import check_random_state

from windvane.data.files import to_frame
from windvane.errors import InputError, check_choice, some_of, warn_user
from windvane.evaluation.metrics import Metric
from windvane.evaluation.predictions import FittedEnsemble, Predictions
from windvane.pages.texts import counted
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Integers, Table

MAX_ROWS = 5_000
N_REPEATS = 5
CORRELATED = "correlated"
MIN_CORRELATION = 0.8
MAX_CORRELATED = 3_000  # columns; their correlations are a square matrix
MAX_NAMED = 3  # columns in the name of a group


@dataclass(frozen=True)
class EncodedColumn:
    """Where a column of the user's table, or a group of them, is in the encoded one; nowhere if no model reads it."""

    matrix: tuple[int, ...] = ()  # columns of `Table.matrix`; several for the parts of a date
    texts: tuple[int, ...] = ()  # positions in `Table.texts`

    @property
    def is_read(self) -> bool:
        return bool(self.matrix or self.texts)

    @classmethod
    def together(cls, columns: Iterable[EncodedColumn]) -> EncodedColumn:
        """Return several columns as one."""
        some = list(columns)
        return cls(
            tuple(place for column in some for place in column.matrix),
            tuple(place for column in some for place in column.texts),
        )


def encoded_columns(schema: Schema) -> dict[str, EncodedColumn]:
    """Name -> place of every column, in the order of the encoded table; texts and dropped columns are last."""
    found = {name: EncodedColumn(tuple(places)) for name, places in schema.matrix_places.items()}
    texts = [column.name for column in schema.columns if column.kind == "text"]
    found |= {name: EncodedColumn(texts=(i,)) for i, name in enumerate(texts)}
    return found | {column.name: EncodedColumn() for column in schema.columns if column.kind == "dropped"}


@dataclass(frozen=True)
class Importance:
    """Result of `permutation_importance`."""

    drops: Mapping[str, tuple[float, float]]  # name -> mean and standard deviation of the drop, largest mean first
    n_rows: int
    n_repeats: int  # of the column that was shuffled least often
    n_omitted: int = 0  # columns for which the time did not suffice

    def to_frame(self) -> pd.DataFrame:
        """Columns importance and std, one row for each column of the table."""
        index = pd.Index(list(self.drops), name="column")
        return pd.DataFrame(list(self.drops.values()), index=index, columns=["importance", "std"], dtype=np.float64)


def permutation_importance(
    predictions: Predictions,
    metric: Metric,
    columns: Mapping[str, EncodedColumn],
    *,
    n_repeats: int = N_REPEATS,
    max_rows: int = MAX_ROWS,
    max_seconds: float = math.inf,
    seed: int = 0,
    on_column: Callable[[int, int], None] = lambda done, total: None,
) -> Importance | None:
    """Shuffle one column after the other, `n_repeats` times each, on at most `max_rows` rows.

    With a time limit every column is shuffled once before any is shuffled again, in the order of `columns`. `on_column`
    is told how many shuffles of how many are done. None if nothing can be shuffled.
    """
    if predictions.predict is None or not columns:
        return None
    some = predictions.sample(max_rows, seed)
    table = some.table.take(some.rows)
    loss = some.predict_again(table).loss(metric)
    drops: dict[str, list[float]] = {}
    end, done = time.monotonic() + max_seconds, 0
    for order in _permutations(table.n_rows, n_repeats, seed):
        started = time.monotonic()
        for name, column in columns.items():
            if time.monotonic() > end:
                break
            drop = 0.0
            if column.is_read:
                drop = some.predict_again(exchange(table, table, column, order)).loss(metric) - loss
            drops.setdefault(name, []).append(drop)
            done += 1
            on_column(done, len(columns) * n_repeats)
        if time.monotonic() + (time.monotonic() - started) > end:  # the next round would not end in time
            break
    found = {name: (float(np.mean(values)), float(np.std(values))) for name, values in drops.items()}
    ranked = dict(sorted(found.items(), key=lambda item: -item[1][0]))
    return Importance(ranked, table.n_rows, min(map(len, drops.values()), default=0), len(columns) - len(drops))


def drop_column_importance(
    predictions: Predictions,
    metric: Metric,
    columns: Mapping[str, EncodedColumn],
    predict_without: Callable[[EncodedColumn, Table], Floats],  # trained with the column constant; the empty one: none
    max_seconds: float,
    on_column: Callable[[int, int], None],
) -> Importance:
    """Train without one column after the other, in the order of `columns`, and compare with training on all."""
    table = predictions.table.take(predictions.rows)
    end = time.monotonic() + max_seconds

    def loss_without(column: EncodedColumn) -> float:
        return replace(predictions, prediction=predict_without(column, table)).loss(metric)

    loss = loss_without(EncodedColumn())
    drops: dict[str, tuple[float, float]] = {}
    for name, column in columns.items():
        if time.monotonic() > end:
            break
        drops[name] = (loss_without(column) - loss if column.is_read else 0.0, math.nan)
        on_column(len(drops), len(columns))
    ranked = dict(sorted(drops.items(), key=lambda item: -item[1][0]))
    return Importance(ranked, table.n_rows, min(1, len(drops)), len(columns) - len(drops))


def feature_importance(
    model: FittedEnsemble,
    metric: Metric,
    X: Any,
    y: Any,
    n_repeats: int,
    max_seconds: float = math.inf,
    on_column: Callable[[int, int], None] = lambda done, total: None,
    *,
    groups: str | Mapping[str, Sequence[str]] | None = None,
    predict_without: Callable[[EncodedColumn, Table], Floats] | None = None,
) -> pd.DataFrame:
    """Importance of every column of X, one row each, largest first; 0 for columns that the model does not read.

    Columns of a group count as one, under the name of the group. With `predict_without` columns are dropped in
    training, otherwise shuffled. Columns for which the time does not suffice come last, without a value, and a warning
    counts them.
    """
    frame = to_frame(X)
    if not isinstance(frame, pd.DataFrame):
        raise InputError("X is a sparse matrix, whose columns cannot be shuffled one by one. Allowed: a dense table.")
    schema = model.schema
    frame = schema.with_lags(frame)
    predictions = Predictions.of_test(model, frame, y)
    encoded = encoded_columns(schema)
    places: list[int] = schema.places(frame).tolist() if schema.columns else []
    known = dict(zip(places, schema.feature_names, strict=False))
    columns = {
        str(name): encoded.get(known.get(place, ""), EncodedColumn()) for place, name in enumerate(frame.columns)
    }
    if groups is not None:
        columns = _group_columns(columns, groups, predictions.table)
    if predict_without is not None:
        n_repeats = 1
        found: Importance | None = drop_column_importance(
            predictions, metric, columns, predict_without, max_seconds, on_column
        )
    else:
        found = permutation_importance(
            predictions, metric, columns, n_repeats=n_repeats, max_seconds=max_seconds, on_column=on_column
        )
    assert found is not None
    if found.n_omitted or found.n_repeats < n_repeats:
        left = f"columns were shuffled {counted(found.n_repeats, 'time')}, not n_repeats={n_repeats}"
        if found.n_omitted:
            left = f"{found.n_omitted} of {len(columns)} columns are without a value"
        warn_user(
            f"feature_importance ended after {counted(round(max_seconds), 'second')}: {left}. A larger "
            "time_budget or fewer rows allow more.",
        )
    return found.to_frame().reindex([*found.drops, *(name for name in columns if name not in found.drops)])


def _group_columns(
    columns: Mapping[str, EncodedColumn], groups: str | Mapping[str, Sequence[str]], table: Table
) -> dict[str, EncodedColumn]:
    """Put the columns of each group together, in the place of its first column."""
    if isinstance(groups, str) and groups == CORRELATED:
        groups = {some_of(names, MAX_NAMED): names for names in correlated_columns(columns, table)}
    if not isinstance(groups, Mapping):
        raise InputError(
            f"groups={groups!r} is not usable. Allowed: {CORRELATED!r}, or group name -> names of columns."
        )
    group_of: dict[str, str] = {}
    for group, names in groups.items():
        for name in [names] if isinstance(names, str) else names:
            check_choice(f"groups[{group!r}]", name, columns)
            if name in group_of:
                raise InputError(f"groups: column {name!r} is in {group_of[name]!r} and in {group!r}.")
            group_of[name] = str(group)
    for group in groups:
        if str(group) in columns and str(group) not in group_of:
            raise InputError(f"groups has the name {group!r}, which is a column of no group. Allowed: another name.")
    members: dict[str, list[EncodedColumn]] = {}
    for name, column in columns.items():
        members.setdefault(group_of.get(name, name), []).append(column)
    return {name: EncodedColumn.together(some) for name, some in members.items()}


def correlated_columns(columns: Mapping[str, EncodedColumn], table: Table) -> list[list[str]]:
    """Find groups of numbers and dates any two of which have a rank correlation of at least `MIN_CORRELATION`."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    is_number = {name: column.matrix and max(column.matrix) < table.n_numbers for name, column in columns.items()}
    place = {name: column.matrix[0] for name, column in columns.items() if is_number[name]}
    if len(place) > MAX_CORRELATED:
        raise InputError(
            f"groups={CORRELATED!r} compares at most {MAX_CORRELATED:,} numbers, but X has {len(place):,}."
        )
    names = list(place)
    rows = np.arange(0, table.n_rows, -(-table.n_rows // MAX_ROWS))
    ranks = pd.DataFrame(np.asarray(table.matrix[rows])[:, list(place.values())]).rank()
    ranks = ranks.fillna(ranks.mean())
    varied = [i for i in range(len(names)) if ranks[i].nunique() > 1]
    if len(varied) < 2:
        return []
    distance = 1 - np.abs(np.corrcoef(ranks[varied].to_numpy().T))  # (p, p)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance.clip(0), checks=False), "complete")
    cluster = fcluster(tree, 1 - MIN_CORRELATION, "distance")
    found: dict[int, list[str]] = {}
    for i, number in zip(varied, cluster.tolist(), strict=True):
        found.setdefault(number, []).append(names[i])
    return [group for group in found.values() if len(group) > 1]


def _permutations(n_rows: int, n_repeats: int, seed: int) -> list[Integers]:
    """The orders in which scikit-learn's `permutation_importance` shuffles every column, for equal results."""
    rng = check_random_state(check_random_state(seed).randint(np.iinfo(np.int32).max + 1))
    shuffle, order, orders = np.arange(n_rows), np.arange(n_rows), []
    for _ in range(n_repeats):
        rng.shuffle(shuffle)  # scikit-learn shuffles the column that the repeat before left
        order = order[shuffle]
        orders.append(order)
    return orders


def exchange(table: Table, other: Table, column: EncodedColumn, rows: Integers | slice = slice(None)) -> Table:
    """Return a table with one column of another table of as many rows, in this order."""
    texts = tuple(other.texts[i][rows] if i in column.texts else text for i, text in enumerate(table.texts))
    if not column.matrix:
        return replace(table, texts=texts)
    matrix = table.matrix.copy()
    positions = list(column.matrix)
    matrix[:, positions] = other.matrix[:, positions][rows]
    return replace(table, matrix=matrix, texts=texts)
