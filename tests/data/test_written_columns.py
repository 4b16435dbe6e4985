"""Numbers and dates as files and spreadsheets write them, in other ways than Python."""

import json

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from windvane.data.column_types import doubts, infer_schema, reading_notes
from windvane.data.files import read_frame, to_frame
from windvane.data.splits import SplitOptions, make_folds
from windvane.data.target import counted_rows, encode_target, infer_task
from windvane.errors import InputError
from windvane.runtime.columns.schema import Schema


def learned(**columns):
    frame = pd.DataFrame(columns)
    schema = infer_schema(to_frame(frame))
    return schema, schema.transform(to_frame(frame)).matrix


def test_decimal_commas_are_numbers():
    schema, matrix = learned(price=["1.234,50 €", "5 €", None, "-"], share=["12 %", "3,5 %", "4%", "0 %"])
    np.testing.assert_array_equal(matrix, [[1234.5, 12], [5, 3.5], [np.nan, 4], [np.nan, 0]])
    assert reading_notes(schema) == (
        "1 column is read as numbers written like 1.234,5 €: 'price'.",
        "1 column is read as numbers written like 1.234,5 %: 'share'.",
    )
    assert doubts(schema) == ()
    assert [column.n_missing for column in schema.columns] == [2, 0]
    assert schema.text_columns == ["price", "share"]
    again = Schema.from_json(json.loads(json.dumps(schema.to_json())))
    assert again == schema


def test_numbers_are_read_at_predict_as_in_training():
    schema, _ = learned(x=["1.234,50", "5", "7,25"])
    for values in ([2.5, 1000], ["2,5", "1.000"], ["2,5", 1000], pd.Categorical(["2,5", "1 000"])):
        np.testing.assert_array_equal(schema.transform(pd.DataFrame({"x": values})).matrix[:, 0], [2.5, 1000])
    for make in (pl.from_pandas, pa.Table.from_pandas):
        table = to_frame(make(pd.DataFrame({"x": ["1.234,50", None]})))
        np.testing.assert_array_equal(schema.transform(table).matrix[:, 0], [1234.5, np.nan])
    with pytest.raises(InputError, match=r"Column 'x' holds '1,234.50', but must be a number written like 1.234,5 as"):
        schema.transform(pd.DataFrame({"x": ["1,234.50"]}))


def test_true_numbers_beside_texts():  # as spreadsheets have them
    _, matrix = learned(x=np.array([1234.5, "1.234,5", None, 7], dtype=object))
    np.testing.assert_array_equal(matrix[:, 0], [1234.5, 1234.5, np.nan, 7])


@pytest.mark.parametrize(
    "values",
    [
        *(["001", "002", "A3"], ["1.2.3", "1.2.4", "2.0.0"], ["555 123 456", "555 123 457", "555 123 458"]),
        *(["5 €", "5 $", "6 €"], [True, "1,5", 2], ["1,5", [1], 2]),
    ],
)
def test_codes_stay_categories(values):
    schema, _ = learned(x=np.array([*values, None], dtype=object))
    assert schema.columns[0].kind == "category"


def test_a_doubtful_column_follows_the_others():
    doubtful = ["1,234", "2,500", "3,750"]
    alone, matrix = learned(x=doubtful)
    assert matrix[:, 0].tolist() == [1234, 2500, 3750]
    (note,) = doubts(alone)
    assert note.startswith(
        "1 column is read as numbers whose commas and points could mean either thousands or decimals"
    )
    assert "Read is 1,234 as 1234" in note
    commas, matrix = learned(x=doubtful, y=["1,5", "2,5", "3"], z=["1.234", "999", "12.500"])
    assert matrix.tolist() == [[1.234, 1.5, 1234], [2.5, 2.5, 999], [3.75, 3.0, 12500]]
    assert "'x', 'z'. Read is 1,234 as 1.234 and 1.234 as 1234" in doubts(commas)[0]
    points, matrix = learned(x=doubtful, y=["1,234.5", "2.5", "3"], z=["1.234", "999", "12.500"])
    assert matrix.tolist() == [[1234, 1234.5, 1.234], [2500, 2.5, 999], [3750, 3, 12.5]]
    assert len(doubts(points)) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("first", ["", "sep=;\n"])
def test_a_file_as_excel_writes_it(tmp_path, encoding, first):
    text = first + "Preis;Menge;Größe;Fläche\n1.234,50 €;1.200;1,234;12,5\n5 €;999;2,500;1\n7,25 €;12.500;1,750;2,75\n"
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    frame = read_frame(tmp_path / "t.csv")
    schema = infer_schema(frame)
    expected = [[1234.5, 1200, 1.234, 12.5], [5, 999, 2.5, 1], [7.25, 12500, 1.75, 2.75]]
    assert schema.transform(frame).matrix.tolist() == expected
    one = first + "Preis;Menge;Größe;Fläche\n3;1.200;4;2\n"  # pandas alone would read 1.2
    (tmp_path / "p.csv").write_bytes(one.encode(encoding))
    row = read_frame(tmp_path / "p.csv", schema.text_columns)
    assert schema.transform(row).matrix.tolist() == [[3, 1200, 4, 2]]


def test_points_stay_points_in_files(tmp_path):
    (tmp_path / "t.csv").write_text('a,b,c\n1.234,"1,234.5",x\n999,2,y\n12.5,3,x\n')
    frame = read_frame(tmp_path / "t.csv")
    assert frame["a"].tolist() == [1.234, 999, 12.5]
    assert infer_schema(frame).transform(frame).matrix[:, 1].tolist() == [1234.5, 2, 3]
    (tmp_path / "t.csv").write_text("a;b\n1.5;x\n2.5;y\n")
    assert read_frame(tmp_path / "t.csv")["a"].tolist() == [1.5, 2.5]


def test_codes_that_a_file_shows_as_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("code,x\n007,1\nA12,2\n012,3\n")
    schema = infer_schema(read_frame(tmp_path / "t.csv"))
    assert schema.text_columns == ["code"]
    (tmp_path / "p.csv").write_text("code,x\n007,1\n012,2\n")
    table = schema.transform(read_frame(tmp_path / "p.csv", schema.text_columns))
    assert table.matrix[:, 1].tolist() == [0, 1]
    plain, _ = learned(code=["7", "x", "12"], level=pd.Categorical([1.0, 2.0, 1.0]))
    assert plain.text_columns == []


@pytest.mark.parametrize("sample", [["01/02/2024", "03/04/2024"], ["01-02-2024", "03-04-2024"], ["1/2/24", "3/4/24"]])
@pytest.mark.parametrize(("order", "decides"), [("day/month", ["13/04/2024", "05/06/2024"]), ("month/day", None)])
def test_the_order_of_day_and_month(sample, order, decides):
    decides = decides or ["04/13/2024", "05/06/2024"]
    schema, matrix = learned(d=sample, e=decides)
    months = [2, 4] if order == "day/month" else [1, 3]
    assert matrix[:, 1].tolist() == months
    (note,) = doubts(schema)
    assert note.startswith(f"1 column is read as dates in the order {order}, but no value decides")
    assert "'d'" in note


def test_the_whole_column_decides_on_the_order():
    days = pd.date_range("2024-01-01", "2024-12-31", freq="D")
    early = days[days.day <= 12]
    for form in ("%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%m-%d-%Y %H:%M", "%d/%m/%y", "%d.%m.%y"):
        texts = [*early.strftime(form), pd.Timestamp("2024-05-31").strftime(form)]  # only the last one decides
        schema, _ = learned(d=texts)
        assert (schema.columns[0].date_format, schema.columns[0].doubtful) == (form, False)
    mixed, _ = learned(d=["13/01/2024", "01/13/2024", "02/03/2024"])
    assert mixed.columns[0].kind == "category"


@pytest.mark.parametrize(
    "texts",
    [
        ["2024-12-31", "2024-12-31 10:00:00", "2024-11-30 11:30:00"],
        ["2024-12-31 00:00:00", "2024-12-31 10:00:00.125", "2024-11-30 11:30"],
        ["2024-12-31", "2024-12-31T10:00:00", "2024-11-30 11:30:00"],
    ],
)
def test_dates_of_several_lengths_are_dates(texts):
    schema, matrix = learned(d=texts)
    column = schema.columns[0]
    assert (column.kind, column.date_format) == ("date", "ISO8601")
    assert matrix[:, column.parts.index("month")].tolist() == [12, 12, 11]
    assert matrix[:, column.parts.index("hour")].tolist() == [0, 10, 11]
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    with pytest.raises(InputError, match=r"Column 'd' holds '31\.12\.2024', but must be a date in the format ISO8601"):
        schema.transform(pd.DataFrame({"d": ["31.12.2024"]}))


def test_dates_in_several_formats_are_counted():
    days = [f"2024-11-{day:02}" for day in range(1, 31)]
    schema, _ = learned(d=[*days, "31.12.2024", "12/31/2024"], e=["13/01/2024", "01/31/2024"] * 16)
    assert [column.kind for column in schema.columns] == ["category", "category"]
    assert reading_notes(schema) == (
        "2 columns are read as categories, since no format holds for all of their dates: 'd' (dates in several "
        "formats: 30 like '2024-11-01', 1 like '31.12.2024', 1 like '12/31/2024'), 'e' (dates in several formats: 1 "
        "like '13/01/2024', 1 like '01/31/2024'). Write the dates of a column in one format.",
    )
    for texts in (["2024-2025", "2023-2024"], ["1.2.3", "1.2.40"], ["2024-11-05", "soon"], ["10x200", "12-30-40"]):
        assert reading_notes(learned(d=texts)[0]) == ()


def test_points_mean_days_first_without_a_doubt():
    schema, matrix = learned(d=["01.02.2024", "03.04.2024"])
    assert matrix[:, 1].tolist() == [2, 4]
    assert doubts(schema) == ()


def test_a_date_of_the_other_order_is_an_error_with_both_readings():
    schema, _ = learned(d=["13/01/2024", "02/03/2024"])
    with pytest.raises(InputError) as caught:
        schema.transform(pd.DataFrame({"d": ["05/31/2024"]}))
    assert str(caught.value) == (
        "Column 'd' holds '05/31/2024', which is no date in the order day/month of training (%d/%m/%Y); as month/day "
        "it would be 31 May 2024. Write all its dates in one order."
    )
    with pytest.raises(InputError, match="Column 'd' holds 'x', but must be a date in the format %d/%m/%Y as in"):
        schema.transform(pd.DataFrame({"d": ["x"]}))


def test_targets_weights_and_times_that_are_written():
    assert encode_target(["1,5", "2.000,25", "3"], "regression")[0].tolist() == [1.5, 2000.25, 3]
    with pytest.raises(InputError, match=r"y holds texts such as '1,234', which may be 1234 or 1\.234"):
        encode_target(["1,234", "2,500"], "regression")
    with pytest.raises(InputError, match="y holds '1,5' in row 0, but a regressor needs"):
        encode_target(["1,5", "two"], "regression")
    assert infer_task(pd.Series([f"{i},5" for i in range(30)]))[0] == "regression"
    assert infer_task(pd.Series(["yes", "no"] * 9))[0] == "classification"
    weight, _ = counted_rows(pd.Series(["0,5", "1,5"]), 2)
    assert weight.tolist() == [0.5, 1.5]
    times = [f"{day:02d}.{month:02d}.2024" for month in (3, 2, 1) for day in (1, 15, 28)]
    folds, _ = make_folds(np.arange(9.0), 1, seed=0, by=SplitOptions(time=times))
    assert folds[0].validation.tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="time holds texts such as '01/02/2024', in which day and month"):
        make_folds(np.arange(4.0), 1, seed=0, by=SplitOptions(time=["01/02/2024", "02/03/2024"] * 2))


def test_a_text_among_numbers_or_dates_is_named():
    days = pd.date_range("2024", periods=40).strftime("%d.%m.%Y").tolist()
    schema, _ = learned(
        plain=[*(f"{i}.5" for i in range(40)), "<5"],
        written=[*(f"{i}.000,50 €" for i in range(1, 41)), "unknown"],
        day=[*days, "never"],
        grade=["1", "2", "other", "3"] * 10 + ["1"],
        code=[f"A{i}" for i in range(41)],
    )
    assert {column.kind for column in schema.columns} == {"category"}
    assert reading_notes(schema) == (
        "3 columns are read as categories, though most values are numbers or dates: 'plain' ('<5' is no number), "
        "'written' ('unknown' is no number), 'day' ('never' is no date). Leave such values empty to read the others as "
        "what they are.",
    )
    assert type(schema).from_json(schema.to_json()) == schema


def test_a_column_that_is_said_to_be_a_category_needs_no_note():
    frame = pd.DataFrame({"a": [*map(str, range(40)), "x"]})
    assert reading_notes(infer_schema(frame, {"a": "category"})) == ()
    assert reading_notes(infer_schema(frame.astype("category"))) == ()
