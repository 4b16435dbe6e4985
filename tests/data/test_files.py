import contextlib
import gzip
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from scipy import sparse as sp

from windvane.data.column_types import infer_schema
from windvane.data.files import READABLE, WRITABLE, read_frame, to_frame, write_frame
from windvane.errors import InputError
from windvane.runtime.columns.schema import is_unnamed

FRAME = pd.DataFrame(
    {
        "number": [1.5, np.nan, -3.0],
        "text": ["a, b; c", 'say "x"', "ü\tnew\nline"],
        "whole": [1, 2, 3],
        "flag": [True, False, True],
    }
)


@pytest.mark.parametrize("suffix", WRITABLE)
def test_what_is_written_can_be_read(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    write_frame(FRAME, path)
    assert_frame_equal(read_frame(path), FRAME)
    write_frame(FRAME[["whole"]], str(path))  # over the old one
    assert_frame_equal(read_frame(str(path)), FRAME[["whole"]])
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_frame_with_an_index_is_written_without_it(tmp_path):
    for suffix in WRITABLE:
        write_frame(FRAME.set_index("whole"), tmp_path / f"t{suffix}")
        assert list(read_frame(tmp_path / f"t{suffix}").columns) == ["number", "text", "flag"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".CSV"])
def test_delimiters_are_found(tmp_path, delimiter, suffix):
    path = tmp_path / f"t{suffix}"
    text = FRAME.to_csv(sep=delimiter, index=False).encode("utf-8")
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    assert_frame_equal(read_frame(path), FRAME)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.text("ab,;|\t\" \n'1.", max_size=6), min_size=3, max_size=3), min_size=2, max_size=6),
    st.sampled_from(",;\t|"),
)
def test_delimiters_are_found_among_others(tmp_path_factory, rows, delimiter):
    rows = [["x" + cell for cell in row] for row in rows]  # no cell is empty or a number
    frame = pd.DataFrame(rows, columns=["name a", "name b", "name c"])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text(frame.to_csv(sep=delimiter, index=False, quoting=1), encoding="utf-8", newline="")
    assert_frame_equal(read_frame(path), frame)


def test_one_column_and_decimal_commas(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text\none\ntwo\n")
    assert read_frame(path)["text"].tolist() == ["one", "two"]
    path.write_text("a;b;c\n1,5;2,5;3\n1,5;2;3\n")
    assert list(read_frame(path).columns) == ["a", "b", "c"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
@pytest.mark.parametrize("suffix", [".csv", ".arff"])
def test_encodings(tmp_path, encoding, suffix):
    text = "größe,b\nüber,1\n" if suffix == ".csv" else "@attribute größe string\n@attribute b real\n@data\nüber,1\n"
    path = tmp_path / f"t{suffix}"
    path.write_bytes(text.encode(encoding))
    frame = read_frame(path)
    assert frame["größe"].tolist() == ["über"]
    assert list(frame.columns) == ["größe", "b"]


def test_a_long_file_is_read_whole(tmp_path):
    frame = pd.DataFrame({"a": np.arange(20_000), "b": ["x;y"] * 19_999 + ["ü"]})
    (tmp_path / "t.csv").write_bytes(frame.to_csv(index=False).encode("latin-1"))
    assert_frame_equal(read_frame(tmp_path / "t.csv"), frame)


def test_arff_with_gzip(tmp_path):
    (tmp_path / "t.arff.gz").write_bytes(gzip.compress(b"@attribute a real\n@data\n1\n2\n"))
    assert read_frame(tmp_path / "t.arff.gz")["a"].tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.docx", b"", f"has no known suffix; allowed are {', '.join(READABLE)}."),
        ("t.csv", None, "does not exist."),
        ("t.csv", b"", "cannot be read as csv: No columns to parse from file"),
        ("t.csv", b"\n\n", "cannot be read as csv: No columns to parse from file"),
        ("t.csv", b"a,b\n", "has columns but no rows."),
        ("t.csv", b"a,a,b\n1,2,3\n", "two columns have the same name: 'a'"),
        ("t.csv", b"\x89PNG\r\n\x1a\n\0\0\0", "cannot be read as csv: it is no text in UTF-8, UTF-16 or Latin-1"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "cannot be read as csv: Error tokenizing data"),
        ("t.csv", b"text\none, two\nthree\n", "cannot be read as csv: lines have more fields than the first one"),
        ("t.csv", b"a,b\n1,2,3\n4,5,6\n", "cannot be read as csv: lines have more fields than the first one"),
        ("t.json", b'{"a": 1}', "cannot be read as json: it is no list of rows, as in [{column: value, ...}, ...]"),
        ("t.json", b'"text"', "cannot be read as json: it is no list of rows"),
        ("t.csv.gz", b"a,b\n1,2\n", "cannot be read as csv.gz: Not a gzipped file"),
        ("t.csv.gz", gzip.compress(b"a,b\n" + bytes(range(32, 127)) * 9)[:-20], "cannot be read as csv.gz"),
        ("t.parquet", b"nonsense", "cannot be read as parquet"),
        ("t.feather", b"nonsense", "cannot be read as feather"),
        ("t.arff", b"a,b\n1,2\n", "cannot be read as arff: there are no @attribute lines"),
        ("t.arff", b"@attribute a real\n@attribute a real\n@data\n1,2\n", "two columns have the same name: 'a'"),
    ],
)
def test_errors_of_reading(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_frame(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_errors_of_folders(tmp_path):
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(InputError, match=r"is a folder, not a file, and holds none of"):
        read_frame(tmp_path / "t.csv")
    (tmp_path / "birds" / "wren").mkdir(parents=True)
    (tmp_path / "birds" / "wren" / "1.JPG").touch()
    with pytest.raises(InputError, match=r"birds is a folder of images\. Allowed: a table.*fit without --target"):
        read_frame(tmp_path / "birds")
    with pytest.raises(InputError, match=r"has no known suffix; allowed are \.csv, \.csv\.gz, \.parquet, \.feather\."):
        write_frame(FRAME, tmp_path / "t.arff")
    with pytest.raises(InputError, match=r"cannot be written: the folder .* does not exist\."):
        write_frame(FRAME, tmp_path / "none" / "t.csv")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "t.parquet"
    write_frame(FRAME, path)
    with pytest.raises(pa.ArrowException):
        write_frame(pd.DataFrame({"a": [1, "x", object()]}), path)
    assert_frame_equal(read_frame(path), FRAME)
    assert [file.name for file in tmp_path.iterdir()] == ["t.parquet"]


NAMED = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})


@pytest.mark.parametrize(
    "table",
    [
        NAMED,
        pl.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}),
        pa.table({"a": [1.0, 2.0], "b": ["x", "y"]}),
        {"a": [1.0, 2.0], "b": ["x", "y"]},
        [{"a": 1.0, "b": "x"}, {"a": 2.0, "b": "y"}],
    ],
    ids=["pandas", "polars", "arrow", "mapping", "mappings"],
)
def test_tables_with_names(table):
    frame = to_frame(table)
    assert not is_unnamed(frame)
    assert_frame_equal(frame, NAMED, check_dtype=False)


@pytest.mark.parametrize(
    "table",
    [
        np.array([[1, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], dtype=object),
        [[1, 2], [3, 4]],
        [(1, 2), (3, 4)],
        ((1, 2), (3, 4)),
        [np.array([1, 2]), np.array([3, 4])],
        pd.DataFrame([[1, 2], [3, 4]]),
        np.ma.masked_array([[1, 2], [3, 4]]),
    ],
)
def test_tables_without_names(table):
    frame = to_frame(table)
    assert is_unnamed(frame)
    assert frame.to_numpy().tolist() == [[1, 2], [3, 4]]


def test_numbers_beside_texts_stay_numbers():
    assert to_frame([[1, "a"], [2.5, "b"]]).to_numpy().tolist() == [[1, "a"], [2.5, "b"]]


@pytest.mark.parametrize("series", [pd.Series([1, 2], name="a"), pl.Series("a", [1, 2])])
def test_a_column_is_a_table(series):
    assert_frame_equal(to_frame(series), pd.DataFrame({"a": [1, 2]}))
    assert is_unnamed(to_frame(pd.Series([1, 2])))


@pytest.mark.parametrize("make", [sp.csr_matrix, sp.csc_matrix, sp.coo_array, sp.csr_array])
def test_sparse(make):
    dense = np.array([[0, 1], [2, 0]])
    frame = to_frame(make(dense))
    assert isinstance(frame, sp.csr_matrix)
    assert frame.dtype == np.float64
    assert frame.toarray().tolist() == dense.tolist()


def test_names_become_strings():
    frame = pd.DataFrame([[1, 2, 3]], columns=[3, ("a", 1), None])
    assert list(to_frame(frame).columns) == ["3", "('a', 1)", "None"]
    assert list(frame.columns) == [3, ("a", 1), None]
    assert list(to_frame(pd.DataFrame([[1, 2]]).drop(columns=0)).columns) == ["1"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (np.zeros(3), "Reshape your data"),
        ([1, 2, 3], "Reshape your data"),
        (np.zeros((2, 2, 2)), "Found array with dim 3, while dim <= 2 is required"),
        (np.zeros((0, 3)), r"Found array with 0 sample(s) (shape=(0, 3)) while a minimum of 1 is required"),
        (np.zeros((3, 0)), r"0 feature(s) (shape=(3, 0)) while a minimum of 1 is required."),
        (pd.DataFrame({"a": []}), "Found array with 0 sample(s) (shape=(0, 1)) while a minimum of 1 is required."),
        (pd.DataFrame(index=range(3)), "0 feature(s) (shape=(3, 0)) while a minimum of 1 is required."),
        (sp.csr_matrix((3, 0)), "0 feature(s) (shape=(3, 0)) while a minimum of 1 is required."),
        (np.array([[1 + 1j]]), "Complex data not supported"),
        (pd.DataFrame({"a": [1 + 1j]}), "Complex data not supported"),
        (sp.csr_matrix([[1 + 1j]]), "Complex data not supported"),
        (pd.DataFrame([[1, 2, 3]], columns=["a", "b", "a"]), "two columns have the same name: 'a'"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), "two columns have the same name: '1' (1, '1', matched as texts)."),
        (None, "X is of type NoneType, but must be a table"),
        ("train.csv", "X is of type str, but must be a table"),
        (pl.LazyFrame({"a": [1]}), "X is of type LazyFrame, but must be a table"),
        ([[1, 2], [3]], "X is a list whose rows differ in length or depth"),
        ([], "Reshape your data"),
    ],
)
def test_errors_of_tables(table, message):
    with pytest.raises(InputError) as caught:
        to_frame(table)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"b": [1, 2], "a": pa.array([[1], [2, 3]])}),
        pa.table({"b": [1, 2], "a": pa.array([{"x": 1}, {"x": 2}])}),
        pa.table({"b": [1, 2], "a": pa.array([[("x", 1)], []], type=pa.map_(pa.string(), pa.int64()))}),
        pl.DataFrame({"b": [1, 2], "a": [[1], [2, 3]]}),
        pl.DataFrame({"b": [1, 2], "a": [{"x": 1}, {"x": 2}]}),
        pl.DataFrame({"b": [1, 2], "a": [[1, 2], [3, 4]]}, schema={"b": pl.Int64, "a": pl.Array(pl.Int64, 2)}),
        pa.table({"b": [1, 2], "a": pa.array([[1], [2, 3]])}).to_pandas(types_mapper=pd.ArrowDtype),
        pa.table({"b": [1, 2], "a": pa.array([{"x": 1}, {"x": 2}])}).to_pandas(types_mapper=pd.ArrowDtype),
    ],
)
def test_columns_of_lists_and_structs_are_refused_by_name(table):
    with pytest.raises(InputError, match="column 'a' is of type"):
        to_frame(table)


@pytest.mark.parametrize("dtype", [">f8", ">i4", "<f2", "f4", "u8", np.longdouble])
@pytest.mark.parametrize("make", [np.asarray, pd.DataFrame, sp.csr_matrix])
def test_numbers_of_any_kind_of_storage(dtype, make):
    X = np.arange(12).reshape(6, 2).astype(dtype)
    X.setflags(write=False)
    if make is sp.csr_matrix:
        X = X.astype(X.dtype.newbyteorder("="))  # SciPy knows no other order of bytes
        if X.dtype in (np.float16, np.longdouble):
            pytest.skip("SciPy has no such matrices")
    frame = to_frame(make(X))
    table = infer_schema(frame).transform(frame)
    found = table.matrix if table.sparse is None else table.sparse.toarray()
    np.testing.assert_array_equal(found, np.arange(12.0).reshape(6, 2))


def test_integers_beyond_64_bits_and_halves_of_surrogates():
    frame = to_frame(pd.DataFrame({"a": pd.Series([2**70, 1, None], dtype=object)}))
    np.testing.assert_array_equal(infer_schema(frame).transform(frame).matrix[:, 0], [2.0**70, 1, np.nan])
    with pytest.raises(InputError, match="Column 'a' holds an integer beyond the range of float64"):
        infer_schema(to_frame(pd.DataFrame({"a": pd.Series([10**400, 1], dtype=object)})))
    for table in (pd.DataFrame({"a": pd.Series(["\ud800", "b"], dtype=object)}), [["\ud800"], ["b"]]):
        schema = infer_schema(to_frame(table))
        assert schema.columns[0].vocabulary == ("\\ud800", "b")
        assert schema.transform(to_frame(table)).matrix[:, 0].tolist() == [0, 1]


def test_structured_arrays_have_names():
    rows = [(1, 2.5), (3, 4.5)]
    for X in (np.array(rows, dtype=[("a", "i4"), ("b", "f8")]), np.rec.array(rows, dtype=[("a", "i4"), ("b", "f8")])):
        assert_frame_equal(to_frame(X), pd.DataFrame({"a": [1, 3], "b": [2.5, 4.5]}), check_dtype=False)


def test_one_row():
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"], "day": pd.to_datetime(["2024-01-01", "2024-02-03"])})
    schema = infer_schema(frame)
    expected = schema.transform(frame.iloc[[1]]).matrix
    for row in ({"a": 2.0, "b": "y", "day": pd.Timestamp("2024-02-03")}, frame.iloc[1], frame.iloc[1][::-1]):
        np.testing.assert_array_equal(schema.transform(to_frame(schema.one_row(row))).matrix, expected)
    assert schema.one_row(frame["a"]) is frame["a"] or schema.one_row(frame["a"]).equals(frame["a"])


def test_spreadsheets_are_read_by_sheet(tmp_path):
    with pd.ExcelWriter(tmp_path / "book.xlsx", engine="openpyxl") as book:
        FRAME.drop(columns="text").to_excel(book, sheet_name="June", index=False)
        FRAME[["whole"]].to_excel(book, sheet_name="July", index=False)
    assert_frame_equal(read_frame(tmp_path / "book.xlsx"), FRAME.drop(columns="text"))
    assert_frame_equal(read_frame(tmp_path / "book.xlsx?July"), FRAME[["whole"]])
    with pytest.raises(InputError, match=r"sheet='May' is not known.*Allowed: June, July"):
        read_frame(tmp_path / "book.xlsx?May")


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".ndjson", ".jsonl.gz"])
def test_json_is_read(tmp_path, suffix):
    frame = FRAME.assign(
        code=["007", "1", "2"], large=[2**60 + 1, 5, 6], day=["2024-01-31", "2024-02-01", "2024-02-02"]
    )
    frame.to_json(tmp_path / f"table{suffix}", orient="records", lines=suffix != ".json")
    assert_frame_equal(read_frame(tmp_path / f"table{suffix}"), frame)


def test_databases_are_read_by_table(tmp_path, monkeypatch):
    with contextlib.closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        FRAME[["number", "text", "whole"]].to_sql("all orders", connection, index=False)
    frame = FRAME[["number", "text", "whole"]]
    monkeypatch.chdir(tmp_path)
    for name in ("shop.db", "sqlite:///shop.db?all orders", f"sqlite:///{tmp_path}/shop.db", Path("sqlite:///shop.db")):
        assert_frame_equal(read_frame(name), frame)
    with contextlib.closing(sqlite3.connect("shop.db")) as connection:
        connection.execute("CREATE TABLE customers (name TEXT)")
    with pytest.raises(InputError, match=r"holds 2 tables. Allowed: one of them, as in shop.db\?all orders"):
        read_frame("shop.db")
    with pytest.raises(InputError, match="table='invoices' is not known"):
        read_frame("shop.db?invoices")
    Path("broken.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match=r"broken\.db cannot be read as db"):
        read_frame("broken.db")


@pytest.mark.parametrize("suffix", ["parquet", "feather", "csv"])
def test_a_folder_of_files_is_one_table(tmp_path, suffix):
    for year in (2023, 2024):
        (tmp_path / "sales" / f"year={year}").mkdir(parents=True)
        write_frame(FRAME[["number", "whole"]], tmp_path / "sales" / f"year={year}" / f"part.{suffix}")
    frame = pd.concat([FRAME[["number", "whole"]]] * 2, ignore_index=True).assign(year=[2023] * 3 + [2024] * 3)
    assert_frame_equal(read_frame(tmp_path / "sales"), frame, check_dtype=False)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_wide_tables(suffix: str, tmp_path: Path) -> None:
    """A header longer than what is looked at first, of which the names of columns begin alike."""
    frame = pd.DataFrame(np.arange(60_000.0).reshape(3, -1), columns=[f"g{i}" for i in range(20_000)])
    frame.to_csv(tmp_path / f"wide{suffix}", index=False, sep=";")
    pd.testing.assert_frame_equal(read_frame(tmp_path / f"wide{suffix}"), frame)
