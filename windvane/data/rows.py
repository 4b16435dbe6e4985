"""Arguments with a value for each row of X (target, weights, groups, times): their order, and a subset of the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import PredefinedSplit

from windvane.data.series.time_split import TimeSplit
from windvane.errors import InputError
from windvane.pages.texts import counted
from windvane.runtime.columns.table import Integers


def order_notes(X: Any, others: Mapping[str, Any]) -> list[str]:
    """Return a note on each argument that has the index labels of X in another order."""
    notes: list[str] = []
    if not isinstance(X, pd.DataFrame | pd.Series):
        return notes
    for name, values in others.items():
        if not isinstance(values, pd.DataFrame | pd.Series):
            continue
        ours, theirs = X.index, values.index
        if len(ours) != len(theirs) or ours.equals(theirs):
            continue
        codes, found = np.split(ours.append(theirs).factorize(use_na_sentinel=False)[0], 2)
        if (np.sort(codes) != np.sort(found)).any():
            continue
        row = int(np.argmax(codes != found))
        by_label = (
            f"pass {name}.loc[X.index]"
            if ours.is_unique
            else "sort both by their index (some labels stand twice in it)"
        )
        notes.append(
            f"{name} has the index labels of X in another order: row {row} is {ours[[row]].tolist()[0]!r} in X, but "
            f"{theirs[[row]].tolist()[0]!r} in {name}. Rows are matched by position, as in scikit-learn. If the labels "
            f"are to decide, {by_label}; if the positions are right, pass {name}.to_numpy() or "
            f"{name}.reset_index(drop=True)."
        )
    return notes


def take_rows(values: Any, rows: Integers, n_rows: int, name: str) -> Any:
    """Return the values of some of `n_rows` rows; None stays None."""
    if values is None:
        return None
    if hasattr(values, "to_pandas"):
        values = values.to_pandas()
    if not hasattr(values, "__len__") or len(values) != n_rows:
        given = counted(len(values), "value") if hasattr(values, "__len__") else "no values"
        raise InputError(f"{name} has {given}, but there are {n_rows} rows.")
    if isinstance(values, pd.DataFrame | pd.Series):
        return values.iloc[rows]
    if isinstance(values, list | tuple):
        return [values[row] for row in rows]
    return values.take(rows) if isinstance(values, pd.api.extensions.ExtensionArray) else np.asanyarray(values)[rows]


def take_split(split: Any, rows: Integers, n_rows: int) -> Any:
    """Translate a user's split of `n_rows` to one of some of these rows; splitters that only count rows stay."""
    if isinstance(split, PredefinedSplit):
        return PredefinedSplit(take_rows(split.test_fold, rows, n_rows, "split"))
    if split is None or hasattr(split, "split") or isinstance(split, int | str | TimeSplit):
        return split
    kept = np.full(n_rows, -1)
    kept[rows] = np.arange(len(rows))
    return [tuple(_translate(part, kept) for part in pair) for pair in split]


def _translate(part: Any, kept: Integers) -> NDArray[Any]:
    """Positions among all rows -> positions among those kept, where `kept` is not -1; anything else stays."""
    positions = np.asarray(part)
    if positions.dtype == bool and positions.shape == kept.shape:
        positions = np.flatnonzero(positions)
    if (
        positions.dtype.kind not in "iu"
        or positions.ndim != 1
        or not ((positions >= 0) & (positions < len(kept))).all()
    ):
        return positions
    translated = kept[positions]
    return np.asarray(translated[translated >= 0])
