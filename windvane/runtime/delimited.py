"""Text files with a header, whose delimiter is found."""

from __future__ import annotations

import codecs
import contextlib
import csv
import gzip
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import pandas as pd
from pandas.errors import ParserWarning

from .errors import InputError

UNREADABLE = (OSError, EOFError, ValueError, zlib.error, ParserWarning)  # what readers raise over a damaged file
_DECLARED_DELIMITER = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)  # the first line of what Excel writes
_ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")  # the last one fits all bytes
_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_DELIMITERS = ",;\t|"
_BYTES, _ROWS = 1 << 16, 50  # that are looked at; more bytes where the lines are long
_LINES, _MOST_BYTES = 3, 1 << 26
_SCANNED = 1 << 24  # bytes at once


@dataclass(frozen=True)
class DelimitedFile:
    """How a text file is written: in UTF-8, UTF-16, Windows-1252 or Latin-1, compressed or not."""

    path: Path
    delimiter: str
    declared: bool  # whether the first line names the delimiter
    encodings: tuple[str, ...]  # that are tried one after the other

    @classmethod
    def find(cls, path: Path) -> DelimitedFile:
        """Look at the beginning of a file."""
        size = _BYTES
        beginning = read_bytes(path, size)
        while len(beginning) == size < _MOST_BYTES and beginning.count(b"\n") < _LINES:
            size *= 4
            beginning = read_bytes(path, size)
        wide = _is_utf16(beginning)
        if b"\0" in beginning and not wide:
            raise ValueError("it is no text in UTF-8, UTF-16 or Latin-1")
        if len(beginning) == size and not wide:
            beginning = beginning[: beginning.rfind(b"\n") + 1] or beginning
        text = beginning.decode("utf-16" if wide else "utf-8-sig", errors="replace")
        delimiter, header, begin = find_header(text)
        refuse_duplicates(name for name in header if name)  # pandas would rename them
        return cls(path, delimiter, begin > 0, ("utf-16",) if wide else _ENCODINGS)

    def may_have_codes(self) -> bool:
        """Whether some field begins with a zero and another digit, as 01234 does; most files have none."""
        before = np.zeros(256, dtype=bool)
        before[list(f'{self.delimiter}\n\r" \t'.encode())] = True
        with open_bytes(self.path) as stream:
            end = b"\n"
            while block := stream.read(_SCANNED):
                part = np.frombuffer(end + block.replace(b"\0", b""), dtype=np.uint8)  # UTF-16 has zeros
                zeros = np.flatnonzero(part[1:-1] == ord("0"))
                after = part[zeros + 2]
                if (before[part[zeros]] & (after >= ord("0")) & (after <= ord("9"))).any():
                    return True
                end = part[-2:].tobytes()
        return False

    def read(self, dtype: Any, usecols: list[str] | None = None, *, missing: bool = True) -> pd.DataFrame:
        """Read the file with pandas' C parser; words such as NA and None are missing values, or texts."""
        for encoding in self.encodings:
            with catch_warnings(), contextlib.suppress(UnicodeDecodeError):
                simplefilter("error", ParserWarning)  # rows longer than the header
                try:
                    frame: pd.DataFrame = pd.read_csv(
                        self.path,
                        sep=self.delimiter,
                        encoding=encoding,
                        index_col=False,
                        low_memory=False,
                        skiprows=1 if self.declared else 0,
                        dtype=dtype,
                        usecols=usecols,
                        keep_default_na=missing,
                    )
                except ParserWarning as error:
                    raise ValueError("lines have more fields than the first one, which names the columns") from error
                return frame
        raise ValueError("it is no text in UTF-8, UTF-16 or Latin-1")


def read_delimited(path: str | os.PathLike[str], texts: Sequence[str] = ()) -> pd.DataFrame:
    """Read a text file, the columns `texts` as texts; InputError says why it cannot be read."""
    file = Path(path)
    check_exists(file)
    try:
        frame = DelimitedFile.find(file).read(dtype=dict.fromkeys(texts, "str"))
        refuse_duplicates(frame.columns)
    except UNREADABLE as error:
        raise InputError(f"{file} cannot be read as a table: {str(error).strip()}") from error
    check_rows(frame, file)
    return frame


def check_exists(file: Path) -> None:
    """Raise InputError where there is no such file."""
    if not os.path.isfile(file):  # False also for names that are too long
        raise InputError(f"{file} {'is a folder, not a file' if file.is_dir() else 'does not exist'}.")


def check_rows(frame: pd.DataFrame, file: Path) -> None:
    """Raise InputError for a table without rows."""
    if len(frame) == 0:
        raise InputError(f"{file} has columns but no rows.")


def refuse_duplicates(names: Iterable[object]) -> None:
    """Raise ValueError where two columns have the same name."""
    # The index knows at once whether it has any; wide tables are predicted row by row.
    if isinstance(names, pd.Index) and names.is_unique:
        return
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        numbers = any(re.fullmatch(r"-?\d+(\.\d+)?", name) for name in twice)
        hint = "; the first line must name the columns" if numbers else ""
        raise ValueError(f"two columns have the same name: {', '.join(map(repr, twice))}{hint}")


def find_header(text: str) -> tuple[str, list[str], int]:
    """Return the delimiter, the header, and where it begins.

    A line before the header may declare the delimiter; else it is the one that splits the first rows most evenly.
    """
    declared = _DECLARED_DELIMITER.match(text)
    begin, delimiters = (declared.end(), declared[1]) if declared else (0, _DELIMITERS)
    table = text[begin:]
    best: tuple[tuple[bool, float, int], str, list[str]] = ((False, 0.0, 1), delimiters[0], table.splitlines()[:1])
    for delimiter in delimiters:
        reader = csv.reader(io.StringIO(table, newline=""), delimiter=delimiter)
        rows: list[list[str]] = []
        with contextlib.suppress(csv.Error):  # a line without this delimiter may be longer than fields can be
            rows = [row for row, _ in zip(reader, range(_ROWS), strict=False) if row]
        if rows:
            width, times = Counter(map(len, rows)).most_common(1)[0]
            rating = (width == len(rows[0]), times / len(rows), width)
            if width > 1 and rating > best[0]:
                best = (rating, delimiter, rows[0])
    return best[1], best[2], begin


def read_bytes(file: Path, size: int = -1) -> bytes:
    """Read a file, compressed or not, or its beginning."""
    with open_bytes(file) as stream:
        return stream.read(size)


def open_bytes(file: Path) -> gzip.GzipFile | io.BufferedReader:
    """Open a file, compressed or not."""
    return gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb")


def read_text(file: Path) -> str | None:
    """Read a text file, compressed or not; None if it is not one."""
    try:
        content = read_bytes(file)
    except (OSError, EOFError, zlib.error):
        return None
    if _is_utf16(content):
        return content.decode("utf-16", errors="replace")
    return None if b"\0" in content else decode(content)


def _is_utf16(content: bytes) -> bool:
    """Whether a text begins with the mark of UTF-16, with which that of UTF-32 begins, too."""
    return content[:2] in _MARKS and content[:4] != codecs.BOM_UTF32_LE


def decode(content: bytes) -> str:
    """Decode a text by the first encoding that fits, as `DelimitedFile.read` does."""
    for encoding in _ENCODINGS[:-1]:
        with contextlib.suppress(UnicodeDecodeError):
            return content.decode(encoding)
    return content.decode(_ENCODINGS[-1])
