"""Tables to predict, of which no row is lost: what cannot be read is named row by row."""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .columns.column import Column
from .columns.schema import Schema, is_unnamed
from .delimited import find_header, read_delimited, read_text
from .errors import InputError, MissingColumnsError

_CHECKED_KINDS = ("number", "date", "duration")  # of columns: those whose values can be wrong
MAX_BAD_VALUES = 1_000  # of a column; with more the table is another one
_LINE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz")  # of files whose rows are lines
_EMPTY_LINE = re.compile(r"\n[ \t]*\r?\n[\s]*\S|\A\s*\n")


def read_rows(
    path: str | os.PathLike[str],
    texts: Sequence[str] = (),
    read_frame: Callable[[Path, Sequence[str]], pd.DataFrame] = read_delimited,
) -> tuple[pd.DataFrame, dict[int, str]]:
    """Read a table, the columns `texts` as texts, with the reason why a row is bad, by position.

    Empty lines and lines with too many fields become rows. `read_frame` reads a file that has none of these.
    """
    file = Path(path)
    has_lines = read_frame is read_delimited or file.name.lower().endswith(_LINE_SUFFIXES)
    text = read_text(file) if has_lines and os.path.isfile(file) else None
    try:
        frame = read_frame(file, texts)
        if text is None or not _EMPTY_LINE.search(text):
            return frame, {}
    except InputError:
        if text is None:
            raise
    if not text.strip():
        return read_frame(file, texts), {}  # which says why
    delimiter, header, begin = find_header(text)
    try:
        lines = list(csv.reader(io.StringIO(text[begin:], newline=""), delimiter=delimiter))
    except csv.Error:
        return read_frame(file, texts), {}  # which says why
    while lines and not lines[-1]:
        lines.pop()
    width = len(header)
    faults = {i: _fault(line, width) for i, line in enumerate(lines[1:]) if len(line) > width or not line}
    if width == 1:  # an empty line is a row with a missing value
        faults = {i: fault for i, fault in faults.items() if lines[i + 1]}
    if not faults and width > 1:
        return read_frame(file, texts), {}
    with tempfile.TemporaryDirectory(prefix="windvane-") as folder:
        cleaned = Path(folder) / "rows.csv"
        with cleaned.open("w", encoding="utf-8", newline="") as stream:
            stream.write(f"sep={delimiter}\n")
            writer = csv.writer(stream, delimiter=delimiter, lineterminator="\n")
            writer.writerows([""] * width if i in faults or not line else line for i, line in enumerate(lines, -1))
        return read_frame(cleaned, texts), faults


def rename_taken(frame: pd.DataFrame, taken: Collection[Any], what: str) -> pd.DataFrame:
    """Rename columns whose name is `taken` in the table that they will join: "error" to "error (class)"."""
    return frame.rename(columns={name: f"{name} ({what})" for name in frame.columns if name in taken})


def describe_errors(found: pd.DataFrame) -> str:
    """Describe how many rows of the result of `predict_rows` have an error, and the first."""
    reasons = found["error"].dropna()
    return (
        f"{len(reasons)} of {len(found)} rows cannot be predicted; the column error says why. The first is row "
        f"{reasons.index[0]}: {reasons.iloc[0]}"
    )


def find_bad_rows(schema: Schema, frame: pd.DataFrame) -> dict[int, str]:
    """Position -> reason of each row with a value that its column cannot have."""
    by_name = schema.named and not is_unnamed(frame)
    found: dict[int, str] = {}
    for i, column in enumerate(schema.columns):
        if column.kind not in _CHECKED_KINDS or (schema.lags is not None and column.name in schema.lags.names):
            continue
        values: pd.Series = frame[column.name] if by_name else frame.iloc[:, i]
        for row, reason in _bad_values(column, values.rename(column.name).reset_index(drop=True)):
            found.setdefault(row, reason)
    return found


def predict_rows(
    predict: Callable[[pd.DataFrame], pd.DataFrame], schema: Schema, frame: pd.DataFrame, faults: dict[int, str]
) -> pd.DataFrame:
    """Predict what can be predicted; where there are bad rows, these are empty, and a column "error" says why.

    Columns that name the rows stand first. No two columns have one name: a class called "error" is
    "error (predicted)". InputError if no row can be predicted.
    """
    carried = [name for name in schema.id_columns if name in frame.columns]

    def predicted(good: pd.DataFrame) -> pd.DataFrame:
        return rename_taken(predict(good), {"error"}, "predicted")

    def beside(found: pd.DataFrame) -> pd.DataFrame:
        return rename_taken(frame[carried].reset_index(drop=True), {*found.columns, "error"}, "column")

    if len(faults) == len(frame):
        raise InputError(f"No row can be predicted. The first is row {min(faults)}: {faults[min(faults)]}.")
    rows = pd.RangeIndex(len(frame))
    try:
        if not faults:
            found = predicted(frame)
            return pd.concat([beside(found), found], axis=1)
        bad = faults
        good = [row for row in rows if row not in bad]
        found = predicted(frame.iloc[good])
    except MissingColumnsError:
        raise
    except InputError:
        bad = {**find_bad_rows(schema, frame), **faults}
        if not bad or len(bad) == len(frame):
            raise
        good = [row for row in rows if row not in bad]
        found = predicted(frame.iloc[good])
    found = found.astype(object).set_axis(good, axis=0).reindex(rows)
    texts = [bad.get(row) for row in rows]
    return pd.concat([beside(found), found.infer_objects(), pd.Series(texts, name="error", dtype=object)], axis=1)


def _fault(line: Sequence[str], width: int) -> str:
    return f"the line has {len(line)} fields, the header {width}" if line else "the line is empty"


def _bad_values(column: Column, values: pd.Series) -> list[tuple[int, str]]:
    """Return row and reason of each value that a column cannot have; a distinct value is read once."""
    one = Schema(columns=(column,), named=True)

    def fault_of(some: pd.Series) -> str | None:
        try:
            one.transform(some.to_frame())
        except InputError as error:
            return str(error)
        return None

    if fault_of(values) is None:
        return []
    try:
        codes, _ = pd.factorize(values, use_na_sentinel=False)
    except TypeError:  # lists and the like
        codes = np.arange(len(values))
    first = np.unique(codes, return_index=True)[1]  # (k,), a row of each distinct value
    reasons: dict[int, str] = {}
    parts: list[Any] = [first]
    while parts and len(reasons) < MAX_BAD_VALUES:
        part = parts.pop()
        reason = fault_of(values.iloc[part])
        if reason is not None and len(part) == 1:
            reasons[int(codes[part[0]])] = reason
        elif reason is not None:
            parts += np.array_split(part, 2)
    return [(row, reasons[code]) for row, code in enumerate(codes.tolist()) if code in reasons]
