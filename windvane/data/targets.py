"""Several targets: columns of numbers, columns of two values, or lists of labels, turned into one matrix.

Notation: n rows, t targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse as sp

from windvane.data.target import TaskType, choose_positive, encode_target
from windvane.errors import InputError
from windvane.pages.texts import counted
from windvane.runtime.columns.table import Integers
from windvane.runtime.labels import labels_to_json
from windvane.runtime.targets import Targets

COLLECTIONS = (list, tuple, set, frozenset, np.ndarray)


def are_several(y: Any) -> bool:
    """Whether y has several targets: more than one column, or a list of labels for each row."""
    y = _to_pandas(y)
    if isinstance(y, pd.DataFrame):
        return y.shape[1] > 1
    if isinstance(y, np.ndarray) and y.ndim > 1:
        return y.ndim == 2 and y.shape[1] > 1
    return _label_lists(y) is not None


def encode_targets(
    y: Any, goal: TaskType, known: Targets | None = None, positive: Any = None
) -> tuple[NDArray[Any], Targets]:  # (n, t)
    """Return float64 numbers, or int64 with 1 where a label is there and 0 elsewhere; and what the targets are.

    With the targets of training as `known`, y has the same in the same order; columns of a table are found by name.
    `positive` is the value of each column that means "there", by default as in `choose_positive`.
    """
    lists = _label_lists(y)
    if goal == "classification" and lists is not None and not _is_indicator(lists):
        return _encode_lists(lists, known, positive)
    frame, form = _to_frame(y)
    if known is not None:
        frame = _training_columns(frame, known)
    names, titles = frame.columns.to_numpy(), frame.columns.tolist()
    parts = [_encode_column(frame.iloc[:, j], goal, known, j) for j in range(frame.shape[1])]
    matrix = np.column_stack([codes for codes, _ in parts])  # (n, t)
    if known is not None:
        return matrix, known
    if goal == "regression":
        return matrix, Targets(names, form)
    values = []
    for j, (codes, classes) in enumerate(parts):
        assert classes is not None
        if len(classes) > 2:
            raise InputError(
                f"Column {titles[j]!r} of y has {len(classes)} classes. Allowed for several targets: columns of two "
                "values each. Train a classifier for this column alone."
            )
        code, _ = choose_positive(positive, classes, codes)
        matrix[:, j] = codes == code
        values.append(classes if code else classes[::-1])
    return matrix, _checked(Targets(names, form, tuple(values)))


def strata_of(matrix: NDArray[Any]) -> NDArray[Any]:  # (n, t) -> (n,)
    """Return what folds are stratified by: the rarest label of each row (0: none is there), or the mean rank."""
    if matrix.dtype.kind not in "iu":
        return np.asarray(pd.DataFrame(matrix).rank().mean(axis=1).to_numpy(dtype=np.float64))
    order = np.argsort(matrix.sum(axis=0), kind="stable")  # rarest first
    first = matrix[:, order].argmax(axis=1)
    codes = np.where(matrix.any(axis=1), order[first] + 1, 0)
    return np.asarray(np.unique(codes, return_inverse=True)[1], dtype=np.int64)


def encode_as_trained(y: Any, classes: NDArray[Any] | None, targets: Targets | None) -> NDArray[Any]:  # (n,) or (n, t)
    """Encode the target of new rows as that of training was: class codes, numbers, or several targets."""
    if targets is not None:
        return encode_targets(y, "classification" if targets.are_labels else "regression", targets)[0]
    return encode_target(y, "regression" if classes is None else "classification", classes=classes)[0]


def _to_pandas(y: Any) -> Any:
    """Return a table of another library as a DataFrame, a sparse matrix as an array, anything else as it is."""
    if hasattr(y, "to_pandas"):
        return y.to_pandas()
    matrix: Any = y
    return matrix.toarray() if sp.issparse(y) else y


def _label_lists(y: Any) -> list[Any] | None:
    """Return the rows of y if each is a collection of labels; None otherwise, and for a column in lists of one."""
    if isinstance(y, pd.Series):
        y = y.tolist() if y.dtype == object else []
    elif isinstance(y, np.ndarray):
        y = y.tolist() if y.ndim == 1 and y.dtype == object else []
    if not isinstance(y, list | tuple) or not y or not all(isinstance(row, COLLECTIONS) for row in y):
        return None
    is_column = all(isinstance(row, list | tuple | np.ndarray) and len(row) == 1 for row in y)
    return None if is_column else list(y)


def _is_indicator(lists: Sequence[Any]) -> bool:
    """Whether rows are those of a matrix of 0 and 1, and not labels."""
    lengths = {len(row) for row in lists}
    if any(isinstance(row, set | frozenset) for row in lists) or len(lengths) > 1 or lengths == {0}:
        return False
    return all(
        isinstance(value, int | float | bool | np.number | np.bool_) and value in (0, 1)
        for row in lists
        for value in row
    )


def _encode_lists(lists: Sequence[Any], known: Targets | None, positive: Any) -> tuple[Integers, Targets]:
    if positive is not None:
        raise InputError(f"positive_class={positive!r} is for columns of two values, but y has lists of labels.")
    if known is not None and known.form != "lists":
        raise InputError(f"y has lists of labels, but the model learned the columns {', '.join(known.titles)}.")
    rows = np.repeat(np.arange(len(lists)), [len(row) for row in lists])
    flat = [label for row in lists for label in row]
    if not flat:
        raise InputError("y has no label in any row. Allowed: lists of labels, of which two at least are different.")
    if known is None and len(set(flat)) < 2:
        raise InputError(f"y has one label only ({flat[0]!r}), but several targets are two labels at least.")
    codes, names = encode_target(flat, "classification", classes=None if known is None else known.names)
    assert names is not None
    matrix = np.zeros((len(lists), len(names)), dtype=np.int64)
    matrix[rows, codes] = 1
    if known is not None:
        return matrix, known
    everywhere = matrix.all(axis=0)
    if everywhere.any():
        label = names.tolist()[everywhere.argmax()]
        raise InputError(f"Label {label!r} is in every row of y: there is nothing to learn of it.")
    return matrix, _checked(Targets(names, "lists", tuple(np.array([False, True]) for _ in names)))


def _to_frame(y: Any) -> tuple[pd.DataFrame, Any]:
    """Return y as a table, and the form that it has."""
    y = _to_pandas(y)
    if isinstance(y, pd.DataFrame):
        return y, "frame"
    array = np.asarray(y)
    if array.ndim != 2:
        raise InputError(f"y has the shape {array.shape}. Allowed for several targets: a column for each.")
    return pd.DataFrame(array, columns=[f"y{j}" for j in range(array.shape[1])]), "array"


def _training_columns(frame: pd.DataFrame, known: Targets) -> pd.DataFrame:
    """Return the columns of training; a table has them by name."""
    if known.form == "lists":
        raise InputError("y has columns, but the model learned lists of labels.")
    if known.form == "frame" and set(known.names.tolist()) <= set(frame.columns):
        known_columns: pd.DataFrame = frame[known.names.tolist()]
        return known_columns
    if frame.shape[1] != len(known):
        raise InputError(
            f"y has {counted(frame.shape[1], 'column')}, but the model learned {len(known)}: {', '.join(known.titles)}."
        )
    return frame


def _encode_column(
    column: pd.Series, goal: TaskType, known: Targets | None, place: int
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    values = None if known is None or known.values is None else known.values[place]
    try:
        return encode_target(column.to_numpy(), goal, classes=values)
    except InputError as error:
        raise InputError(f"Column {column.name!r} of y cannot be used: {error}") from error


def _checked(targets: Targets) -> Targets:
    """Raise InputError for what no file can keep, before the search."""
    for labels in (targets.names, *(targets.values or ())):
        labels_to_json(labels)
    return targets
