"""What looks suspicious in the training data: duplicates, leaks (columns that reveal the target), identifiers, classes.

Notation: n rows. `columns` maps the name of a column to its positions in the matrix of the encoded table.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.target import similar_labels
from windvane.errors import some_of
from windvane.evaluation.columns.identifiers import MAX_TREE_ROWS, score_column
from windvane.pages.texts import counted
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats, Integers, Table

MAX_ROWS = 200_000  # compared for duplicates
MAX_SECONDS = 5.0  # for the trees on one column each
NEARLY_PERFECT = 0.99  # ROC AUC or R2 of one column alone
RARE_CLASS_ROWS = 20
IMBALANCE = 0.02  # rows of the rarest class over those of the most frequent one
MAX_NAMED = 8
MANY_VALUES, MANY_DISTINCT = 100, 0.1  # of a category: values, and their share of the rows


@dataclass(frozen=True)
class DuplicateRows:
    """Rows that occur more than once."""

    n_compared: int
    n_repeated: int  # rows that equal an earlier row
    n_contradicting: int  # rows that equal a row with another target


def row_hashes(table: Table) -> NDArray[np.uint64]:  # (n,)
    """Digest every row, so that equal rows are found quickly."""
    total = np.zeros(table.n_rows, dtype=np.uint64)
    factor = np.uint64(1_000_003)
    for j in range(table.matrix.shape[1]):
        total = total * factor + pd.util.hash_array(np.ascontiguousarray(table.matrix[:, j]) + 0.0)
    for text in table.texts:
        total = total * factor + pd.util.hash_array(text.astype(object))
    if table.sparse is not None:
        matrix = table.sparse
        value = pd.util.hash_array(matrix.data + 0.0) * (matrix.indices.astype(np.uint64) * np.uint64(2) + np.uint64(1))
        ends = np.append(np.uint64(0), np.cumsum(value, dtype=np.uint64))  # overflows, and so does the difference
        total = total * factor + (ends[matrix.indptr[1:]] - ends[matrix.indptr[:-1]])
    return total


def find_duplicates(table: Table, target: NDArray[Any]) -> DuplicateRows:
    """Count the duplicates among the first `MAX_ROWS` rows."""
    few = np.arange(min(table.n_rows, MAX_ROWS))
    rows = pd.DataFrame({"row": row_hashes(table.take(few)), "target": target[few]})
    groups = rows.groupby("row")["target"]
    contradicting = groups.transform("nunique").to_numpy() > 1
    return DuplicateRows(len(few), int(rows["row"].duplicated().sum()), int(contradicting.sum()))


def count_shared_rows(table: Table, other: Table) -> int:
    """Number of rows of `other` that are among the first `MAX_ROWS` rows of `table`."""
    few = np.arange(min(table.n_rows, MAX_ROWS))
    return int(np.isin(row_hashes(other), row_hashes(table.take(few))).sum())


def single_column_scores(
    table: Table, target: NDArray[Any], n_classes: int, columns: Mapping[str, Sequence[int]], seed: int
) -> dict[str, float]:
    """How well each column alone predicts the target: ROC AUC (mean of each class against the rest) or R2.

    A small tree learns from one half of a sample and is evaluated on the other. Columns for which the time does not
    suffice are missing.
    """
    rows = np.random.default_rng(seed).permutation(table.n_rows)[:MAX_TREE_ROWS]
    matrix, target = np.asarray(table.matrix[np.sort(rows)]), target[np.sort(rows)]
    half = np.random.default_rng(seed + 1).permutation(len(rows)) < len(rows) // 2  # (m,), rows to learn from
    if n_classes and len(np.unique(target[half])) < 2:
        return {}
    found: dict[str, float] = {}
    end = time.monotonic() + MAX_SECONDS
    for name, positions in columns.items():
        if time.monotonic() > end:
            break
        found[name] = score_column(matrix[:, positions], target, half, n_classes)
    return found


def find_data_issues(
    table: Table,
    schema: Schema,
    target: NDArray[Any] | None,
    column_scores: Mapping[str, float],
    labels: Sequence[str],
    *,
    ids: Sequence[str],
    left_out_ids: Collection[str] = (),
) -> list[str]:
    """One or two sentences for each issue, the most serious first; without a target, of the columns alone.

    `ids` are the columns that look like identifiers; those in `left_out_ids` are not reported.
    """
    columns = _column_issues(table, schema, ids, left_out_ids)
    if target is None:
        return [*_duplicate_issues(find_duplicates(table, np.zeros(table.n_rows))), *columns]
    return [
        *_leak_issues(column_scores, "ROC AUC" if labels else "R²"),
        *_duplicate_issues(find_duplicates(table, target)),
        *columns,
        *(_class_issues(target, labels) if labels else _regression_target_issues(target)),
    ]


def _leak_issues(column_scores: Mapping[str, float], measure: str) -> list[str]:
    leaks = [name for name, score in column_scores.items() if score >= NEARLY_PERFECT]
    leaks.sort(key=lambda name: -column_scores[name])
    issues = [
        f"“{name}” alone predicts the target almost perfectly ({measure} {column_scores[name]:.3f}). "
        "Is it known when you predict, or does it reveal the target?"
        for name in leaks[:3]
    ]
    if len(leaks) > 3:
        also = counted(len(leaks) - 3, "more column")
        issues.append(f"{also} predict{'s' * (len(leaks) == 4)} the target almost perfectly.")
    return issues


def _duplicate_issues(found: DuplicateRows) -> list[str]:
    if not found.n_repeated:
        return []
    share = found.n_repeated / found.n_compared
    of = "" if found.n_compared < MAX_ROWS else f" of the first {found.n_compared:,}"
    repeat = "repeats" if found.n_repeated == 1 else "repeat"
    text = f"{counted(found.n_repeated, 'row')}{of} ({share:.1%}) {repeat} an earlier row in every column."
    if share >= 0.01:
        text += " Equal rows in training and validation set make the score optimistic; groups= keeps them together."
    if found.n_contradicting:
        text += f" {found.n_contradicting:,} rows equal a row with another target: no model can get all of them right."
    return [text]


def _column_issues(table: Table, schema: Schema, ids: Sequence[str], left_out_ids: Collection[str]) -> list[str]:
    n, texts = table.n_rows, list[str]()
    reported = [name for name in ids if name not in left_out_ids]
    if reported:
        names = some_of(reported, MAX_NAMED)
        texts.append(f"{names}: another value in (nearly) every row, like an identifier. Ignore it if it is one.")
    texts += [f"{some_of(names, MAX_NAMED)}: {reason}, not used." for reason, names in schema.dropped_columns.items()]
    many = [
        f"{column.name} ({column.n_unique:,} values)"
        for column in schema.columns
        if column.kind == "category"
        and column.name not in ids
        and (column.n_unique or 0) > max(MANY_VALUES, MANY_DISTINCT * n)
    ]
    if many:
        texts.append(
            f"{some_of(many, MAX_NAMED)}: many distinct values for {n:,} rows; new ones count as unknown at prediction."
        )
    gone = [f"{column.name} ({column.n_missing / n:.0%})" for column in schema.columns if column.n_missing > 0.5 * n]
    if gone:
        texts.append(f"{some_of(gone, MAX_NAMED)}: more than half of the values are missing.")
    return texts


def _class_issues(target: Integers, labels: Sequence[str]) -> list[str]:
    counts, similar = np.bincount(target, minlength=len(labels)), similar_labels(labels)
    rare = [f"{labels[i]} ({counts[i]:,})" for i in np.argsort(counts) if counts[i] < RARE_CLASS_ROWS]
    if rare:
        text = f"Fewer than {RARE_CLASS_ROWS} rows of {some_of(rare, MAX_NAMED)}: scores on them are uncertain."
        return [*similar, text]
    if counts.min() < IMBALANCE * counts.max():
        i, j = int(counts.argmin()), int(counts.argmax())
        return [
            *similar,
            f"Classes are unbalanced: {counts[i]:,} rows of “{labels[i]}”, {counts[j]:,} of “{labels[j]}”. Accuracy "
            "is misleading here; roc_auc, average_precision or balanced_accuracy are not.",
        ]
    return similar


def _regression_target_issues(target: Floats) -> list[str]:
    values, counts = np.unique(target, return_counts=True)
    share, spread = counts.max() / len(target), float(target.std())
    if share >= 0.2 and len(values) > 2:
        return [f"{share:.0%} of the targets are exactly {values[counts.argmax()]:g}."]
    if spread > 0 and np.mean(((target - target.mean()) / spread) ** 3) > 5:
        return [
            "The target has a long tail of large values; they dominate rmse. A model of its logarithm may do better."
        ]
    return []
