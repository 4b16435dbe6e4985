"""What the columns of a table are: recognised once, at training, from types and values."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args
from warnings import catch_warnings, simplefilter

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from windvane.data.table import Floats
from windvane.data.values import (
    PARTS,
    date_parts,
    distinct_texts,
    kind_of,
    to_dates,
    to_numbers,
    to_seconds,
)
from windvane.errors import InputError

Kind = Literal["number", "category", "date", "duration", "text", "dropped"]

MIN_WORDS = 4.0  # texts have at least as many words on average
MIN_DISTINCT = 0.5  # and at least this share of them is distinct
SAMPLE = 1000  # texts whose words are counted


@dataclass(frozen=True)
class Column:
    """One column of the training table.

    Attributes
    ----------
    name
        Its name.
    kind
        What it is read as.
    missing
        How many values were missing in training.
    distinct
        How many distinct values there were; None where they were not counted (numbers).
    vocabulary
        The texts of a category; a code is a position in it.
    form
        The format of dates written as texts.
    timezone
        The time zone in which dates are taken apart; None where they have none.
    parts
        The numbers made of a date: those of `windvane.data.values.PARTS` that varied in training.
    reason
        Why the column was dropped.
    """

    name: str
    kind: Kind
    missing: int = 0
    distinct: int | None = None
    vocabulary: tuple[str, ...] = ()
    form: str | None = None
    timezone: str | None = None
    parts: tuple[str, ...] = ()
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Describe the column in JSON's types, leaving out what has its default.

        Returns
        -------
        dict
            What `from_json` reads.
        """
        values = {field.name: (getattr(self, field.name), field.default) for field in dataclasses.fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, (value, default) in values.items()
            if value != default
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Column:
        """Make a column of what `to_json` wrote.

        Parameters
        ----------
        fields
            The description.

        Returns
        -------
        Column
            The same column.

        Raises
        ------
        ValueError
            Where a field is of another type.
        TypeError
            Where a field is unknown or missing.
        """
        given: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields.items()}
        column = cls(**given)
        lists, texts = (column.vocabulary, column.parts), (column.form, column.timezone, column.reason)
        sound = (
            isinstance(column.name, str)
            and column.kind in get_args(Kind)
            and type(column.missing) is int
            and (column.distinct is None or type(column.distinct) is int)
            and all(isinstance(items, tuple) and all(isinstance(item, str) for item in items) for items in lists)
            and all(text is None or isinstance(text, str) for text in texts)
            and set(column.parts) <= set(PARTS)
        )
        if not sound:
            raise ValueError(f"column {column.name!r} has a field of a wrong type")
        return column


def recognise_numbers(names: list[str], block: Floats) -> list[Column]:
    """Recognise columns that hold numbers.

    Parameters
    ----------
    names
        p names.
    block
        Shape (n, p); NaN and infinite values are missing.

    Returns
    -------
    list of Column
        Numbers, and dropped columns where nothing varies.
    """
    missing = len(block) - np.isfinite(block).sum(axis=0)  # (p,)
    constant = missing == len(block)
    # Most columns vary within their first rows; only the others are read as a whole.
    for j in np.flatnonzero((block[:SAMPLE] == block[:1]).all(axis=0) & (missing == 0)):
        constant[j] = (block[:, j] == block[0, j]).all()
    return [
        _dropped(name, len(block), gone) if same else Column(name, "number", missing=gone)
        for name, gone, same in zip(names, missing.tolist(), constant.tolist(), strict=True)
    ]


def recognise(values: pd.Series) -> Column:
    """Recognise one column of any type.

    Parameters
    ----------
    values
        The column, with its name.

    Returns
    -------
    Column
        What it is.
    """
    name, kind = str(values.name), kind_of(values)
    if kind == "number":
        return recognise_numbers([name], to_numbers(values)[:, None])[0]
    if kind == "date":
        return _date(values, None)
    if kind == "duration":
        seconds = recognise_numbers([name], to_seconds(values)[:, None])[0]
        return dataclasses.replace(seconds, kind="duration") if seconds.kind == "number" else seconds
    if kind == "text" and _begins_with_numbers(values):
        try:
            return recognise_numbers([name], to_numbers(values)[:, None])[0]
        except InputError:
            pass  # a text stands further down
    codes, texts = distinct_texts(values, frozenset([""])) if kind == "category" else distinct_texts(values)
    missing = int((codes < 0).sum())
    if len(texts) == 0 or (len(texts) == 1 and missing == 0):
        return _dropped(name, len(values), missing)
    if kind != "category":
        if not np.isnan(_numbers(texts)).any():
            return Column(name, "number", missing=missing)
        form = _date_format(texts)
        if form is not None:
            return _date(values, form)
        words = np.mean([len(text.split()) for text in texts[:SAMPLE]])
        if words >= MIN_WORDS and len(texts) >= MIN_DISTINCT * (len(values) - missing):
            return Column(name, "text", missing=missing, distinct=len(texts))
    return Column(name, "category", missing, len(texts), vocabulary=_ordered(values, texts))


def _dropped(name: str, n_rows: int, missing: int) -> Column:
    return Column(name, "dropped", missing=missing, reason="no value" if missing == n_rows else "constant")


def _numbers(texts: list[str]) -> Floats:  # (len(texts),)
    """Read texts as plain numbers, NaN where one is not."""
    return pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(dtype=np.float64)


def _begins_with_numbers(values: pd.Series) -> bool:
    """Whether the first values spare a look at all distinct ones, of which numbers have many."""
    texts = distinct_texts(values.iloc[:SAMPLE])[1]
    return len(texts) > 0 and not np.isnan(_numbers(texts)).any()


def _ordered(values: pd.Series, texts: list[str]) -> tuple[str, ...]:
    """Sort a vocabulary: as the category declares it, as numbers where all are, by letters otherwise."""
    if isinstance(values.dtype, pd.CategoricalDtype) and values.cat.ordered:
        _, declared = distinct_texts(pd.Series(values.cat.categories), frozenset([""]))
        return tuple(text for text in declared if text in set(texts))
    numbers = _numbers(texts)
    if np.isnan(numbers).any():
        return tuple(sorted(texts))
    return tuple(text for _, text in sorted(zip(numbers.tolist(), texts, strict=True)))


def _date_format(texts: list[str]) -> str | None:
    """Find the one format in which all the texts are dates.

    The first texts are looked at before skrub, which takes a second to import, judges all of them.
    """
    if not all(len(re.findall(r"\d", text)) >= 3 and _is_date(text) for text in texts[:5]):
        return None
    from skrub import ToDatetime
    from skrub.core import RejectColumn

    reader = ToDatetime()
    try:
        reader.fit_transform(pd.Series(texts, name="texts"))
    except RejectColumn:
        return None
    return str(reader.format_)


def _is_date(text: str) -> bool:
    with catch_warnings():
        simplefilter("ignore", UserWarning)  # of the order of day and month, which is tried both ways
        return any(guess_datetime_format(text, dayfirst=dayfirst) is not None for dayfirst in (False, True))


def _date(values: pd.Series, form: str | None) -> Column:
    """Describe a column of dates, leaving out the parts that do not vary."""
    timezone = str(zone) if (zone := getattr(values.dtype, "tz", None)) is not None else None
    if form is not None and "%z" in form:
        timezone = "UTC"
    dates = to_dates(values, form, timezone)
    present = dates[~np.isnat(dates)]
    name, missing = str(values.name), len(dates) - len(present)
    parts: tuple[str, ...] = ("days",) if missing else ()  # whether there is a date may be all it says
    if len(present):
        columns = recognise_numbers(list(PARTS), np.stack(list(date_parts(present).values()), axis=1))
        parts = tuple(column.name for column in columns if column.kind == "number") or parts
    if not parts or missing == len(dates):
        return _dropped(name, len(dates), missing)
    return Column(name, "date", missing, len(np.unique(present)), form=form, timezone=timezone, parts=parts)
