"""Files and the tables of other libraries -> pandas frames, and back to files."""

from __future__ import annotations

import gzip
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.errors import ParserWarning
from scipy import sparse as sp
from sklearn.utils.validation import check_array

from windvane.data.arff import parse_arff
from windvane.errors import InputError
from windvane.runtime.columns.schema import is_unnamed
from windvane.runtime.delimited import find_header

Frame = pd.DataFrame | sp.csr_matrix

READABLE = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".feather", ".arff", ".arff.gz")
WRITABLE = (".csv", ".csv.gz", ".parquet", ".feather")

_SNIFFED_BYTES = 1 << 16


def read_frame(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a table from a file."""
    file = Path(path)
    kind = _suffix(file, READABLE)
    if not file.is_file():
        raise InputError(f"{file} {'is a folder, not a file' if file.is_dir() else 'does not exist'}.")
    try:
        if kind == ".parquet":
            frame = pd.read_parquet(file)
        elif kind == ".feather":
            frame = pd.read_feather(file)
        elif kind.startswith(".arff"):
            frame = parse_arff(_decode(_read_bytes(file)))
        else:
            frame = _read_delimited(file)
        _refuse_duplicates(frame.columns)
    except (OSError, EOFError, ValueError, zlib.error, ParserWarning) as error:
        raise InputError(f"{file} cannot be read as {kind[1:]}: {str(error).strip()}") from error
    if len(frame) == 0:
        raise InputError(f"{file} has columns but no rows.")
    return frame


def write_frame(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table to a file, without its index; a file that is there is replaced once the new one is complete."""
    file = Path(path)
    kind = _suffix(file, WRITABLE)
    if not file.parent.is_dir():
        raise InputError(f"{file} cannot be written: the folder {file.parent} does not exist.")
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        if kind == ".parquet":
            frame.to_parquet(part, index=False)
        elif kind == ".feather":
            frame.reset_index(drop=True).to_feather(part)
        else:
            frame.to_csv(part, index=False, compression="gzip" if kind == ".csv.gz" else None)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def to_frame(X: Any) -> Frame:
    """Convert a table of any library to a checked DataFrame or CSR matrix."""
    if sp.issparse(X):
        return sp.csr_matrix(_check(X))
    if hasattr(X, "to_pandas"):  # polars, Arrow and others
        X = X.to_pandas()
    if isinstance(X, pd.Series):
        X = X.to_frame()
    elif isinstance(X, Mapping) or (isinstance(X, list) and X and all(isinstance(row, Mapping) for row in X)):
        X = pd.DataFrame(X)
    if not isinstance(X, pd.DataFrame):
        return pd.DataFrame(_check(_to_array(X)), copy=False)
    return _check_frame(X)


def _suffix(file: Path, allowed: Iterable[str]) -> str:
    name = file.name.lower()
    for suffix in sorted(allowed, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise InputError(f"{file} has no known suffix; allowed are {', '.join(allowed)}.")


def _check(X: Any) -> Any:
    """Hold arrays and sparse matrices to scikit-learn's rules, in its words."""
    dtype = np.float64 if sp.issparse(X) else None
    try:
        return check_array(X, accept_sparse="csr", dtype=dtype, ensure_all_finite=False)
    except ValueError as error:
        raise InputError(str(error)) from error


def _check_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Hold a frame to the same rules as arrays, and make the names of its columns strings."""
    if any(getattr(dtype, "kind", "") == "c" for dtype in set(frame.dtypes)):
        raise InputError("Complex data not supported: X has columns of complex numbers.")
    for size, what in zip(frame.shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise InputError(f"Found array with 0 {what}(s) (shape={frame.shape}) while a minimum of 1 is required.")
    if is_unnamed(frame):
        return frame
    if frame.columns.inferred_type != "string" or frame.columns.hasnans:
        frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    try:
        _refuse_duplicates(frame.columns)
    except ValueError as error:
        raise InputError(f"X cannot be used: {error}") from error
    return frame


def _to_array(X: Any) -> NDArray[Any]:
    try:
        array = np.asarray(X)
        if isinstance(X, list | tuple) and array.dtype.kind in "US":
            array = np.asarray(X, dtype=object)  # NumPy turns numbers beside texts into texts
    except ValueError as error:
        raise InputError(f"X is a list whose rows differ in length or depth: {error}") from error
    if array.ndim == 0:
        raise InputError(
            f"X is of type {type(X).__name__}, but must be a table: a pandas, polars or Arrow table, an array, "
            "a list of rows or a SciPy sparse matrix."
        )
    return array


def _refuse_duplicates(names: Iterable[object]) -> None:
    # The index knows at once whether it has any; wide tables are predicted row by row.
    if isinstance(names, pd.Index) and names.is_unique:
        return
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"two columns have the same name: {', '.join(map(repr, twice))}")


def _read_bytes(file: Path, size: int = -1) -> bytes:
    with gzip.open(file) if file.name.lower().endswith(".gz") else file.open("rb") as stream:
        return stream.read(size)


def _decode(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def read_text(file: Path) -> str | None:
    """Read a text file in UTF-8 or Latin-1, compressed or not; None if it is none."""
    try:
        content = _read_bytes(file)
    except (OSError, EOFError, zlib.error):
        return None
    return None if b"\0" in content else _decode(content)


def _read_delimited(file: Path) -> pd.DataFrame:
    """Read CSV or TSV with pandas' C parser, after a look at the beginning."""
    beginning = _read_bytes(file, _SNIFFED_BYTES)
    if b"\0" in beginning:
        raise ValueError("it is no text in UTF-8 or Latin-1")
    if len(beginning) == _SNIFFED_BYTES:
        beginning = beginning[: beginning.rfind(b"\n") + 1] or beginning
    text = beginning.decode("utf-8-sig", errors="replace")
    delimiter, header = find_header(text)
    _refuse_duplicates(name for name in header if name)  # pandas would rename them
    with catch_warnings():
        simplefilter("error", ParserWarning)  # rows longer than the header
        for encoding in ("utf-8-sig", "latin-1"):
            try:
                return pd.read_csv(file, sep=delimiter, encoding=encoding, index_col=False, low_memory=False)
            except UnicodeDecodeError:
                continue
    raise ValueError("it is no text in UTF-8 or Latin-1")
