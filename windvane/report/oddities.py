"""What is odd about the data: duplicates, columns that give the target away, identifiers, rare classes and the like.

Notation: n rows; a column of the user's table is one or more columns of the matrix of a `Table` (a date is taken
apart), or one of its texts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from windvane.data.scores import r2, roc_auc
from windvane.runtime.schema import Schema
from windvane.runtime.table import Floats, Integers, Table
from windvane.search.problem import Problem

MOST_ROWS = 200_000  # looked at for duplicates
MOST_TREE_ROWS = 4_000  # that a tree on one column learns from and is judged on
MOST_SECONDS = 5.0  # for these trees
NEARLY_PERFECT = 0.99  # ROC AUC or R2 of one column alone
FEW_OF_A_CLASS = 20
RARE = 0.02  # share of the rows of the most frequent class
MOST_NAMED = 8
MANY_VALUES, MANY_DISTINCT = 100, 0.1  # a category of high cardinality: values, and share of the rows
NEARLY_ALL = 0.95


@dataclass(frozen=True)
class Duplicates:
    """Rows that occur more than once.

    Attributes
    ----------
    looked_at
        Rows that were compared.
    repeated
        Rows that have an equal one before them.
    contradicting
        Rows whose equals have another target.
    """

    looked_at: int
    repeated: int
    contradicting: int


def places(schema: Schema) -> dict[str, list[int]]:
    """Find where the columns of a table stand in the matrix of the encoded one.

    Parameters
    ----------
    schema
        Of the training table.

    Returns
    -------
    dict
        Name -> columns of the matrix, in its order: numbers, parts of dates, durations, categories. Texts and dropped
        columns are left out.
    """
    found: dict[str, list[int]] = {}
    start = 0
    for kind in ("number", "date", "duration", "category"):
        for column in schema.columns:
            if column.kind == kind:
                width = len(column.parts) if kind == "date" else 1
                found[column.name] = list(range(start, start + width))
                start += width
    return found


def row_hashes(table: Table) -> NDArray[np.uint64]:  # (n,)
    """Digest every row, so that equal rows are found quickly.

    Parameters
    ----------
    table
        n rows.

    Returns
    -------
    ndarray
        Equal for equal rows; missing values are equal to each other.
    """
    total = np.zeros(table.n_rows, dtype=np.uint64)
    factor = np.uint64(1_000_003)
    for j in range(table.matrix.shape[1]):
        total = total * factor + pd.util.hash_array(np.ascontiguousarray(table.matrix[:, j]) + 0.0)
    for text in table.texts:
        total = total * factor + pd.util.hash_array(text.astype(object))
    if table.sparse is not None:
        matrix = table.sparse
        value = pd.util.hash_array(matrix.data + 0.0) * (matrix.indices.astype(np.uint64) * np.uint64(2) + np.uint64(1))
        ends = np.append(np.uint64(0), np.cumsum(value, dtype=np.uint64))  # wraps around, and so does the difference
        total = total * factor + (ends[matrix.indptr[1:]] - ends[matrix.indptr[:-1]])
    return total


def find_duplicates(table: Table, target: NDArray[Any]) -> Duplicates:
    """Count the rows that repeat another.

    Parameters
    ----------
    table, target
        n rows; the first `MOST_ROWS` are compared.

    Returns
    -------
    Duplicates
        The counts.
    """
    few = np.arange(min(table.n_rows, MOST_ROWS))
    rows = pd.DataFrame({"row": row_hashes(table.take(few)), "target": target[few]})
    groups = rows.groupby("row")["target"]
    contradicting = groups.transform("nunique").to_numpy() > 1
    return Duplicates(len(few), int(rows["row"].duplicated().sum()), int(contradicting.sum()))


def shared_rows(table: Table, other: Table) -> int:
    """Count the rows of another table that occur in this one.

    Parameters
    ----------
    table, other
        Of one schema.

    Returns
    -------
    int
        Rows of `other`.
    """
    few = np.arange(min(table.n_rows, MOST_ROWS))
    return int(np.isin(row_hashes(other), row_hashes(table.take(few))).sum())


def powers(problem: Problem, columns: Mapping[str, Sequence[int]], seed: int) -> dict[str, float]:
    """Measure how well each column alone tells the target: a small tree learns on one half of a sample.

    Parameters
    ----------
    problem
        Table and target.
    columns
        From `places`.
    seed
        Of the sample.

    Returns
    -------
    dict
        Name -> ROC AUC (mean of each class against the rest) or R2 on the other half. Columns for which
        `MOST_SECONDS` did not suffice are not there.
    """
    rows = np.random.default_rng(seed).permutation(problem.table.n_rows)[:MOST_TREE_ROWS]
    matrix, target = np.asarray(problem.table.matrix[np.sort(rows)]), problem.target[np.sort(rows)]
    half = np.random.default_rng(seed + 1).permutation(len(rows)) < len(rows) // 2  # (m,), the rows to learn from
    if problem.task.is_classification and len(np.unique(target[half])) < 2:
        return {}
    found: dict[str, float] = {}
    end = time.monotonic() + MOST_SECONDS
    for name, where in columns.items():
        if time.monotonic() > end:
            break
        found[name] = _power(matrix[:, where], target, half, problem.task.n_classes)
    return found


def _power(values: Floats, target: NDArray[Any], half: NDArray[np.bool_], n_classes: int) -> float:
    settings = {"min_samples_leaf": 3, "max_leaf_nodes": max(32, 2 * n_classes), "random_state": 0}
    if n_classes == 0:
        tree = DecisionTreeRegressor(**settings).fit(values[half], target[half])
        return r2(target[~half].astype(float), tree.predict(values[~half]))
    tree = DecisionTreeClassifier(**settings).fit(values[half], target[half])
    probabilities = np.zeros(((~half).sum(), n_classes))
    probabilities[:, tree.classes_] = tree.predict_proba(values[~half])
    return roc_auc(target[~half], probabilities)


def identifiers(schema: Schema, table: Table, columns: Mapping[str, Sequence[int]]) -> list[str]:
    """Find columns that number or name the rows.

    Parameters
    ----------
    schema, table
        Of the training data.
    columns
        From `places`.

    Returns
    -------
    list of str
        Categories with another value in nearly every row, and whole numbers that count the rows.
    """
    n = table.n_rows
    found = []
    for column in schema.columns:
        if column.kind == "category" and n >= FEW_OF_A_CLASS:
            if (column.distinct or 0) >= NEARLY_ALL * max(n - column.missing, 1):
                found.append(column.name)
        elif column.kind == "number" and column.missing == 0 and n > MANY_VALUES:
            values = np.asarray(table.matrix[:, columns[column.name][0]])
            counting = values.max() - values.min() < 1.5 * n and (values == np.floor(values)).all()
            if counting and len(np.unique(values)) == n:
                found.append(column.name)
    return found


def remarks(problem: Problem, schema: Schema, alone: Mapping[str, float], labels: Sequence[str]) -> list[str]:
    """Say in words what is odd about the training data.

    Parameters
    ----------
    problem, schema
        The training data.
    alone
        From `powers`.
    labels
        Names of the classes.

    Returns
    -------
    list of str
        One sentence or two each, the gravest first; empty where nothing is odd.
    """
    return [
        *_about_leaks(problem, alone),
        *_about_duplicates(find_duplicates(problem.table, problem.target)),
        *_about_columns(problem, schema),
        *(_about_classes(problem.target, labels) if labels else _about_numbers(problem.target)),
    ]


def _about_leaks(problem: Problem, alone: Mapping[str, float]) -> list[str]:
    measure = "ROC AUC" if problem.task.is_classification else "R²"
    leaks = sorted((name for name, power in alone.items() if power >= NEARLY_PERFECT), key=lambda name: -alone[name])
    return [
        f"“{name}” alone predicts the target almost perfectly ({measure} {alone[name]:.3f}). "
        "Is it known at the moment you predict, or does it give the answer away?"
        for name in leaks[:3]
    ] + ([f"{len(leaks) - 3} more columns predict the target almost perfectly on their own."] if len(leaks) > 3 else [])


def _about_duplicates(found: Duplicates) -> list[str]:
    if not found.repeated:
        return []
    share = found.repeated / found.looked_at
    of = "" if found.looked_at < MOST_ROWS else f" of the first {found.looked_at:,}"
    rows = "1 row" if found.repeated == 1 else f"{found.repeated:,} rows"
    text = f"{rows}{of} ({share:.1%}) repeat{'s' * (found.repeated == 1)} an earlier row in every column."
    if share >= 0.01:
        text += " Equal rows on both sides of a fold flatter the validation score; groups= keeps them together."
    if found.contradicting:
        text += (
            f" {found.contradicting:,} rows have an equal row with another target: no model gets all of these right."
        )
    return [text]


def _about_columns(problem: Problem, schema: Schema) -> list[str]:
    n, texts = problem.table.n_rows, []
    ids = identifiers(schema, problem.table, places(schema))
    if ids:
        texts.append(
            f"{_named(ids)}: another value in (nearly) every row, like an identifier. Leave it out if it is one."
        )
    dropped = [column.name for column in schema.columns if column.kind == "dropped"]
    if dropped:
        texts.append(f"{_named(dropped)}: constant or empty, not learned from.")
    many = [
        f"{column.name} ({column.distinct:,} values)"
        for column in schema.columns
        if column.kind == "category"
        and column.name not in ids
        and (column.distinct or 0) > max(MANY_VALUES, MANY_DISTINCT * n)
    ]
    if many:
        texts.append(f"{_named(many)}: many distinct values for {n:,} rows; new ones count as unknown at prediction.")
    gone = [f"{column.name} ({column.missing / n:.0%})" for column in schema.columns if column.missing > 0.5 * n]
    if gone:
        texts.append(f"{_named(gone)}: more than half of the values are missing.")
    return texts


def _about_classes(target: Integers, labels: Sequence[str]) -> list[str]:
    counts = np.bincount(target, minlength=len(labels))
    rare = [f"{labels[i]} ({counts[i]:,})" for i in np.argsort(counts) if counts[i] < FEW_OF_A_CLASS]
    if rare:
        return [f"Fewer than {FEW_OF_A_CLASS} rows of {_named(rare)}: scores on them are uncertain."]
    if counts.min() < RARE * counts.max():
        i, j = int(counts.argmin()), int(counts.argmax())
        return [
            f"Classes are unbalanced: {counts[i]:,} rows of “{labels[i]}”, {counts[j]:,} of “{labels[j]}”. Accuracy "
            "says little here; roc_auc, average_precision or balanced_accuracy say more."
        ]
    return []


def _about_numbers(target: Floats) -> list[str]:
    values, counts = np.unique(target, return_counts=True)
    share, spread = counts.max() / len(target), float(target.std())
    if share >= 0.2 and len(values) > 2:
        return [f"{share:.0%} of the targets are exactly {values[counts.argmax()]:g}."]
    if spread > 0 and np.mean(((target - target.mean()) / spread) ** 3) > 5:
        return [
            "The target has a long tail of large values; they dominate rmse. A model of its logarithm may do better."
        ]
    return []


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
