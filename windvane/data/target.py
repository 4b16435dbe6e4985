"""The target and the weights of rows: checked, converted to numbers, and the kind of task inferred."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_array, column_or_1d

from windvane.errors import InputError
from windvane.runtime.columns.table import Floats

TaskType = Literal["classification", "regression"]

MAX_INTEGER_CLASSES = 20  # integers with more distinct values are taken for amounts
MIN_ROWS_PER_CLASS = 3


def encode_target(
    y: Any, task: TaskType, classes: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any] | None]:  # (n,), (k,)
    """Class codes (int64) and the k sorted labels, or float64 numbers and None; shape (n,).

    With the labels of training as `classes`, codes are positions among them. InputError for missing, infinite, mixed or
    unknown values, a single class, and numbers or texts that do not fit the task.
    """
    column = _column(y)
    _refuse(pd.isna(column), "missing")
    if column.dtype.kind == "f":
        _refuse(np.isinf(column), "infinite")
    if task == "regression":
        return _numbers(column), None
    return _codes(column, classes)


def infer_task(target: pd.Series) -> tuple[TaskType, str]:
    """The task that the values of a target suggest, and the reason in words; missing values are ignored."""
    present = target.dropna()
    distinct = int(present.nunique())
    if not types.is_numeric_dtype(present.dtype) or types.is_bool_dtype(present.dtype):
        return "classification", f"{distinct} distinct values that are not numbers"
    if (present != present.round()).any():
        return "regression", "numbers with fractions"
    if distinct <= MAX_INTEGER_CLASSES and (distinct == 2 or len(present) >= MIN_ROWS_PER_CLASS * distinct):
        return "classification", f"{distinct} distinct whole numbers"
    return "regression", f"{distinct} distinct whole numbers in {len(present)} rows"


def check_sample_weight(sample_weight: Any, n_rows: int) -> Floats:  # (n_rows,)
    """Float64 weights of shape (n_rows,); InputError if they are not one finite number >= 0 per row, or all zero."""
    try:
        weight = check_array(sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    except (TypeError, ValueError) as error:
        raise InputError(f"sample_weight cannot be used: {error}") from error
    if weight.shape != (n_rows,):
        raise InputError(
            f"sample_weight has the shape {weight.shape}, but must have {(n_rows,)}: a number for each row."
        )
    if (weight < 0).any():
        first = int(np.argmax(weight < 0))
        raise InputError(f"sample_weight[{first}] is {weight[first]:g}, but weights must not be negative.")
    if not weight.any():
        raise InputError("sample_weight must contain at least one weight that is not zero.")
    return np.asarray(weight)


def _column(y: Any) -> NDArray[Any]:  # (n,)
    """One-dimensional array of the simplest type."""
    if y is None:
        raise InputError("fit requires y to be passed, but the target y is None.")
    try:
        array = np.asarray(y)
        if array.dtype.kind == "U" and isinstance(y, list | tuple) and not all(isinstance(label, str) for label in y):
            array = np.asarray(y, dtype=object)  # NumPy turns numbers beside texts into texts
        array = column_or_1d(array, warn=True)
    except ValueError as error:
        raise InputError(f"y cannot be used: {error}") from error
    if array.dtype != object:
        return np.asarray(array)
    # Nullable and categorical columns of pandas come as objects.
    return np.asarray(pd.Series(array, dtype=object).infer_objects())


def _refuse(wrong: NDArray[np.bool_], what: str) -> None:
    count = int(wrong.sum())
    if count:
        first = int(np.argmax(wrong))
        raise InputError(
            f"y has {count} {what} {'value' if count == 1 else 'values'}, the first in row {first}; leave them out."
        )


def _shown(column: NDArray[Any], row: int) -> str:
    """Write a value as Python does, without NumPy's type."""
    return repr(column[row : row + 1].tolist()[0])


def _numbers(column: NDArray[Any]) -> Floats:  # (n,)
    if column.dtype.kind in "biuf":
        return np.asarray(column, dtype=np.float64)
    if column.dtype.kind in "mM":
        raise InputError(f"y holds values of type {column.dtype}, but a regressor needs numbers.")
    numbers = pd.to_numeric(pd.Series(column, dtype=object), errors="coerce").to_numpy(dtype=np.float64)
    wrong = ~np.isfinite(numbers)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(f"y holds {_shown(column, first)} in row {first}, but a regressor needs finite numbers.")
    return np.asarray(numbers)


def _codes(column: NDArray[Any], known: NDArray[Any] | None) -> tuple[NDArray[np.int64], NDArray[Any]]:  # (n,), (k,)
    if column.dtype.kind == "f" and type_of_target(column) == "continuous":
        raise InputError(
            "Unknown label type: continuous. A classifier needs classes, but y holds numbers with fractions."
        )
    if column.dtype == object and (inferred := types.infer_dtype(column)).startswith("mixed"):
        found = sorted({type(value).__name__ for value in column})
        raise InputError(f"y has labels of several types ({inferred}: {', '.join(found)}), but must have one type.")
    if known is not None:
        codes = pd.Index(known).get_indexer(pd.Index(column))
        if (codes < 0).any():
            first = int(np.argmax(codes < 0))
            labels = ", ".join(map(repr, known.tolist()[:10]))
            raise InputError(
                f"y holds {_shown(column, first)} in row {first}, which training never saw; its classes are {labels}."
            )
        return codes.astype(np.int64), known
    codes, classes = pd.factorize(column, sort=True)
    if len(classes) < 2:
        raise InputError(f"y has one class only ({_shown(classes, 0)}), but a classifier needs at least two classes.")
    return codes.astype(np.int64), np.asarray(classes).astype(column.dtype)
