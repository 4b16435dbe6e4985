"""A reader of ARFF, Weka's table format, dense and sparse.

SciPy's own reader knows neither text attributes nor sparse rows, and takes a missing nominal value for a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

_NUMERIC = ("numeric", "real", "integer")
_QUOTED = r"""'(?P<single>(?:[^'\\]|\\.)*)'|"(?P<double>(?:[^"\\]|\\.)*)\""""
_ATTRIBUTE = re.compile(rf"@attribute\s+(?:{_QUOTED}|(?P<bare>[^\s{{]+))\s*(?P<type>.+)", re.IGNORECASE)
_FIELD = re.compile(rf"\s*(?:{_QUOTED}|(?P<bare>[^,]*?))\s*,")
_SPARSE_FIELD = re.compile(rf"\s*(?P<index>\d+)\s+(?:{_QUOTED}|(?P<bare>[^,]*?))\s*,")

Type = str | list[str]  # the type in lower case, or the values of a nominal attribute


def parse_arff(text: str) -> pd.DataFrame:
    lines = enumerate(map(str.strip, text.splitlines()), start=1)
    names, types = _read_header(lines)
    columns: list[list[str | None]] = [[] for _ in names]
    for number, line in lines:
        if not line or line.startswith("%"):
            continue
        row = _sparse_row(line[1:-1], types, number) if line.startswith("{") else _row(line, number)
        if len(row) != len(names):
            raise ValueError(f"line {number} has {len(row)} values, but {len(names)} attributes are declared")
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return pd.concat(list(map(_series, names, types, columns)), axis=1)


def _read_header(lines: Iterator[tuple[int, str]]) -> tuple[list[str], list[Type]]:
    """Read the names and types of the attributes, up to and with ``@data``."""
    names: list[str] = []
    types: list[Type] = []
    for number, line in lines:
        if line.lower().startswith("@data") and names:
            return names, types
        if not line.lower().startswith("@attribute"):
            continue
        match = _ATTRIBUTE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} is no attribute with a name and a type: {line!r}")
        names.append(_value(match) or "?")
        kind = match["type"].strip()
        nominal = kind.startswith("{") and kind.endswith("}")
        types.append([value or "?" for value in _row(kind[1:-1], number)] if nominal else kind.split()[0].lower())
    raise ValueError("there are no @attribute lines followed by @data")


def _row(line: str, number: int) -> list[str | None]:
    """Split a line at its commas; None is a bare question mark."""
    if "'" not in line and '"' not in line:
        return [None if field == "?" else field for field in map(str.strip, line.split(","))]
    return [_value(match) for match in _matches(_FIELD, line, number)]


def _sparse_row(inside: str, types: list[Type], number: int) -> list[str | None]:
    """Read ``index value, index value ...``."""
    row: list[str | None] = [kind[0] if isinstance(kind, list) else "0" if kind in _NUMERIC else None for kind in types]
    for match in _matches(_SPARSE_FIELD, inside, number) if inside.strip() else ():
        index = int(match["index"])
        if index >= len(types):
            raise ValueError(f"line {number} gives attribute {index}, but there are 0 to {len(types) - 1}")
        row[index] = _value(match)
    return row


def _matches(pattern: re.Pattern[str], line: str, number: int) -> list[re.Match[str]]:
    """Match the fields of a line, which must cover it."""
    matches = list(pattern.finditer(line + ","))
    if sum(len(match[0]) for match in matches) != len(line) + 1:
        raise ValueError(f"line {number} is malformed: {line!r}")
    return matches


def _value(match: re.Match[str]) -> str | None:
    if match["bare"] is not None:
        return None if match["bare"] == "?" else match["bare"]
    return re.sub(r"\\(.)", r"\1", match["single"] or match["double"] or "")


def _series(name: str, kind: Type, values: list[str | None]) -> pd.Series:
    if isinstance(kind, list):
        unknown = set(values) - {None, *kind}
        if unknown:
            raise ValueError(f"attribute {name!r} has the undeclared value {min(filter(None, unknown), default='')!r}")
        return pd.Series(pd.Categorical(values, categories=list(dict.fromkeys(kind))), name=name)
    if kind in _NUMERIC:
        try:
            return pd.to_numeric(pd.Series(values, name=name, dtype=object)).astype("float64")
        except ValueError as error:
            raise ValueError(f"attribute {name!r} is {kind}: {error}") from error
    return pd.Series(values, name=name, dtype="str")
