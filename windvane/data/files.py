"""Files and the tables of other libraries -> pandas frames, and back to files."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse as sp
from sklearn.utils.validation import check_array

from windvane.data.arff import parse_arff
from windvane.data.number_columns import number_forms
from windvane.errors import InputError, check_choice, some_of, warn_user
from windvane.runtime.columns.column_values import are_codes, distinct_texts, plain_numbers, to_canonical_text
from windvane.runtime.columns.schema import Frame, is_one_row, of_array, with_text_names
from windvane.runtime.delimited import (
    UNREADABLE,
    DelimitedFile,
    check_exists,
    check_rows,
    decode,
    read_bytes,
    refuse_duplicates,
)
from windvane.runtime.serialization import replace_file

READABLE = (
    *(".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".feather", ".arff", ".arff.gz"),
    *(".json", ".json.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz", ".xlsx", ".xls", ".ods", ".db", ".sqlite"),
)
WRITABLE = (".csv", ".csv.gz", ".parquet", ".feather")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".avif")

MIN_AMONG = 0.9  # share of the numbers that name columns that are among the values of these
MAX_NAMED = 5  # names in a warning
_SNIFFED_NUMBERS = 1000  # rows that show how a file writes numbers


def read_frame(path: str | os.PathLike[str], texts: Iterable[str] = ()) -> pd.DataFrame:
    """Read a table from a file; in CSV and TSV the columns `texts` stay texts.

    The name of a sheet or of a table of a database may follow the name of the file: ``book.xlsx?June``,
    ``sqlite:///shop.db?orders``. A folder of Parquet, Feather or CSV files is one table.
    """
    file, part = _split_name(Path(path))
    kind = "folder" if file.is_dir() else _suffix(file, READABLE)
    if kind != "folder":
        check_exists(file)
    try:
        if kind == "folder":
            frame = _read_folder(file, texts)
        elif kind == ".parquet":
            frame = pd.read_parquet(file)
        elif kind == ".feather":
            frame = pd.read_feather(file)
        elif kind.startswith(".arff"):
            frame = parse_arff(decode(read_bytes(file)))
        elif kind in (".xlsx", ".xls", ".ods"):
            frame = _read_sheet(file, part, texts)
        elif kind in (".db", ".sqlite"):
            frame = _read_database(file, part)
        elif "json" in kind:
            frame = _read_json(file, lines=kind not in (".json", ".json.gz"))
        else:
            frame = _read_delimited(file, texts)
        refuse_duplicates(frame.columns)
    except InputError:
        raise
    except (*UNREADABLE, sqlite3.Error) as error:
        raise InputError(f"{file} cannot be read as {kind.removeprefix('.')}: {str(error).strip()}") from error
    check_rows(frame, file)
    return frame


def missing_words(path: str | os.PathLike[str], name: str) -> list[str]:
    """Return the words of a column of a CSV or TSV file that are read as missing values, such as NA and None."""
    file = Path(path)
    if not file.is_file() or not file.name.lower().endswith((".csv", ".csv.gz", ".tsv", ".tsv.gz")):
        return []
    delimited = DelimitedFile.find(file)
    values, words = (delimited.read("str", [name], missing=missing)[name] for missing in (True, False))
    return [str(word) for word in words[values.isna()].unique() if str(word).strip()]


def _split_name(path: Path) -> tuple[Path, str | None]:
    """Return the file, without a protocol, and the name of a sheet or table behind its question mark."""
    name, part = os.fspath(path), ""
    if "?" in name and not path.exists():
        name, _, part = name.rpartition("?")
    if name.startswith("sqlite:"):
        name = name.removeprefix("sqlite:").lstrip("/")
        name = name if os.path.exists(name) else f"/{name}"  # `Path` has made one slash of three and of four
    return Path(name), part or None


def _read_folder(folder: Path, texts: Iterable[str]) -> pd.DataFrame:
    """Read files of one format as one table, the names of folders such as ``year=2024`` being columns."""
    import pyarrow.dataset as arrow

    kinds = {".parquet": "parquet", ".feather": "feather", ".arrow": "ipc", ".csv": "csv"}
    found = Counter(file.suffix.lower() for file in folder.rglob("*") if file.suffix.lower() in kinds)
    if not found and any(file.suffix.lower() in IMAGE_SUFFIXES for file in folder.rglob("*")):
        raise InputError(
            f"{folder} is a folder of images. Allowed: a table, which is a file or a folder of {', '.join(kinds)}. "
            "Images are learned by windvane fit without --target, in Python by AutoImageClassifier."
        )
    if not found:
        raise InputError(f"{folder} is a folder, not a file, and holds none of {', '.join(kinds)}.")
    suffix = found.most_common(1)[0][0]
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() == suffix)
    if suffix == ".csv":  # of which Arrow's reader knows commas and UTF-8 alone
        return _read_csv_files(files, folder, texts)
    parts = arrow.partitioning(flavor="hive")
    names = list(map(str, files))
    data = arrow.dataset(names, format=kinds[suffix], partitioning=parts, partition_base_dir=str(folder))
    frame: pd.DataFrame = data.to_table().to_pandas()
    return frame


def _read_csv_files(files: Sequence[Path], folder: Path, texts: Iterable[str]) -> pd.DataFrame:
    """Read CSV files as one table; a column that is text in one of them is text in all."""

    def read(texts: list[str]) -> list[pd.DataFrame]:
        frames = []
        for file in files:
            try:
                frames.append(_read_delimited(file, texts))
            except UNREADABLE as error:
                raise ValueError(f"{file.relative_to(folder)}: {str(error).strip()}") from error
        return frames

    texts = list(texts)
    frames = read(texts)
    kinds: dict[str, set[bool]] = {}
    for frame in frames:
        for name, dtype in frame.dtypes.items():
            kinds.setdefault(str(name), set()).add(pd.api.types.is_string_dtype(dtype))
    of_both = [name for name, are_texts in kinds.items() if len(are_texts) > 1]
    if of_both:
        frames = read([*texts, *of_both])
    named: list[str] = []
    for frame, file in zip(frames, files, strict=True):
        for name, equals, value in (part.partition("=") for part in file.relative_to(folder).parts[:-1]):
            if equals:
                frame[name] = unquote(value)
                named.append(name)
    table = pd.concat(frames, ignore_index=True)
    for name in dict.fromkeys(named):
        numbers = pd.to_numeric(table[name], errors="coerce")
        if numbers.notna().all():
            table[name] = numbers
    return table


def _read_json(file: Path, *, lines: bool) -> pd.DataFrame:
    try:
        return pd.read_json(file, lines=lines, orient="records", dtype=False, precise_float=True)
    except ValueError as error:
        if any(words in str(error) for words in ("scalar values", "DataFrame constructor")):
            raise ValueError("it is no list of rows, as in [{column: value, ...}, ...]") from error
        raise


def _read_sheet(file: Path, sheet: str | None, texts: Iterable[str]) -> pd.DataFrame:
    """Read a sheet; cells of the columns `texts`, and codes such as 01234, stay what they are in it."""
    try:
        from python_calamine import CalamineError, load_workbook
    except ImportError as error:
        raise InputError(f"{file} is a spreadsheet; pip install 'windvane[excel]' reads those.") from error
    try:
        names = load_workbook(str(file)).sheet_names
        if sheet is not None:
            check_choice("sheet", sheet, names)
        with pd.ExcelFile(file, engine="calamine") as book:
            frame = pd.read_excel(book, sheet_name=sheet or 0, dtype=dict.fromkeys(texts, object))
            whole = _whole_numbers(frame)
            if whole:  # pandas makes numbers of all cells that look like them
                _restore_codes(frame, pd.read_excel(book, sheet_name=sheet or 0, dtype=object)[whole])
        return frame
    except CalamineError as error:
        raise ValueError(error) from error


def _read_database(file: Path, table: str | None) -> pd.DataFrame:
    """Read a table, or the only one, of a database of SQLite, which is not written to."""
    with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        kinds = "type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
        names = [name for (name,) in connection.execute(f"SELECT name FROM sqlite_master WHERE {kinds}")]
        if table is None and len(names) != 1:
            named = f" Allowed: one of them, as in {file}?{names[0]}." if names else ""
            raise InputError(f"{file} holds {len(names)} tables.{named}")
        if table is not None:
            check_choice("table", table, names)
        quoted = (table or names[0]).replace('"', '""')
        return pd.read_sql_query(f'SELECT * FROM "{quoted}"', connection)


def check_writable(file: Path) -> str:
    """Return the suffix of a table to write; InputError if it is unknown or the folder is not there."""
    kind = _suffix(file, WRITABLE)
    if not file.parent.is_dir():
        raise InputError(f"{file} cannot be written: the folder {file.parent} does not exist.")
    return kind


def write_frame(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table to a file, without its index; a file that is there is replaced once the new one is complete."""
    file = Path(path)
    kind = check_writable(file)
    with replace_file(file) as part:
        if kind == ".parquet":
            frame.to_parquet(part, index=False)
        elif kind == ".feather":
            frame.reset_index(drop=True).to_feather(part)
        else:
            frame.to_csv(part, index=False, compression="gzip" if kind == ".csv.gz" else None)


def to_frame(X: Any) -> Frame:
    """Convert a table of any library to a checked DataFrame or CSR matrix."""
    if sp.issparse(X):
        return sp.csr_matrix(_check(X))
    if hasattr(X, "to_pandas"):  # polars, Arrow and others
        _refuse_nested(_foreign_types(X))
        X = X.to_pandas()
    if isinstance(X, pd.Series):
        X = X.to_frame()
    elif is_one_row(X):
        X = pd.DataFrame([X])
    elif _has_names(X):
        X = pd.DataFrame(X)
    if not isinstance(X, pd.DataFrame):
        return of_array(_check(_to_array(X)))
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
    types = set(frame.dtypes)
    if any(isinstance(dtype, pd.ArrowDtype) for dtype in types):
        _refuse_nested(
            (name, dtype.pyarrow_dtype)
            for name, dtype in zip(frame.columns, frame.dtypes, strict=True)
            if isinstance(dtype, pd.ArrowDtype)
        )
    if any(getattr(dtype, "kind", "") == "c" for dtype in types):
        raise InputError("Complex data not supported: X has columns of complex numbers.")
    for size, what in zip(frame.shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise InputError(f"Found array with 0 {what}(s) (shape={frame.shape}) while a minimum of 1 is required.")
    named = with_text_names(frame)
    if not named.columns.is_unique:
        twice = named.columns[named.columns.duplicated()][0]
        given = [name for name, text in zip(frame.columns, named.columns, strict=True) if text == twice]
        different = "" if len(set(map(repr, given))) == 1 else f" ({', '.join(map(repr, given))}, matched as texts)"
        raise InputError(f"X cannot be used: two columns have the same name: {twice!r}{different}.")
    return named


def _refuse_nested(types: Iterable[tuple[object, object]]) -> None:
    """Raise for columns of lists and structs, given names and the types of Arrow or polars."""
    for name, dtype in types:
        if str(dtype).lower().startswith(("list", "large_list", "fixed_size_list", "struct", "map<", "array(")):
            raise InputError(
                f"X cannot be used: column {name!r} is of type {dtype}. Take lists and structs apart into columns of "
                "numbers or texts before."
            )


def _has_names(X: Any) -> bool:
    """Whether the columns of a dictionary, a list of dictionaries or a structured array have names."""
    if isinstance(X, np.ndarray):
        return X.dtype.names is not None
    return isinstance(X, Mapping) or (isinstance(X, list) and bool(X) and all(isinstance(row, Mapping) for row in X))


def _foreign_types(X: Any) -> Iterable[tuple[object, object]]:
    """Names and types of a table of Arrow or polars."""
    schema = getattr(X, "schema", None)
    if isinstance(schema, Mapping):  # polars
        return list(schema.items())
    return list(zip(getattr(schema, "names", ()), getattr(schema, "types", ()), strict=True))


def unmask(values: np.ma.MaskedArray[Any, Any]) -> NDArray[Any]:
    """Make what is masked missing: NaN, or None beside other things than numbers."""
    if values.dtype.kind in "biuf":
        return np.where(np.ma.getmaskarray(values), np.nan, values.data.astype(np.float64))
    objects: NDArray[Any] = values.data.astype(object)
    objects[np.ma.getmaskarray(values)] = None
    return objects


def _to_array(X: Any) -> NDArray[Any]:
    if isinstance(X, np.ma.MaskedArray):
        X = unmask(X)
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


def _read_delimited(file: Path, texts: Iterable[str]) -> pd.DataFrame:
    """Read CSV or TSV; in a file with decimal commas 12.500 stays a text, since it is not 12.5."""
    delimited = DelimitedFile.find(file)
    frame = delimited.read(dtype=dict.fromkeys(texts, "str"))
    if _header_is_a_row(frame):
        warn_user(
            f"{file}: the first line names the columns, but looks like a row: "
            f"{some_of(list(frame.columns), MAX_NAMED)}. If the file has no header, add one."
        )
    marks: set[str] = set()
    for name in frame.columns[[pd.api.types.is_string_dtype(dtype) for dtype in frame.dtypes]]:
        evidence = number_forms(frame[name].iloc[:_SNIFFED_NUMBERS].dropna())
        if evidence.forms and not evidence.doubtful:
            marks.add(evidence.forms[0].decimal)
    if marks == {","} or delimited.delimiter == ";":
        frame.attrs["decimal"] = ","  # Excel writes semicolons where commas are decimal
    names = [name for name in frame.columns if frame[name].dtype.kind == "f"] if marks == {","} else []
    if names:
        as_texts = delimited.read(dtype="str", usecols=names)
        for name in names:
            evidence = number_forms(as_texts[name].dropna())
            if evidence.doubtful and any(form.decimal == "," for form in evidence.forms):
                frame[name] = as_texts[name]
    whole = _whole_numbers(frame)
    if whole and delimited.may_have_codes():
        _restore_codes(frame, delimited.read(dtype="str", usecols=whole))
    return frame


def _header_is_a_row(frame: pd.DataFrame) -> bool:
    """Whether names are numbers among the values of their columns, and not evenly spaced as years are."""
    names = plain_numbers(frame.columns)  # NaN for a word
    places = np.flatnonzero(np.isfinite(names)).tolist()
    steps = np.diff(names[places])
    if len(places) < max(2, len(names) / 2) or np.allclose(steps, 1.0 if len(steps) < 2 else steps[0]):
        return False
    columns = [frame.iloc[:, i] for i in places]
    among = [
        column.dtype.kind in "iuf" and bool(column.min() <= name <= column.max())
        for column, name in zip(columns, names[places], strict=True)
    ]
    return bool(np.mean(among) >= MIN_AMONG)


def _whole_numbers(frame: pd.DataFrame) -> list[Any]:
    """Names of the columns of whole numbers, of which a file may have written some with leading zeros."""
    return [
        name
        for name, values in frame.items()
        if values.dtype.kind in "iu" or (values.dtype.kind == "f" and bool((values.dropna() % 1 == 0).all()))
    ]


def _restore_codes(frame: pd.DataFrame, written: pd.DataFrame) -> None:
    """Replace columns of numbers by codes such as 01234, where they are written so in a file."""
    for name, values in written.items():
        if are_codes(distinct_texts(values)[1]):
            frame[name] = values.map(to_canonical_text, na_action="ignore").astype("str")
