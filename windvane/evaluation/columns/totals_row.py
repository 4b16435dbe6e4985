"""A last row that sums up the rows above, as spreadsheets have it.

Notation: n rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.errors import some_of
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Table

MIN_ABOVE = 5  # values that are not 0 above the last one: fewer have its sum by chance
MIN_SUMS, MIN_MEANS = 1, 3  # columns whose last value is a sum, or a mean, which is met by chance more often
SUM_ERROR = 1e-4  # of the sum: totals are rounded
MEAN_ERROR = 0.01  # of the standard deviation
MAX_NAMED = 5


def totals_row_warning(schema: Schema, table: Table, target: NDArray[Any] | None) -> list[str]:
    """Return a warning if most numbers of the last row are the sums, or means, of the columns above.

    A `target` of numbers, (n,) or (n, t), counts as columns of the table.
    """
    places = schema.matrix_places
    names = [column.name for column in schema.columns if column.kind == "number"]
    columns = [(repr(name), table.matrix[:, places[name][0]]) for name in names]
    if target is not None and target.dtype.kind == "f":
        columns += [("the target", column) for column in target.reshape(len(target), -1).T]
    sums, means, n_compared = list[str](), list[str](), 0
    for name, values in columns:
        above, last = values[:-1], float(values[-1])
        above = above[np.isfinite(above)]
        if np.count_nonzero(above) < MIN_ABOVE or not np.isfinite(last):
            continue
        n_compared += 1
        with np.errstate(over="ignore", invalid="ignore"):
            total, mean, spread = float(above.sum()), float(above.mean()), float(above.std())
        if 0 < abs(total) < np.inf and abs(last - total) <= SUM_ERROR * abs(total):
            sums.append(name)
        elif abs(last - mean) <= MEAN_ERROR * spread and not (above == last).any():  # no middle of a planned experiment
            means.append(name)
    for found, what, least in ((sums, "sum", MIN_SUMS), (means, "mean", MIN_MEANS)):
        if len(found) >= least and 2 * len(found) > n_compared:
            such = f"{len(found)} of {n_compared} columns of numbers ({some_of(found, MAX_NAMED)})"
            return [
                f"The last row looks like a summary of the table: it holds the {what} of the rows above in {such}. "
                "Leave it out if it is one."
            ]
    return []
