"""Validation in order of time: gaps, windows that expand or roll, and blocks with training rows on both sides.

Notation: n rows, m instants (the distinct times, in order); a block is a range of instants.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from windvane.errors import InputError, check_integer
from windvane.runtime.columns.column_values import kind_of
from windvane.runtime.columns.table import Floats, Integers
from windvane.settings import parse_seconds

HOLDOUT = 1 / 3  # of the rows validate where there is one fold
MAX_HOLDOUT_ROWS = 50_000  # more rows hardly make the score more precise, but each prediction slower

Amount = int | str | timedelta


@dataclass(frozen=True)
class TimeSplit:
    """How rows in order of time are validated; passed as ``split=`` beside ``time=``.

    An amount of time is a whole number of instants (distinct times; where no two rows have the same time these are
    rows, as in scikit-learn's `TimeSeriesSplit`), or for dates a span: a text such as ``"7d"``, ``"12h"`` or ``"2w"``,
    or a `datetime.timedelta`.

    Parameters
    ----------
    n_splits
        Number of folds; None for that of the policy. More than one: each block is validated by models of the rows
        before it.
    gap
        Distance between training and validation, as between the day of a prediction and the day that is predicted: as
        many instants before each block are left out, or the rows that are less than a span before its first row.
    test_size
        Length of each validation block, the last one ending with the table; None for blocks of about as many rows.
    max_train_size
        Length of the training window before the gap, which rolls forward with the blocks; None to train on all earlier
        rows (the window expands).
    embargo
        None to train on earlier rows alone. Otherwise later rows are trained on, too, except this much after the block:
        purged cross-validation [1]_, for rows that are ordered, but whose past may be predicted from their future.

    Raises
    ------
    InputError
        If a value cannot be used, or ``max_train_size`` and ``embargo`` are both given.

    References
    ----------
    .. [1] López de Prado (2018), Advances in Financial Machine Learning, chapter 7.

    Examples
    --------
    >>> split = TimeSplit(gap="7d", max_train_size="365d")
    >>> model.fit(X, y, time="day", split=split)  # doctest: +SKIP
    """

    n_splits: int | None = None
    gap: Amount = 0
    test_size: Amount | None = None
    max_train_size: Amount | None = None
    embargo: Amount | None = None

    def __post_init__(self) -> None:
        if self.n_splits is not None:
            check_integer("n_splits", self.n_splits)
        for name, least in (("gap", 0), ("test_size", 1), ("max_train_size", 1), ("embargo", 0)):
            if getattr(self, name) is not None:
                read_amount(name, getattr(self, name), least)
        if self.max_train_size is not None and self.embargo is not None:
            raise InputError(
                "max_train_size and embargo are both given, but a window that rolls forward has no later rows. "
                "Allowed: one of them."
            )


def describe_split(split: TimeSplit) -> str:
    """Say how rows in order of time are validated, with the settings that were given."""
    values = {field.name: (getattr(split, field.name), field.default) for field in fields(split)}
    given = ", ".join(f"{name}={value!r}" for name, (value, default) in values.items() if value != default)
    return "in order of time" + (f", {given}" if given else "")


def read_amount(name: str, value: Amount, least: int = 0) -> int | float:
    """Return a number of instants as an int, a span as seconds in a float."""
    if isinstance(value, timedelta):
        if value.total_seconds() < 0:
            raise InputError(f"{name}={value!r} is negative. Allowed: a span of time, as in '7d'.")
        return float(value.total_seconds())
    if isinstance(value, str) and not value.strip().isdigit():
        return parse_seconds(value, name)
    return check_integer(name, int(value) if isinstance(value, str) else value, least)


def time_folds(
    rank: Integers, instants: pd.Index, n_folds: int, split: TimeSplit
) -> list[tuple[Integers, Integers]]:  # sorted positions that are trained on, and validated
    """Divide n rows with the positions `rank` (n,) of their times among the sorted distinct `instants` (m,)."""
    counts = np.bincount(rank, minlength=len(instants))  # (m,)
    clock = _Clock(seconds_of(instants))
    folds = []
    for number, (start, stop) in enumerate(_blocks(counts, n_folds, split, clock)):
        end = clock.before(start, split.gap)  # of the training window
        begin = 0
        if split.max_train_size is not None:
            begin = clock.last(end, "max_train_size", split.max_train_size)
        train = (rank >= begin) & (rank < end)
        if split.embargo is not None:
            train |= rank >= clock.after(stop, split.embargo)
        if not train.any():
            why = f"gap={split.gap!r}" if split.embargo is None else f"gap={split.gap!r}, embargo={split.embargo!r}"
            raise InputError(
                f"{why} leaves fold {number} of {n_folds} no row to train on. Allowed: less, or fewer folds."
            )
        folds.append((np.flatnonzero(train), np.flatnonzero((rank >= start) & (rank < stop))))
    return folds


def seconds_of(instants: pd.Index) -> Floats | None:  # (m,)
    """Return dates and durations as seconds since the first; None for numbers."""
    if isinstance(instants, pd.PeriodIndex):
        instants = instants.to_timestamp()
    kind = kind_of(pd.Series(instants))
    if kind not in ("date", "duration"):
        return None
    exact: Any = pd.DatetimeIndex(instants) if kind == "date" else pd.TimedeltaIndex(instants)
    return np.asarray((exact - exact[0]).total_seconds(), dtype=np.float64)


@dataclass(frozen=True)
class _Clock:
    """Positions of instants at a distance from others."""

    seconds: Floats | None  # (m,)

    def before(self, start: int, gap: Amount) -> int:
        """End of the instants that are at least a gap before a block that starts there."""
        size = self._size("gap", gap)
        if isinstance(size, int):
            return max(0, start - size)
        assert self.seconds is not None
        return min(start, int(np.searchsorted(self.seconds, self.seconds[start] - size, side="right")))

    def after(self, stop: int, embargo: Amount) -> int:
        """Start of the instants that are at least an embargo after a block that stops there."""
        size = self._size("embargo", embargo)
        if isinstance(size, int):
            return stop + size
        assert self.seconds is not None
        return max(stop, int(np.searchsorted(self.seconds, self.seconds[stop - 1] + size)))

    def last(self, stop: int, name: str, amount: Amount, *, blocks: int = 1) -> int:
        """Start of the last amount, or several of them, of the instants before `stop`."""
        size = self._size(name, amount)
        if isinstance(size, int):
            return max(0, stop - blocks * size)
        assert self.seconds is not None
        return int(np.searchsorted(self.seconds, self.seconds[max(0, stop - 1)] - blocks * size, side="right"))

    def _size(self, name: str, amount: Amount) -> int | float:
        size = read_amount(name, amount)
        if isinstance(size, float) and self.seconds is None:
            raise InputError(
                f"{name}={amount!r} is a span of time, but time holds numbers. Allowed: a whole number of instants."
            )
        return size


def _blocks(counts: Integers, n_folds: int, split: TimeSplit, clock: _Clock) -> list[tuple[int, int]]:
    """Start and stop of each validation block, in instants."""
    m, n_rows = len(counts), int(counts.sum())
    if split.test_size is not None:
        cuts = [clock.last(m, "test_size", split.test_size, blocks=left) for left in range(n_folds, 0, -1)]
        if cuts[0] == 0 or (np.diff([*cuts, m]) <= 0).any():
            raise InputError(
                f"test_size={split.test_size!r} leaves no {n_folds} block(s) with rows before the first: time has "
                f"{m} distinct values."
            )
        return list(zip(cuts, [*cuts[1:], m], strict=True))
    first_row = np.cumsum(counts) - counts  # (m,), of each instant
    both_sides = split.embargo is not None and n_folds > 1
    if both_sides:
        rows = np.arange(n_folds) * n_rows // n_folds
    elif n_folds == 1:
        rows = np.array([n_rows - max(1, min(int(n_rows * HOLDOUT), MAX_HOLDOUT_ROWS))])
    else:
        rows = np.arange(1, n_folds + 1) * n_rows // (n_folds + 1)
    starts = np.searchsorted(first_row, rows, side="right") - 1  # back to the first row of that time
    if (starts[0] == 0) != both_sides or (np.diff(starts) == 0).any():
        raise InputError(f"time has too few distinct values, or too unevenly spread, for {n_folds} fold(s).")
    stops = [*starts[1:].tolist(), m]
    return list(zip(starts.tolist(), stops, strict=True))
