"""Text files with a header, whose delimiter is found."""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from pathlib import Path
from warnings import catch_warnings, simplefilter

import pandas as pd
from pandas.errors import ParserWarning

from .errors import InputError

_DELIMITERS = ",;\t|"
_BYTES, _ROWS = 1 << 16, 50  # that are looked at


def read_delimited(path: Path) -> pd.DataFrame:
    """Read a text file in UTF-8 or Latin-1, compressed or not."""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        beginning = file.read(_BYTES)
    if len(beginning) == _BYTES:
        beginning = beginning[: beginning.rfind(b"\n") + 1] or beginning
    delimiter = find_header(beginning.decode("utf-8-sig", errors="replace"))[0]
    with catch_warnings():
        simplefilter("error", ParserWarning)  # rows longer than the header
        for encoding in ("utf-8-sig", "latin-1"):
            try:
                return pd.read_csv(path, sep=delimiter, encoding=encoding, index_col=False, low_memory=False)
            except UnicodeDecodeError:
                continue
            except ParserWarning as error:
                raise InputError(f"{path} cannot be read: {str(error).strip()}") from error
    raise InputError(f"{path} is no text in UTF-8 or Latin-1.")


def find_header(text: str) -> tuple[str, list[str]]:
    """Find the delimiter that splits the first rows most evenly, and the header it gives."""
    best: tuple[tuple[bool, float, int], str, list[str]] = ((False, 0.0, 1), ",", text.splitlines()[:1])
    for delimiter in _DELIMITERS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [row for row, _ in zip(reader, range(_ROWS), strict=False) if row]
        if rows:
            width, times = Counter(map(len, rows)).most_common(1)[0]
            rating = (width == len(rows[0]), times / len(rows), width)
            if width > 1 and rating > best[0]:
                best = (rating, delimiter, rows[0])
    return best[1], best[2]
