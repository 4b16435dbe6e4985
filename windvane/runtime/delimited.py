"""Text files with a header, whose delimiter is found."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import pandas as pd
from pandas.errors import ParserWarning

from .errors import InputError

DECLARED_DELIMITER = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # the first line of what Excel writes
_ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")
_DELIMITERS = ",;\t|"
_BYTES, _ROWS = 1 << 16, 50  # that are looked at


def read_delimited(path: Path, texts: Sequence[str] = ()) -> pd.DataFrame:
    """Read a text file in UTF-8, UTF-16 or Latin-1, compressed or not; the columns `texts` stay texts."""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        beginning = file.read(_BYTES)
    encodings = ("utf-16",) if beginning[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else _ENCODINGS
    if len(beginning) == _BYTES and encodings == _ENCODINGS:
        beginning = beginning[: beginning.rfind(b"\n") + 1] or beginning
    text = beginning.decode(encodings[0], errors="replace")
    declared = DECLARED_DELIMITER.match(text)
    delimiter = declared[1] if declared else find_header(text)[0]
    options: dict[str, Any] = {"sep": delimiter, "index_col": False, "low_memory": False}
    options |= {"skiprows": 1 if declared else 0, "dtype": dict.fromkeys(texts, "str")}
    with catch_warnings():
        simplefilter("error", ParserWarning)  # rows longer than the header
        for encoding in encodings:
            try:
                frame: pd.DataFrame = pd.read_csv(path, encoding=encoding, **options)
                return frame
            except UnicodeDecodeError:
                continue
            except ParserWarning as error:
                raise InputError(f"{path} cannot be read: {str(error).strip()}") from error
    raise InputError(f"{path} is no text in UTF-8, UTF-16 or Latin-1.")


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
