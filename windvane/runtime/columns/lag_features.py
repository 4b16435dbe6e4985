"""Earlier values of a series as columns; `windvane.data.series.lags` learns them.

Rows of a series are evenly spaced: a time is a whole number of steps, and lag k of a row is the value of its series k
steps before. It is looked up among the rows that were known when the model was fitted, and nowhere else, so that a row
has the same lags alone and in a table; beyond the known rows lags are missing.

Notation: n rows, h known rows, g series, v columns whose earlier values are looked up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import MissingColumnsError, ModelFileError
from .column import Column
from .column_values import to_canonical_text, to_numbers, to_texts
from .dates import to_dates, to_seconds
from .table import Floats, Integers

TOLERANCE = 1e-3  # of a step, that a time may be beside it
NO_TICK = np.iinfo(np.int64).min  # of a time that is missing or between two steps
_WHOLE_NUMBER = re.compile(r"[0-9]{1,15}(\.0+)?")
Values = NDArray[Any]  # float64, NaN is missing; or texts, None is missing


@dataclass(frozen=True)
class TimeGrid:
    """Evenly spaced times, numbered."""

    time: Column  # a number, date or duration
    step: float  # months, seconds of dates and durations, or the unit of numbers
    origin: float  # in the unit of the step; the time 0
    months: bool = False

    def ticks(self, times: pd.Series) -> Integers:  # (n,)
        """Return the number of each time."""
        found = (read_times(times, self.time, self.months) - self.origin) / self.step
        ticks = np.round(found)
        on_grid = np.abs(found - ticks) <= TOLERANCE  # False for NaN
        return np.where(on_grid, np.where(on_grid, ticks, 0.0), NO_TICK).astype(np.int64)


def read_times(times: pd.Series, column: Column, months: bool = False) -> Floats:  # (n,)
    """Read times as numbers: months or seconds since 1970 of dates, seconds of durations; NaN is missing."""
    if column.kind == "number":
        return to_numbers(times, column.number_format)
    if column.kind == "duration":
        return to_seconds(times)
    dates = to_dates(times, column.date_format, column.timezone)
    numbers = dates.astype("datetime64[M]" if months else "datetime64[us]").astype(np.int64)
    return np.where(np.isnat(dates), np.nan, numbers / (1.0 if months else 1e6))


def series_names(frame: pd.DataFrame, by: Sequence[str]) -> list[tuple[str, ...]]:  # n
    """Return the values that name the series of each row, as texts; whole numbers alike, as 007 and 7.0."""
    if not by:
        return [()] * len(frame)
    columns = [
        [to_canonical_text(float(text)) if _WHOLE_NUMBER.fullmatch(text) else text for text in to_texts(frame[name])]
        for name in by
    ]
    return list(zip(*columns, strict=True))


@dataclass(frozen=True, eq=False)
class EarlierRows:
    """The known rows, in order of series and time."""

    series: dict[tuple[str, ...], int]  # the values that name a series -> its code
    codes: Integers  # (h,)
    ticks: Integers  # (h,)
    values: tuple[Values, ...]  # v arrays, each (h,)

    @classmethod
    def of(cls, names: Sequence[tuple[str, ...]], ticks: Integers, values: Sequence[Values]) -> EarlierRows:
        """Order h rows; of several rows of one series and time the last one counts."""
        series: dict[tuple[str, ...], int] = {}
        codes = np.array([series.setdefault(name, len(series)) for name in names], dtype=np.int64)
        order = np.lexsort((ticks, codes))  # stable
        last = np.ones(len(order), dtype=bool)
        last[:-1] = (np.diff(codes[order]) != 0) | (np.diff(ticks[order]) != 0)
        order = order[last & (ticks[order] != NO_TICK)]
        return cls(series, codes[order], ticks[order], tuple(column[order] for column in values))

    def rows(self, names: Sequence[tuple[str, ...]], ticks: Integers) -> Integers:  # (n,)
        """Return the known row of a series and time; -1 where the row is not known."""
        if not len(self.ticks):
            return np.full(len(ticks), -1)
        codes = np.array([self.series.get(name, -1) for name in names], dtype=np.int64)
        first = int(self.ticks.min())
        n_ticks = int(self.ticks.max()) - first + 1
        # One number for each pair of a series and a time, which grows in the order of the known rows.
        known = self.codes * n_ticks + (self.ticks - first)
        is_possible = (codes >= 0) & (ticks >= first) & (ticks - first < n_ticks)
        wanted = np.where(is_possible, codes * n_ticks + (ticks - first), -1)
        at = np.searchsorted(known, wanted).clip(max=len(known) - 1)
        return np.where(known[at] == wanted, at, -1)

    def tail(self, n_steps: int) -> EarlierRows:
        """Keep the last steps of each series."""
        last = np.full(len(self.series), NO_TICK)
        np.maximum.at(last, self.codes, self.ticks)
        kept = self.ticks > last[self.codes] - n_steps
        return replace(
            self, codes=self.codes[kept], ticks=self.ticks[kept], values=tuple(column[kept] for column in self.values)
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "series": [list(name) for name in self.series],
            "codes": self.codes.tolist(),
            "ticks": self.ticks.tolist(),
            "kinds": ["number" if column.dtype.kind == "f" else "text" for column in self.values],
            "values": [[cell if cell == cell else None for cell in column.tolist()] for column in self.values],
        }

    @classmethod
    def from_json(cls, record: Any) -> EarlierRows:
        """Read what `to_json` returned; ValueError where lengths do not go together."""
        series = {tuple(map(str, name)): code for code, name in enumerate(record["series"])}
        codes, ticks = (np.array(record[name], dtype=np.int64) for name in ("codes", "ticks"))
        values = tuple(
            np.array(column, dtype=np.float64 if kind == "number" else object)
            for column, kind in zip(record["values"], record["kinds"], strict=True)
        )
        lengths = {len(codes), len(ticks), *map(len, values)}
        if len(lengths) > 1 or not ((codes >= 0) & (codes < len(series))).all():
            raise ValueError("known rows of different lengths")
        return cls(series, codes, ticks, values)


@dataclass(frozen=True, eq=False)
class LagFeatures:
    """Columns that are added to a table: for each of v columns and each number of steps the earlier value."""

    grid: TimeGrid
    by: tuple[str, ...]  # the columns that name a series; none where the table is one
    steps: tuple[int, ...]
    of: tuple[str, ...]  # v names
    history: EarlierRows

    @property
    def names(self) -> list[str]:
        return [f"{name}_lag_{k}" for name, k in product(self.of, self.steps)]

    def add(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the table with the lags of its rows; MissingColumnsError where time or series are not there."""
        names, ticks = self.places(frame)
        rows = {k: self.history.rows(names, np.where(ticks == NO_TICK, ticks, ticks - k)) for k in self.steps}
        columns: dict[str, Values] = {}
        for name, (values, k) in zip(self.names, product(self.history.values, self.steps), strict=True):
            column = np.append(values, np.array([np.nan if values.dtype.kind == "f" else None], dtype=values.dtype))
            columns[name] = column[rows[k]]  # -1 is the missing one
        added = pd.DataFrame(columns, index=frame.index)
        return pd.concat([frame.drop(columns=self.names, errors="ignore"), added], axis=1)

    def are_known(self, frame: pd.DataFrame) -> NDArray[np.bool_]:  # (n,)
        """Whether each row is itself among the known ones."""
        return self.history.rows(*self.places(frame)) >= 0

    def places(self, frame: pd.DataFrame) -> tuple[list[tuple[str, ...]], Integers]:  # n, (n,)
        """Return the series and the time of each row."""
        missing = [name for name in (self.grid.time.name, *self.by) if name not in frame.columns]
        if missing:
            raise MissingColumnsError(f"X lacks {', '.join(map(repr, missing))}, by which the lags of a row are found.")
        return series_names(frame, self.by), self.grid.ticks(frame[self.grid.time.name])

    def with_rows(self, frame: pd.DataFrame, values: Sequence[Values]) -> LagFeatures:
        """Also know other rows, with their v columns of values; they replace known rows of their series and time."""
        known = self.history
        earlier = list(known.series)
        names, ticks = self.places(frame)
        history = EarlierRows.of(
            [*(earlier[code] for code in known.codes.tolist()), *names],
            np.concatenate([known.ticks, ticks]),
            [np.concatenate(pair) for pair in zip(known.values, values, strict=True)],
        )
        return replace(self, history=history)

    def to_json(self) -> dict[str, Any]:
        return {
            "time": self.grid.time.to_json(),
            "step": self.grid.step,
            "origin": self.grid.origin,
            "months": self.grid.months,
            "by": list(self.by),
            "steps": list(self.steps),
            "of": list(self.of),
            "history": self.history.to_json(),
        }

    @classmethod
    def from_json(cls, record: Any, time: Column) -> LagFeatures:
        """Read what `to_json` returned; ModelFileError where it cannot be."""
        try:
            grid = TimeGrid(time, float(record["step"]), float(record["origin"]), bool(record["months"]))
            steps = tuple(int(k) for k in record["steps"])
            history = EarlierRows.from_json(record["history"])
            by, of = tuple(map(str, record["by"])), tuple(map(str, record["of"]))
            if grid.step <= 0 or not steps or min(steps) < 1 or len(of) != len(history.values):
                raise ValueError(f"step {grid.step}, lags {steps}, columns {of}")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelFileError(f"The description of the lags is damaged: {error}.") from error
        return cls(grid, by, steps, of, history)
