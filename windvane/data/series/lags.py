"""Lags: what the user asks for, and how they are learned from the rows of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.column_types import infer_schema, infer_times
from windvane.data.files import to_frame
from windvane.data.series.time_split import TimeSplit, read_amount
from windvane.errors import InputError, check_integer, unknown_name_error
from windvane.pages.texts import counted
from windvane.runtime.columns.column import Column
from windvane.runtime.columns.column_values import to_numbers, to_texts
from windvane.runtime.columns.dates import to_dates
from windvane.runtime.columns.lag_features import (
    NO_TICK,
    EarlierRows,
    LagFeatures,
    TimeGrid,
    Values,
    read_times,
    series_names,
)
from windvane.runtime.columns.schema import Frame, Schema
from windvane.runtime.columns.table import Integers

TARGET = "target"  # name of a target that has none
MIN_ON_GRID = 0.95  # share of the times that are a whole number of steps apart
MAX_REPEATED = 0.05  # share of the rows that have series and time of another
MIN_FOUND = 0.05  # share of the rows that have a row so many steps before
SHORTEST_MONTH = 28 * 86400.0
_UNITS = (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0))
_ADVICE = (
    "Allowed: shorter lags; times rounded to even steps; or where only the order of rows counts, as for visits of a "
    "patient, a column that numbers the rows of each series (X.groupby('patient').cumcount()) as time."
)


@dataclass(frozen=True)
class Lags:
    """Earlier values as columns to learn from; passed as ``lags=`` beside ``time=``.

    The times of a series are evenly spaced. Lag k of a row is the value k steps before in its series, such as that of
    the day a week ago; it is missing where that row is not known.

    Parameters
    ----------
    steps
        The lags, whole numbers from 1.
    of
        Names of columns; the name of y, or ``"target"`` if it has none, stands for the target. None for the target
        alone.
    by
        Name of the column, or names of those, whose values tell the series apart; None if the table is one series.

    Raises
    ------
    InputError
        If a value cannot be used.

    Examples
    --------
    >>> lags = Lags([7, 14], of=["sales", "price"], by="shop")
    >>> model.fit(X, sales, time="day", lags=lags)  # doctest: +SKIP
    """

    steps: Sequence[int]
    of: str | Sequence[str] | None = None
    by: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        for step in _listed("lags", self.steps):
            check_integer("lags", step)
        for name, given in (("of", self.of), ("by", self.by)):
            if given is not None and not all(isinstance(column, str) for column in _listed(name, given)):
                raise InputError(f"{name}={given!r} is not usable. Allowed: names of columns.")


def _listed(name: str, given: Any) -> list[Any]:
    if isinstance(given, str | int | np.integer):
        return [given]
    if not isinstance(given, Sequence | np.ndarray) or len(given) == 0:
        raise InputError(f"{name}={given!r} is not usable. Allowed: a list of at least one, or a Lags object.")
    return list(given)


def name_of_target(y: Any) -> str:
    """Return the name of a target; `TARGET` where it has none."""
    if isinstance(y, pd.DataFrame):
        return str(y.columns[0])
    name = getattr(y, "name", None)
    return TARGET if name is None else str(name)


def target_values(target: NDArray[Any], classes: NDArray[Any] | None) -> Values:
    """Return a target as the values of a lag: numbers, or texts of its labels."""
    return target.astype(np.float64) if classes is None else _texts(pd.Series(classes.tolist()))[target]


def learn_lags(
    frame: Frame,
    lags: Any,
    time: Any,
    target: Values,
    target_name: str,
    split: TimeSplit,
    *,
    column_types: Mapping[str, str] | None = None,
    date_formats: Mapping[str, str] | None = None,
) -> LagFeatures:
    """Learn the steps of time from a training table, and remember all of its rows; `time` is the name of a column."""
    lags = lags if isinstance(lags, Lags) else Lags(lags)
    steps = sorted({int(step) for step in _listed("lags", lags.steps)})
    if not isinstance(frame, pd.DataFrame) or not isinstance(time, str):
        raise InputError("lags need time=, the name of a column of X with the times, to find them at predict, too.")
    if split.embargo is not None:
        raise InputError(
            "lags and embargo are both given, but rows after a validation block would be trained on with its targets "
            "as lags. Allowed: one of them."
        )
    by = tuple(_listed("by", lags.by)) if lags.by is not None else ()
    of = [target_name] if lags.of is None else list(dict.fromkeys(_listed("of", lags.of)))
    for argument, names in (("by", by), ("of", of)):
        for name in names:
            if name not in frame.columns and not (argument == "of" and name == target_name):
                raise unknown_name_error(argument, name, [*map(str, frame.columns), target_name])
    column = _time_column(frame, time, column_types or {}, date_formats or {})
    values = [target if name == target_name else _values(frame[name]) for name in of]
    series = series_names(frame, by)
    grid = _find_grid(frame[time], column, series)
    ticks = grid.ticks(frame[time])
    _check_spacing(ticks, grid)
    history = EarlierRows.of(series, ticks, values)
    _check_repeated(ticks, history, by)
    found = LagFeatures(grid, by, tuple(steps), tuple(of), history)
    clash = [name for name in found.names if name in frame.columns]
    if clash:
        raise InputError(f"X has a column {clash[0]!r}, the name of a lag. Allowed: another name for it.")
    for step in steps:
        share = float(np.mean(history.rows(series, np.where(ticks == NO_TICK, ticks, ticks - step)) >= 0))
        if share < MIN_FOUND:
            raise InputError(
                f"lag {step}: {share:.0%} of the rows have a row of their series {step} x {describe_step(grid)} "
                f"before. {_ADVICE}"
            )
    _check_gap(split, steps, grid)
    return found


def know_rows(schema: Schema, X: Any, target: NDArray[Any], classes: NDArray[Any] | None) -> Schema:
    """Return a schema whose lags also know the rows of a table and their encoded target."""
    features, frame = schema.lags, to_frame(X)
    assert features is not None
    if not isinstance(frame, pd.DataFrame):
        raise InputError("X is a sparse matrix, in which no row is found by time. Allowed: a dense table.")
    if len(frame) != len(target):
        raise InputError(f"X and y have different lengths: {len(frame)} and {len(target)}.")
    known = {column.name: column for column in schema.columns}
    values: list[Values] = []
    for name, earlier in zip(features.of, features.history.values, strict=True):
        if name not in known:
            values.append(target_values(target, classes))
        elif name not in frame.columns:
            raise InputError(f"X lacks {name!r}, whose earlier values are lags.")
        elif earlier.dtype.kind == "f":
            values.append(to_numbers(frame[name], known[name].number_format))
        else:
            values.append(_texts(frame[name]))
    return replace(schema, lags=features.with_rows(frame, values))


def keep_last(schema: Schema) -> Schema:
    """Return a schema whose lags know the last rows of each series alone, which is what later rows need."""
    assert schema.lags is not None
    history = schema.lags.history.tail(max(schema.lags.steps))
    return replace(schema, lags=replace(schema.lags, history=history))


def describe_step(grid: TimeGrid) -> str:
    """Write one step in words, as in "7 days"."""
    if grid.months:
        return f"{grid.step:.0f} month{'s' * (grid.step != 1)}"
    if grid.time.kind == "number":
        return f"{grid.step:g}"
    unit, seconds = next((unit for unit in _UNITS if grid.step % unit[1] == 0), _UNITS[-1])
    return f"{grid.step / seconds:g} {unit}{'s' * (grid.step != seconds)}"


def describe_lags(features: LagFeatures) -> str:
    """Say which lags are learned from, and how far they reach."""
    by = f" by {', '.join(map(repr, features.by))}" if features.by else ""
    return (
        f"Lags {', '.join(map(str, features.steps))} of {', '.join(map(repr, features.of))}{by}; one step is "
        f"{describe_step(features.grid)}. Rows more than {counted(min(features.steps), 'step')} after the last known "
        "row of their series are predicted with missing lags."
    )


def _time_column(
    frame: pd.DataFrame, time: str, column_types: Mapping[str, str], date_formats: Mapping[str, str]
) -> Column:
    types, formats = ({k: v for k, v in given.items() if k == time} for given in (column_types, date_formats))
    try:
        column = infer_times(frame[[time]], types, formats).columns[0]
    except InputError as error:
        raise InputError(f"time={time!r} cannot be used for lags: {error}") from error
    if column.kind not in ("number", "date", "duration"):
        raise InputError(f"time={time!r} is a column of the kind {column.kind}. Allowed: numbers, dates or durations.")
    if column.doubtful and column.kind == "date":
        raise InputError(
            f"time={time!r} holds dates in which day and month could be exchanged. Allowed: date_formats={{{time!r}: "
            "'%d/%m/%Y'}} or the like."
        )
    return column


def _values(column: pd.Series) -> Values:
    """Return a column whose earlier values are wanted: numbers, or texts of categories."""
    kind = infer_schema(column.to_frame()).columns[0]
    if kind.kind == "number":
        return to_numbers(column, kind.number_format)
    if kind.kind == "category":
        return _texts(column)
    raise InputError(f"of={column.name!r} is a column of the kind {kind.kind}. Allowed: numbers and categories.")


def _texts(values: pd.Series) -> Values:
    texts = to_texts(values)
    texts[texts == ""] = None
    return texts


def _find_grid(times: pd.Series, column: Column, names: Sequence[tuple[str, ...]]) -> TimeGrid:
    """Find the most frequent distance of neighbouring rows of a series; calendar months where they are those."""
    numbers = read_times(times, column)
    if np.isnan(numbers).any():
        row = int(np.argmax(np.isnan(numbers)))
        raise InputError(f"time={column.name!r} has {int(np.isnan(numbers).sum())} missing, the first in row {row}.")
    codes = pd.factorize(np.fromiter(names, dtype=object, count=len(names)))[0]
    step = _usual_distance(numbers, codes, column.name)
    if column.kind == "date" and step >= SHORTEST_MONTH and _are_months(times, column):
        numbers = read_times(times, column, months=True)
        return TimeGrid(column, _usual_distance(numbers, codes, column.name), float(numbers.min()), months=True)
    beside, counts = np.unique(np.round(np.mod(numbers, step) / step, 6) % 1.0, return_counts=True)
    return TimeGrid(column, step, float(beside[counts.argmax()] * step))


def _usual_distance(numbers: NDArray[np.float64], codes: Integers, name: str) -> float:
    order = np.lexsort((numbers, codes))
    distances = np.diff(numbers[order])[np.diff(codes[order]) == 0]
    found, counts = np.unique(np.round(distances[distances > 0], 9), return_counts=True)
    if not len(found):
        raise InputError(f"lags need series of at least two times, but by= leaves one of {name!r} in each.")
    return float(found[counts.argmax()])


def _are_months(times: pd.Series, column: Column) -> bool:
    """Whether dates are all the same day of a month, or its last."""
    dates = to_dates(times, column.date_format, column.timezone)
    months = dates.astype("datetime64[M]")
    since_first = np.unique(dates - months.astype(dates.dtype))
    to_next = np.unique((months + np.timedelta64(1, "M")).astype(dates.dtype) - dates)
    return len(since_first) == 1 or len(to_next) == 1


def _check_spacing(ticks: Integers, grid: TimeGrid) -> None:
    """Refuse times that are not evenly spaced."""
    on_grid = float(np.mean(ticks != NO_TICK))
    if on_grid < MIN_ON_GRID:
        raise InputError(
            f"lags need evenly spaced times, but of those in {grid.time.name!r} {on_grid:.0%} are a whole number of "
            f"{describe_step(grid)} apart, the most frequent distance. {_ADVICE}"
        )


def _check_repeated(ticks: Integers, history: EarlierRows, by: tuple[str, ...]) -> None:
    """Refuse many rows with the series and time of another."""
    repeated = int((ticks != NO_TICK).sum()) - len(history.ticks)
    if repeated > MAX_REPEATED * len(ticks):
        told = f"by={list(by)!r}" if by else "by= is not given"
        raise InputError(
            f"{repeated:,} of {len(ticks):,} rows have the series and time of another row ({told}). Allowed: by, the "
            "columns that tell the series apart."
        )


def _check_gap(split: TimeSplit, steps: Sequence[int], grid: TimeGrid) -> None:
    """Refuse lags of rows that the gap says are not known yet."""
    gap = read_amount("gap", split.gap)
    if isinstance(gap, int):
        too_close = min(steps) <= gap
    else:
        too_close = min(steps) * grid.step * (SHORTEST_MONTH if grid.months else 1.0) < gap
    if too_close:
        raise InputError(
            f"lag {min(steps)} ({min(steps)} x {describe_step(grid)} before) is within gap={split.gap!r}, in which no "
            "value is known. Allowed: longer lags, or a smaller gap."
        )
