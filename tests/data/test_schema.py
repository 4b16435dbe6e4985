import json
import time
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse as sp

from windvane.data.column_types import describe_columns, dropped_notes, infer_schema
from windvane.data.files import to_frame
from windvane.errors import InputError, MissingColumnsError, ModelFileError
from windvane.runtime.columns import schema as module
from windvane.runtime.columns.column import Column
from windvane.runtime.columns.schema import Schema

N = 40
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "category": RNG.choice(["a", "b", None, "?"], N),
        "whole": RNG.integers(0, 5, N),
        "float": np.where(RNG.random(N) < 0.2, np.nan, RNG.normal(size=N)),
        "flag": RNG.random(N) < 0.5,
        "nullable": pd.array(np.where(RNG.random(N) < 0.5, None, 3 * np.arange(N)), dtype="Int64"),
        "date": pd.date_range("2024-01-01", periods=N, freq="7h").where(np.arange(N) != 3),
        "written": pd.date_range("2024-01-01", periods=N, freq="7D").strftime("%d/%m/%Y"),
        "digits": [str(i) for i in RNG.integers(0, 99, N)],
        "declared": pd.Categorical(RNG.choice([1, 2, 3], N)),
        "ordered": pd.Categorical(RNG.choice(["lo", "hi"], N), categories=["lo", "mid", "hi"], ordered=True),
        "constant": 1,
        "empty": None,
        "duration": pd.to_timedelta(np.arange(N), unit="h"),
        "text": [f"the {i}th of these rows" for i in range(N)],
        "mixed": np.array([1, "a", 2.5, None] * (N // 4), dtype=object),
    }
)
SCHEMA = infer_schema(FRAME)
TABLE = SCHEMA.transform(FRAME)


def same(table, other):
    np.testing.assert_array_equal(table.matrix, other.matrix)
    assert (table.n_numbers, table.cardinalities) == (other.n_numbers, other.cardinalities)
    for text, expected in zip(table.texts, other.texts, strict=True):
        assert text.tolist() == expected.tolist()


def test_kinds():
    kinds = {column.name: column.kind for column in SCHEMA.columns}
    assert kinds == {
        **dict.fromkeys(["whole", "float", "flag", "nullable", "digits"], "number"),
        **dict.fromkeys(["category", "declared", "ordered", "mixed"], "category"),
        **dict.fromkeys(["date", "written"], "date"),
        **dict.fromkeys(["constant", "empty"], "dropped"),
        "duration": "duration",
        "text": "text",
    }
    assert SCHEMA.feature_names == list(FRAME.columns)
    assert SCHEMA.named


def test_matrix_equals_each_column_on_its_own():
    date, written = FRAME["date"], pd.to_datetime(FRAME["written"], format="%d/%m/%Y")
    expected = [FRAME[name].to_numpy(dtype=float, na_value=np.nan) for name in ("whole", "float", "flag", "nullable")]
    expected.append(FRAME["digits"].astype(float))
    expected.append((date - pd.Timestamp(0)) / pd.Timedelta("1D"))
    expected += [getattr(date.dt, part) for part in ("day", "day_of_week", "hour")]
    expected.append((written - pd.Timestamp(0)) / pd.Timedelta("1D"))
    expected += [getattr(written.dt, part) for part in ("month", "day")]
    expected.append(FRAME["duration"].dt.total_seconds())
    n_numbers = len(expected)
    expected.append(FRAME["category"].map({"a": 0, "b": 1}))
    expected.append(FRAME["declared"].astype(int) - 1)
    expected.append(FRAME["ordered"].map({"lo": 0, "hi": 1}).astype(float))
    expected.append(FRAME["mixed"].map({1: 0, 2.5: 1, "a": 2}))
    np.testing.assert_allclose(TABLE.matrix, np.stack([np.asarray(e, dtype=float) for e in expected], axis=1))
    assert TABLE.n_numbers == n_numbers
    assert TABLE.cardinalities == (2, 3, 2, 3)
    assert TABLE.texts[0].tolist() == FRAME["text"].tolist()
    assert TABLE.sparse is None


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame.astype(object),
        lambda frame: frame.convert_dtypes(),
        lambda frame: frame.convert_dtypes(dtype_backend="pyarrow"),
        lambda frame: frame[frame.columns[::-1]],
        lambda frame: frame.assign(more=1)[["more", *frame.columns]],
        lambda frame: frame.drop(columns=["constant", "empty"]),
        lambda frame: frame.set_axis(np.arange(N)[::-1], axis=0),
        lambda frame: frame.assign(whole=frame["whole"].astype(str), declared=frame["declared"].astype(float)),
        lambda frame: frame.assign(flag=frame["flag"].astype(str), ordered=frame["ordered"].astype(str)),
        lambda frame: frame.assign(whole=frame["whole"].astype("category"), flag=frame["flag"].astype(float)),
        lambda frame: frame.assign(whole=frame["whole"].map(Decimal), float=frame["float"].map(str)),
        lambda frame: frame.assign(written=pd.to_datetime(frame["written"], format="%d/%m/%Y")),
        lambda frame: frame.assign(date=frame["date"].map(str), duration=frame["duration"].map(str)),
    ],
)
def test_types_and_order_may_change(change):
    same(SCHEMA.transform(to_frame(change(FRAME))), TABLE)


@pytest.mark.parametrize("make", [pl.from_pandas, pa.Table.from_pandas])
def test_tables_of_other_libraries(make):
    frame = FRAME.drop(columns="mixed")
    table = to_frame(make(frame))
    expected = infer_schema(frame)
    learned = infer_schema(table)
    same(expected.transform(table), expected.transform(frame))
    # polars has categories of strings alone, so integers come as what they are
    kinds = {column.name: column.kind for column in expected.columns if column.name != "declared"}
    assert {c.name: c.kind for c in learned.columns if c.name in kinds} == kinds


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(0, N - 1), min_size=1, max_size=10))
def test_some_rows_equal_those_of_the_whole(rows):
    few = SCHEMA.transform(FRAME.iloc[rows])
    same(few, TABLE.take(np.array(rows)))


def test_few_and_many_rows_are_read_alike(monkeypatch):
    changed = FRAME.assign(category=["z", 1, None, True] * (N // 4), declared=["1", 2.0, 4, pd.NA] * (N // 4))
    few = SCHEMA.transform(changed)
    monkeypatch.setattr(module, "FEW_ROWS", 0)
    same(SCHEMA.transform(changed), few)
    assert few.matrix[0, -4] == 2  # unseen
    np.testing.assert_array_equal(few.matrix[:4, -3], [0, 1, 3, np.nan])


def test_infinite_numbers_are_missing():
    frame = to_frame(np.array([[1.0, np.inf], [-np.inf, 2.0], [3.0, 4.0]]))
    schema = infer_schema(frame)
    assert [column.n_missing for column in schema.columns] == [1, 1]
    np.testing.assert_array_equal(schema.transform(frame).matrix, [[1, np.nan], [np.nan, 2], [3, 4]])
    assert frame.iloc[0, 1] == np.inf  # the caller's values are left as they are
    infinite = to_frame(sp.csr_matrix([[0.0, np.inf], [1.0, 0.0]]))
    np.testing.assert_array_equal(infer_schema(infinite).transform(infinite).sparse.toarray(), [[0, np.nan], [1, 0]])
    assert infinite[0, 1] == np.inf


def test_plain_arrays_go_by_position():
    X = RNG.normal(size=(6, 3))
    schema = infer_schema(to_frame(X))
    assert not schema.named
    assert schema.feature_names == ["x0", "x1", "x2"]
    for table in (X, X.tolist(), pd.DataFrame(X), sp.csr_matrix(X), X.astype(object)):
        np.testing.assert_array_equal(schema.transform(to_frame(table)).matrix, X)
    named = infer_schema(pd.DataFrame(X, columns=list("cba")))
    np.testing.assert_array_equal(named.transform(to_frame(X)).matrix, X)


def test_sparse():
    X = sp.random_array((8, 5), density=0.4, rng=0)
    schema = infer_schema(to_frame(X))
    table = schema.transform(to_frame(X))
    assert (table.n_rows, table.n_columns, table.matrix.shape) == (8, 5, (8, 0))
    assert table.sparse.dtype == np.float64
    np.testing.assert_array_equal(table.sparse.toarray(), X.toarray())
    np.testing.assert_array_equal(schema.transform(to_frame(X.toarray())).sparse.toarray(), X.toarray())
    assert schema.feature_names == ["x0", "x1", "x2", "x3", "x4"]
    assert describe_columns(schema)["kind"].tolist() == ["number"] * 5
    assert Schema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize("given", [2, 4])
@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
def test_another_number_of_columns(given, make):
    schema = infer_schema(to_frame(make(RNG.normal(size=(6, 3)))))
    message = f"X has {given} features, but AutoClassifier is expecting 3 features as input"
    with pytest.raises(InputError, match=message):
        schema.transform(to_frame(make(np.ones((2, given)))), owner="AutoClassifier")


def test_missing_columns():
    with pytest.raises(MissingColumnsError) as caught:
        SCHEMA.transform(FRAME[["whole", "float", "flag", "nullable", "date", "written", "constant"]], owner="Auto")
    assert str(caught.value) == (
        "X lacks 7 of the 15 columns that Auto was trained on: 'category', 'digits', 'declared', 'ordered', "
        "'duration', 'text', 'mixed'."
    )
    wide = infer_schema(pd.DataFrame(RNG.normal(size=(3, 13)), columns=[f"c{i}" for i in range(13)]))
    with pytest.raises(MissingColumnsError, match=r"'c10' and 2 more\."):
        wide.transform(pd.DataFrame({"c0": [1.0]}))


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("float", ["1", "x", "y"], "Column 'float' holds 'x' (and 1 more), but must be a number as in training."),
        ("whole", pd.Categorical(["1", "x", None]), "Column 'whole' holds 'x', but must be a number"),
        ("flag", ["True", "no", "False"], "Column 'flag' holds 'no', but must be a number"),
        ("float", pd.date_range("2024", periods=3), "but must be a number as in training."),
        ("date", [1, 2, 3], "Column 'date' holds 1 (and 2 more), but must be a date as in training."),
        ("written", ["2024-01-01"] * 3, "Column 'written' holds '2024-01-01', but must be a date"),
        ("duration", [1.5, 2.5, 3.5], "Column 'duration' holds 1.5 (and 2 more), but must be a duration"),
    ],
)
def test_values_that_cannot_be_read(name, values, message):
    with pytest.raises(InputError) as caught:
        SCHEMA.transform(FRAME.iloc[:3].assign(**{name: values}))
    assert message in str(caught.value)


def test_the_column_of_an_array_is_named_by_its_position():
    schema = infer_schema(to_frame(np.arange(6.0).reshape(3, 2)))
    with pytest.raises(InputError, match="Column 'x1' holds 'a', but must be a number"):
        schema.transform(to_frame([[1.0, "a"]]))


@pytest.mark.parametrize("n_rows", [1, 3])
def test_nothing_to_learn_from(n_rows):
    with pytest.raises(InputError) as caught:
        infer_schema(pd.DataFrame({"a": [1] * n_rows, "b": [None] * n_rows}))
    assert str(caught.value) == (
        f"X has no column to learn from: each of the 2 is constant or has no value in {n_rows} sample(s)."
    )


def test_notes_tell_what_is_left_out():
    assert dropped_notes(SCHEMA) == (
        "1 column left out (constant): 'constant'.",
        "1 column left out (no value): 'empty'.",
    )
    many = pd.DataFrame({"x": [1, 2], **{f"c{i}": ["a", "a"] for i in range(12)}})
    assert dropped_notes(infer_schema(many))[0].endswith("'c9' and 2 more.")
    assert dropped_notes(infer_schema(FRAME[["whole"]])) == ()


def test_describe():
    described = describe_columns(SCHEMA).set_index("column")
    assert described.loc["category", "distinct"] == 2
    assert described.loc["category", "missing"] == FRAME["category"].isin(["a", "b"]).value_counts()[False]
    assert pd.isna(described.loc["float", "distinct"])
    assert described.loc["constant", "note"] == "constant"


def test_json():
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.pop("columns"),
        lambda fields: fields.update(columns=3),
        lambda fields: fields.update(columns=[3]),
        lambda fields: fields.update(columns=[]),
        lambda fields: fields.update(named="yes"),
        lambda fields: fields.update(n_sparse=2),
        lambda fields: fields["columns"][0].update(kind="code"),
        lambda fields: fields["columns"][0].update(evil=1),
        lambda fields: fields["columns"][0].pop("name"),
    ],
)
def test_malformed_json(change):
    fields = SCHEMA.to_json()
    change(fields)
    with pytest.raises(ModelFileError, match="The description of the columns is damaged"):
        Schema.from_json(fields)


@pytest.mark.parametrize("fields", [None, 3, [], "x"])
def test_json_of_another_type(fields):
    with pytest.raises(ModelFileError, match="The description of the columns is damaged"):
        Schema.from_json(fields)


def processor_seconds(call, repeats):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def test_why_a_column_is_dropped_and_why_it_is_a_category() -> None:
    numbers = [str(i) for i in range(30)]
    columns = infer_schema(pd.DataFrame({"same": 1, "level": [*numbers, "none"]})).columns
    assert [column.drop_reason for column in columns] == ["constant", None]
    assert [column.category_reason for column in columns] == [None, "'none' is no number"]
    for column in columns:
        fields = column.to_json()
        assert Column.from_json(fields) == column
        fields["reason"] = fields.pop("drop_reason", None) or fields.pop("category_reason")  # of an earlier version
        assert Column.from_json(fields) == column
    for wrong in ({"kind": "number", "drop_reason": "constant"}, {"kind": "number", "category_reason": "odd"}):
        with pytest.raises(ValueError, match="has a field of a wrong type"):
            Column.from_json({"name": "x", **wrong})


def test_speed():
    """Bounds far above what is measured; they catch a slow loop, not a slow day."""
    mixed = pd.concat([FRAME.drop(columns=["text", "mixed"])] * 4, axis=1).set_axis(map(str, range(52)), axis=1)
    schema = infer_schema(mixed)
    assert processor_seconds(lambda: schema.transform(mixed.iloc[:1]), 20) < 0.02
    wide = to_frame(RNG.normal(size=(50, 5_000)))
    assert processor_seconds(lambda: infer_schema(wide).transform(wide), 3) < 1.0


def some_names(kind, width):
    """Names of one kind, as a practitioner would have them."""
    return {
        "integers": list(range(3, 3 + width)),
        "from zero": pd.Index(range(width)).tolist(),
        "range": pd.RangeIndex(width),
        "floats": [0.5 + i for i in range(width)],
        "mixed": [i if i % 2 else f"c{i}" for i in range(width)],
        "tuples": [("a" if i % 2 else "b", i) for i in range(width)],
        "levels": pd.MultiIndex.from_tuples([("a" if i % 2 else "b", i) for i in range(width)]),
        "dates": pd.date_range("2024-01-01", periods=width),
        "booleans": [False, True, None, 3][:width],
        "categories": pd.CategoricalIndex(list("dcba")[:width]),
        "numpy": [np.int64(i) if i % 2 else np.str_(i) for i in range(width)],
    }[kind]


@pytest.mark.parametrize("order", [[3, 0, 2, 1], [2, 1, 0, 3]])
@pytest.mark.parametrize(
    "kind",
    [
        *("integers", "from zero", "range", "floats", "mixed", "tuples", "levels"),
        *("dates", "booleans", "categories", "numpy"),
    ],
)
def test_names_of_any_type_are_matched(kind, order):
    frame = pd.DataFrame(RNG.normal(size=(6, 4)))
    frame.columns = some_names(kind, 4)
    schema = infer_schema(to_frame(frame))
    expected = schema.transform(to_frame(frame)).matrix
    np.testing.assert_array_equal(expected, frame)
    changed = frame.iloc[:, order]
    np.testing.assert_array_equal(schema.transform(to_frame(changed)).matrix, expected)
    np.testing.assert_array_equal(schema.transform(to_frame(frame.to_numpy())).matrix, expected)  # by position
    learned = infer_schema(to_frame(changed))  # trained on the columns in another order
    np.testing.assert_array_equal(learned.transform(to_frame(frame)).matrix, changed)
    np.testing.assert_array_equal(learned.transform(to_frame(changed.to_numpy())).matrix, changed)
    with pytest.raises(MissingColumnsError):
        learned.transform(to_frame(changed.iloc[:, :3].assign(other=1.0) if kind != "levels" else changed.iloc[:, :3]))
    again = Schema.from_json(json.loads(json.dumps(learned.to_json())))
    np.testing.assert_array_equal(again.transform(to_frame(frame)).matrix, changed)


def test_numbers_as_names_of_another_type():
    frame = pd.DataFrame(RNG.normal(size=(5, 3)), columns=[2, 0, 1])
    schema = infer_schema(to_frame(frame))
    for names in (["2", "0", "1"], [2.0, 0.0, 1.0], np.array([2, 0, 1], dtype="uint8")):
        changed = frame.set_axis(names, axis=1).iloc[:, ::-1]
        np.testing.assert_array_equal(schema.transform(to_frame(changed)).matrix, frame)


def test_a_numbered_frame_is_matched_by_position_where_training_had_other_names():
    X = RNG.normal(size=(6, 3))
    named = infer_schema(pd.DataFrame(X, columns=list("cba")))
    np.testing.assert_array_equal(named.transform(to_frame(pd.DataFrame(X))).matrix, X)
    with pytest.raises(InputError, match="X has 2 features"):
        named.transform(to_frame(pd.DataFrame(X[:, :2])))


@pytest.mark.parametrize("make", [np.asarray, sp.csr_matrix])
def test_names_are_reported_where_training_had_none(make):
    X = RNG.normal(size=(6, 3))
    schema = infer_schema(to_frame(make(X)))
    with pytest.warns(UserWarning, match="trained on a table without names: they are matched by position, 'c', 'b'"):
        table = schema.transform(to_frame(pd.DataFrame(X, columns=list("cba"))))
    np.testing.assert_array_equal(table.matrix if table.sparse is None else table.sparse.toarray(), X)
    numbered = schema.transform(to_frame(pd.DataFrame(X)[[2, 0, 1]]))
    np.testing.assert_array_equal(numbered.matrix if numbered.sparse is None else numbered.sparse.toarray(), X)


@pytest.mark.parametrize("dtype", ["float32", "Float32", "float[pyarrow]", "float64"])
def test_categories_of_narrow_floats(dtype):
    values = pd.Series([0.1, 0.2, 0.7, 0.1], dtype=dtype)
    frame = pd.DataFrame({"c": values.astype("category"), "x": [1.0, 2.0, 3.0, 4.0]})
    schema = infer_schema(frame)
    assert schema.columns[0].vocabulary == ("0.1", "0.2", "0.7")
    for changed in (frame, frame.assign(c=values), frame.assign(c=[0.1, 0.2, 0.7, 0.1])):
        whole = schema.transform(changed).matrix
        assert whole[:, 1].tolist() == [0, 1, 2, 0]
        for i in range(4):  # one row, a few, many
            np.testing.assert_array_equal(schema.transform(changed.iloc[[i]]).matrix, whole[[i]])
        many = pd.concat([changed] * 100, ignore_index=True)
        np.testing.assert_array_equal(schema.transform(many).matrix, np.tile(whole, (100, 1)))


def test_masked_values_are_missing():
    numbers = np.ma.masked_array([[1, 2], [3, 4], [5, 7]], mask=[[0, 1], [0, 0], [1, 0]])
    expected = [[1, np.nan], [3, 4], [np.nan, 7]]
    for X in (numbers, numbers.astype(float), numbers.astype(object)):
        schema = infer_schema(to_frame(X))
        np.testing.assert_array_equal(schema.transform(to_frame(X)).matrix, expected)
    texts = np.ma.masked_array([["a", "b"], ["c", "d"]], mask=[[0, 1], [0, 0]])
    frame = to_frame(texts)
    assert frame.isna().to_numpy().tolist() == [[False, True], [False, False]]


def test_one_number_beside_missing_ones_says_only_that_it_is_there():
    day, span = pd.Timestamp("2024-05-01"), pd.Timedelta("2h")
    frame = pd.DataFrame(
        {
            "number": [7.0, np.nan, 7.0],
            "date": [day, pd.NaT, day],
            "duration": [span, pd.NaT, span],
            "written": ["1,5", None, "1,5"],
            "x": [1.0, 2.0, 3.0],
        }
    )
    schema = infer_schema(to_frame(frame))
    expected = schema.transform(frame).matrix
    assert np.isnan(expected[1, :4]).sum() == 2 + (schema.columns[1].kind == "date")
    changed = frame.assign(
        number=[9.0, np.nan, -1e9],
        written=["2,5", None, "3"],
        date=[day + span, pd.NaT, day - span * 1000],
        duration=[span * 2, pd.NaT, span * 3],
    )
    np.testing.assert_array_equal(schema.transform(changed).matrix, expected)
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


def test_the_users_word_on_columns_goes_first():
    frame = pd.DataFrame(
        {
            "zip": [8001, 3012, 8001, 4051],
            "note": ["a b c d", "e f g h", "i j k l", "m n o p"],
            "day": ["01/02/2024", "02/02/2024", "03/02/2024", "04/03/2024"],
            "price": ["1,5", "2,5", "3,5", "10,0"],
        }
    )
    types = {"zip": "category", "note": "category", "price": "category"}
    schema = infer_schema(frame, types, {"day": "%d/%m/%Y"})
    assert [column.kind for column in schema.columns] == ["category", "category", "date", "category"]
    assert schema.columns[0].vocabulary == ("3012", "4051", "8001")
    assert schema.columns[2].date_format == "%d/%m/%Y"
    assert not schema.columns[2].doubtful
    codes = schema.transform(frame).matrix[:, -3]
    assert codes.tolist() == [2.0, 0.0, 2.0, 1.0]
    assert infer_schema(frame, {"note": "text"}).columns[1].kind == "text"
    assert infer_schema(frame, {"price": "number"}).columns[3].number_format is not None
    assert Schema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize(
    ("types", "formats", "said"),
    [
        ({"zipp": "category"}, {}, r"column_types='zipp' is not known. Did you mean 'zip'\?"),
        ({"zip": "kategorie"}, {}, "Allowed: number, category, date, text"),
        ({"note": "number"}, {}, "'note' cannot be read as a number: Column 'note' holds 'a b'"),
        ({"zip": "date"}, {}, "'zip' cannot be read as a date"),
        ({"note": "date"}, {}, "its values have no common format"),
        ({}, {"note": "%Y"}, "'note' cannot be read as a date"),
        ({"note": "text"}, {"note": "%Y"}, "but date_formats has a format for it"),
        (["zip"], {}, "is no mapping"),
    ],
)
def test_a_wrong_word_on_columns_is_said(types, formats, said):
    frame = pd.DataFrame({"zip": [8001, 3012, 8001], "note": ["a b", "c d", "e f"]})
    with pytest.raises(InputError, match=said):
        infer_schema(frame, types, formats)


def test_a_kind_that_the_user_names_reads_missing_values_as_usual():
    frame = pd.DataFrame({"x": [1, 2, 3], "grade": ["a", "?", "a"], "declared": pd.Categorical(["?", "a", "a"])})
    _, grade, declared = infer_schema(frame, {"grade": "category", "declared": "category"}).columns
    assert (grade.kind, grade.n_missing, grade.vocabulary) == ("category", 1, ("a",))
    assert (declared.kind, declared.n_missing, declared.vocabulary) == ("category", 0, ("?", "a"))
    note = infer_schema(frame, {"grade": "text"}).columns[1]
    assert (note.kind, note.n_missing) == ("text", 1)


def test_columns_that_the_user_names_may_have_numbers_as_names():
    frame = pd.DataFrame({2020: ["01.02.2024", "02.02.2024", "03.04.2024"], 2021: [1, 2, 3]})
    first, second = infer_schema(to_frame(frame), {2021: "category"}, {2020: "%m.%d.%Y"}).columns
    assert (first.date_format, second.kind) == ("%m.%d.%Y", "category")
