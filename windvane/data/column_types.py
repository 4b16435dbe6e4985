"""What the columns of a training table are, found out from types and values."""

from __future__ import annotations

import dataclasses
import re
from warnings import catch_warnings, simplefilter

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from windvane.data.files import Frame
from windvane.errors import InputError
from windvane.runtime.columns.column_values import (
    PARTS,
    date_parts,
    distinct_texts,
    kind_of,
    to_dates,
    to_numbers,
    to_seconds,
)
from windvane.runtime.columns.schema import Column, Schema, is_unnamed, listed, plain_columns, to_block
from windvane.runtime.columns.table import Floats

MIN_WORDS = 4.0  # texts have at least as many words on average
MIN_DISTINCT = 0.5  # and at least this share of them is distinct
SAMPLE = 1000  # texts whose words are counted


def recognise_numbers(names: list[str], block: Floats) -> list[Column]:
    """Infer columns that hold numbers."""
    missing = len(block) - np.isfinite(block).sum(axis=0)  # (p,)
    constant = missing == len(block)
    # Most columns vary within their first rows; only the others are read as a whole.
    for j in np.flatnonzero((block[:SAMPLE] == block[:1]).all(axis=0) & (missing == 0)):
        constant[j] = (block[:, j] == block[0, j]).all()
    return [
        _dropped(name, len(block), gone) if same else Column(name, "number", n_missing=gone)
        for name, gone, same in zip(names, missing.tolist(), constant.tolist(), strict=True)
    ]


def recognise(values: pd.Series) -> Column:
    """Infer one column of any type."""
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
            return Column(name, "number", n_missing=missing)
        form = _date_format(texts)
        if form is not None:
            return _date(values, form)
        words = np.mean([len(text.split()) for text in texts[:SAMPLE]])
        if words >= MIN_WORDS and len(texts) >= MIN_DISTINCT * (len(values) - missing):
            return Column(name, "text", n_missing=missing, n_unique=len(texts))
    return Column(name, "category", missing, len(texts), vocabulary=_ordered(values, texts))


def _dropped(name: str, n_rows: int, missing: int) -> Column:
    return Column(name, "dropped", n_missing=missing, reason="no value" if missing == n_rows else "constant")


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

    The first texts are looked at before skrub, which takes a second to import, decides on all of them.
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
    return Column(name, "date", missing, len(np.unique(present)), date_format=form, timezone=timezone, parts=parts)


def infer_schema(frame: Frame) -> Schema:
    """Find out what the columns of a training table are.

    Raises InputError where no column is left because each is constant or has no value.
    """
    if not isinstance(frame, pd.DataFrame):
        return Schema(columns=(), named=False, n_sparse=frame.shape[1])
    unnamed = is_unnamed(frame)
    names = [f"x{i}" if unnamed else str(name) for i, name in enumerate(frame.columns)]
    plain = plain_columns(frame)
    columns: list[Column | None] = [None] * len(names)
    found = recognise_numbers([names[i] for i in plain], to_block(frame, plain)) if len(plain) else []
    for i, column in zip(plain, found, strict=True):
        columns[i] = column
    learned = tuple(column or recognise(frame.iloc[:, i].rename(names[i])) for i, column in enumerate(columns))
    if all(column.kind == "dropped" for column in learned):
        raise InputError(
            f"X has no column to learn from: each of the {len(learned)} is constant or has no value "
            f"in {len(frame)} sample(s)."
        )
    return Schema(columns=learned, named=not unnamed)


def dropped_notes(schema: Schema) -> tuple[str, ...]:
    """Say which columns were left out, and why."""
    notes = []
    for reason in ("constant", "no value"):
        names = [column.name for column in schema.columns if column.reason == reason]
        if names:
            plural = "s" if len(names) > 1 else ""
            notes.append(f"{len(names)} column{plural} left out ({reason}): {listed(names)}.")
    return tuple(notes)


def describe_columns(schema: Schema) -> pd.DataFrame:
    """Tabulate the columns: column, kind, distinct (not counted for numbers), missing, note."""
    columns = schema.columns or [Column(name, "number") for name in schema.feature_names]
    return pd.DataFrame(
        {
            "column": [column.name for column in columns],
            "kind": [column.kind for column in columns],
            "distinct": pd.array([column.n_unique for column in columns], dtype="Int64"),
            "missing": [column.n_missing for column in columns],
            "note": [column.reason or "" for column in columns],
        }
    )
