"""Every row of a table to predict comes back: with a prediction, or with the reason why not."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.data.column_types import infer_schema, leave_out
from windvane.errors import InputError, MissingColumnsError
from windvane.runtime.columns.schema import CARRIED
from windvane.runtime.rows_to_predict import describe_errors, find_bad_rows, predict_rows, read_rows

TRAIN = pd.DataFrame(
    {
        "row": [f"r{i}" for i in range(40)],
        "size": np.arange(40.0),
        "day": pd.date_range("2024-01-01", periods=40).strftime("%Y-%m-%d"),
        "colour": ["red", "blue"] * 20,
    }
)
SCHEMA = leave_out(infer_schema(TRAIN), {"row": CARRIED})


def doubled(frame: pd.DataFrame) -> pd.DataFrame:
    """A model that doubles the size."""
    table = SCHEMA.transform(frame)
    return pd.DataFrame({"prediction": 2 * table.matrix[:, 0]})


@settings(deadline=None)
@given(st.lists(st.sampled_from(["1", "2.5", "big", "", "?"]), min_size=1, max_size=30))
def test_bad_numbers_are_marked(sizes: list[str]) -> None:
    frame = pd.DataFrame({"row": "a", "size": sizes, "day": "2024-02-03", "colour": "red"}).astype(object)
    wrong = [i for i, size in enumerate(sizes) if size == "big"]
    assert list(find_bad_rows(SCHEMA, frame)) == wrong
    if len(wrong) == len(sizes):
        with pytest.raises(InputError, match="big"):
            predict_rows(doubled, SCHEMA, frame, {})
        return
    found = predict_rows(doubled, SCHEMA, frame, {})
    assert len(found) == len(sizes)
    assert list(found.columns) == ["row", "prediction"] + ["error"] * bool(wrong)
    for i, size in enumerate(sizes):
        if i in wrong:
            assert pd.isna(found["prediction"][i]) and "'big'" in found["error"][i]
        elif size in ("1", "2.5"):
            assert found["prediction"][i] == 2 * float(size)


def test_several_columns() -> None:
    frame = TRAIN.astype({"size": object})
    frame.loc[3, "size"], frame.loc[5, "day"] = "x", "soon"
    assert {row: reason.split(" holds ")[0] for row, reason in find_bad_rows(SCHEMA, frame).items()} == {
        3: "Column 'size'",
        5: "Column 'day'",
    }


@pytest.mark.parametrize("bad", [False, True])
def test_columns_of_the_same_name_stay_apart(bad: bool) -> None:
    train = TRAIN.rename(columns={"row": "error"}).assign(yes="b").astype({"size": object})
    schema = leave_out(infer_schema(train), {"error": CARRIED, "yes": CARRIED})
    rows = train.head(3)
    if bad:
        rows.loc[1, "size"] = "wide"

    def probabilities(frame: pd.DataFrame) -> pd.DataFrame:
        schema.transform(frame)
        return pd.DataFrame({"yes": 0.25, "error": np.full(len(frame), 0.75)})

    found = predict_rows(probabilities, schema, rows, {})
    assert list(found) == ["error (column)", "yes (column)", "yes", "error (predicted)"] + ["error"] * bad
    assert found["error (column)"].tolist() == ["r0", "r1", "r2"]
    assert found["error (predicted)"].dropna().tolist() == [0.75] * (3 - bad)
    if bad:
        assert describe_errors(found).startswith("1 of 3 rows cannot be predicted")


def test_a_missing_column_is_no_fault_of_a_row() -> None:
    with pytest.raises(MissingColumnsError):
        predict_rows(doubled, SCHEMA, TRAIN.drop(columns="size"), {})


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", [False, True])
def test_lines_are_rows(tmp_path: Path, end: str, packed: bool) -> None:
    lines = ["row,size,day,colour", "a,1,2024-01-02,red", "", "b,2,2024-01-03,blue,9,9", '"c ""x""",3,2024-01-04,"r,e"']
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    content = end.join([*lines, "", ""]).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    frame, faults = read_rows(path)
    assert faults == {1: "the line is empty", 2: "the line has 6 fields, the header 4"}
    assert frame["row"].tolist()[::3] == ["a", 'c "x"'] and frame["colour"].tolist()[3] == "r,e"
    found = predict_rows(doubled, SCHEMA, frame, faults)
    assert found["prediction"].tolist()[::3] == [2.0, 6.0]
    assert found["error"].isna().tolist() == [True, False, False, True]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_a_bad_line_leaves_the_letters_of_the_others_as_they_are(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("row;note\na;5 €\n\nb;“Köln”\n".encode(encoding))
    frame, faults = read_rows(tmp_path / "t.csv")
    assert faults == {1: "the line is empty"} and frame["note"].tolist()[::2] == ["5 €", "“Köln”"]


def test_a_file_may_declare_its_delimiter(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("sep=^\nrow^note\na^x, y\n\nb^z\n")
    frame, faults = read_rows(tmp_path / "t.csv")
    assert faults == {1: "the line is empty"} and frame["note"].tolist()[::2] == ["x, y", "z"]


def test_a_single_column_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("size\n1\n\n3\n")
    frame, faults = read_rows(tmp_path / "t.csv")
    assert faults == {}
    np.testing.assert_array_equal(frame["size"].to_numpy(dtype=float), [1, np.nan, 3])


def test_sound_files_are_read_as_ever(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;b\n1;x\n2;\n")
    frame, faults = read_rows(tmp_path / "t.csv")
    assert faults == {} and frame.shape == (2, 2)
    with pytest.raises(InputError, match="does not exist"):
        read_rows(tmp_path / "none.csv")


def test_a_file_without_one_good_line_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("row,size,day,colour\na,1,2024-01-02,red,9\nb,2,2024-01-03,blue,9,9\n")
    with pytest.raises(InputError, match=r"No row can be predicted\. The first is row 0: the line has 5 fields"):
        predict_rows(doubled, SCHEMA, *read_rows(path))
