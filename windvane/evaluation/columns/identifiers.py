"""Columns that name a row, such as a customer's number: another value in nearly every row, and no use on new rows.

Notation: n rows; `n_classes` is 0 for regression.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from windvane.data.column_types import leave_out
from windvane.evaluation.metric_functions import r2, roc_auc
from windvane.runtime.columns.column import Column
from windvane.runtime.columns.encoder import float32
from windvane.runtime.columns.schema import IDENTIFIER, Schema, name_text
from windvane.runtime.columns.table import Floats, Table

NEARLY_ALL = 0.95  # share of the values of a column that are distinct
MIN_ROWS, MIN_COUNTED_ROWS = 20, 100  # fewer values are often distinct by chance: of texts, of whole numbers
MIN_DIGITS = 7  # of numbers that are all equally long, as the numbers of customers are
MAX_TREE_ROWS = 4_000  # for a tree on one column: one half to learn from, the other to evaluate
SEED = 20_261_130  # no seed of a user, whose shuffled numbers would follow the halves
MIN_Z = 3.0  # standard errors from chance
_NAMES = "id|ids|uid|uuid|guid|key|index|idx|serial|rowid|row|nr|number|nummer|account|unnamed: 0"
_IDENTIFIER_NAME = re.compile(rf"(?:^|[^a-z])(?:{_NAMES})(?:$|[^a-z])")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # customerId, customerID


def find_identifiers(schema: Schema, table: Table) -> list[str]:
    """Names of the columns that look like identifiers: texts and whole numbers that (nearly) all differ."""
    places = schema.matrix_places
    return [
        column.name
        for column in schema.columns
        if column.kind in ("category", "number")
        and _looks_like_identifier(column, table.matrix[:, places[column.name][0]])
    ]


def useless_columns(
    names: Sequence[str], schema: Schema, table: Table, target: NDArray[Any], n_classes: int
) -> list[str]:
    """Return the columns that say nothing about any target on rows that were not learned from."""
    if target.ndim == 2:
        for one in target.T:
            names = useless_columns(names, schema, table, one, n_classes)
        return list(names)
    rng = np.random.default_rng(SEED)
    rows = np.sort(rng.permutation(table.n_rows)[:MAX_TREE_ROWS])
    half = rng.permutation(len(rows)) < len(rows) // 2  # (m,), rows to learn from
    matrix, places = np.asarray(table.matrix[rows]), schema.matrix_places
    return [name for name in names if not _is_useful(matrix[:, places[name]], target[rows], half, n_classes)]


def leave_out_identifiers(
    schema: Schema,
    ids: Sequence[str],
    table: Table,
    target: NDArray[Any],
    n_classes: int,
    column_types: Mapping[str, str] | None,
) -> tuple[Schema, list[str], list[str]]:
    """Drop the columns out of `ids` that do not help to predict new rows, unless the user declared their types.

    Also return the names of those that were tested, and of those that help.
    """
    declared = set(map(name_text, column_types or ()))
    tested = [name for name in ids if name not in declared]
    useless = useless_columns(tested, schema, table, target, n_classes)
    if useless and all(column.kind == "dropped" or column.name in useless for column in schema.columns):
        return schema, tested, []  # nothing else could be learned from
    useful = [name for name in tested if name not in useless]
    why = {column.name: column.category_reason for column in schema.columns}
    reasons = {
        name: IDENTIFIER if why[name] is None else f"{why[name]}; as a category {IDENTIFIER}" for name in useless
    }
    return leave_out(schema, reasons) if reasons else schema, tested, useful


def identifier_doubts(names: Sequence[str]) -> list[str]:
    """Return a warning for each column that looks like an identifier and yet is learned from."""
    return [
        f"Column {name!r} looks like an identifier, but predicts the target, as the number of a row does in a sorted "
        "table. It is learned from; ignore= (--ignore) leaves it out."
        for name in names
    ]


def score_column(values: Floats, target: NDArray[Any], half: NDArray[np.bool_], n_classes: int) -> float:
    """ROC AUC (mean of each class against the rest), or R2, of a small tree that learned from one half of the rows."""
    predicted = _predict_half(values, target, half, n_classes)
    return roc_auc(target[~half], predicted) if n_classes else r2(target[~half].astype(float), predicted)


@np.errstate(over="ignore", invalid="ignore")  # scikit-learn adds up all numbers, which may be the largest
def _predict_half(values: Floats, target: NDArray[Any], half: NDArray[np.bool_], n_classes: int) -> Floats:
    settings: dict[str, Any] = {"min_samples_leaf": 3, "max_leaf_nodes": max(32, 2 * n_classes), "random_state": 0}
    values = float32(values)
    if n_classes == 0:
        tree = DecisionTreeRegressor(**settings).fit(values[half], target[half])
        return np.asarray(tree.predict(values[~half]))
    with catch_warnings():
        simplefilter("ignore", UserWarning)  # of scikit-learn, on targets with about as many classes as rows
        classifier = DecisionTreeClassifier(**settings).fit(values[half], target[half])
    probabilities = np.zeros(((~half).sum(), n_classes))
    probabilities[:, classifier.classes_] = classifier.predict_proba(values[~half])
    return probabilities


def _is_useful(values: Floats, target: NDArray[Any], half: NDArray[np.bool_], n_classes: int) -> bool:
    """Whether either half predicts the other better than chance."""
    for learned in (half, ~half):
        if n_classes and len(np.unique(target[learned])) < 2:
            continue
        predicted, left = _predict_half(values, target, learned, n_classes), target[~learned]
        if n_classes:
            rarest = min(count for count in np.bincount(left, minlength=n_classes) if count)
            error = float(np.sqrt((len(left) + 1) / (12 * max(1, rarest) * max(1, len(left) - rarest))))
            useful = roc_auc(left, predicted) > 0.5 + MIN_Z * error
        else:
            spread = float(np.std(predicted) * np.std(left.astype(float)))
            covariance = float(np.mean((predicted - predicted.mean()) * (left - left.mean())))
            useful = spread > 0 and covariance / spread > MIN_Z / np.sqrt(len(left))
        if useful:
            return True
    return False


def _looks_like_identifier(column: Column, values: Floats) -> bool:
    n_rows = len(values)
    present = values[np.isfinite(values)]
    if column.kind == "category":
        return n_rows >= MIN_ROWS and (column.n_unique or 0) >= NEARLY_ALL * max(n_rows - column.n_missing, 1)
    is_named_so = _IDENTIFIER_NAME.search(_HUMP.sub("_", column.name).lower()) is not None
    if len(present) < (MIN_ROWS if is_named_so else MIN_COUNTED_ROWS) or (present != np.floor(present)).any():
        return False
    distinct = np.unique(present)
    if len(distinct) < NEARLY_ALL * len(present):
        return False
    if is_named_so:
        return True
    # Measured numbers repeat by chance: as often, at least, as draws from a range of this width.
    width = float(distinct[-1] - distinct[0] + 1)
    expected = len(present) + width * np.expm1(len(present) * np.log1p(-1 / width)) if width > 1 else 0.0
    if expected - (len(present) - len(distinct)) > MIN_Z * np.sqrt(max(expected, 1.0)):
        return True
    digits = np.floor(np.log10(np.maximum(np.abs(distinct[[0, -1]]), 1)))
    return bool(len(distinct) == len(present) and distinct[0] > 0 and digits[0] == digits[1] >= MIN_DIGITS - 1)
