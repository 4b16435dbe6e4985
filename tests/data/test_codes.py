"""Codes such as ZIP codes keep their leading zeros, from the file to the prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from windvane.data.column_types import infer_schema, reading_notes
from windvane.data.files import read_frame, to_frame
from windvane.data.series.lags import learn_lags
from windvane.data.series.time_split import TimeSplit
from windvane.data.splits import SplitOptions, make_folds
from windvane.data.target import encode_target, infer_task
from windvane.runtime.columns.column_values import are_codes, has_leading_zero, vocabulary_index

ZIPS = ["10115", "01234", None, "20095", "00007"]


def written(folder: Path, suffix: str) -> Path:
    """Write codes beside plain numbers, as files of several kinds do."""
    frame = pd.DataFrame({"zip": ZIPS, "flag": ["0", "1", "1", "0", "1"], "share": ["0.5", "0", "00.25", "1", "2"]})
    path = folder / f"t{suffix}"
    if suffix == "":
        path.mkdir()
        frame[:1].to_csv(path / "a.csv", index=False)
        frame[1:].to_csv(path / "b.csv", index=False)
    elif suffix == ".xlsx":
        cells = frame.assign(flag=frame["flag"].astype(int), share=frame["share"].astype(float))
        cells["zip"] = np.array([10115, "01234", None, 20095, "00007"], dtype=object)  # a cell is a number where it can
        cells.to_excel(path, index=False)
    else:
        encoding = "utf-16" if suffix == ".tsv" else "utf-8"
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",", encoding=encoding, quoting=1)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".xlsx", ""])
def test_codes_in_a_file(tmp_path: Path, suffix: str) -> None:
    frame = read_frame(written(tmp_path, suffix))
    assert frame["zip"].fillna("none").tolist() == [code or "none" for code in ZIPS]
    assert frame["flag"].tolist() == [0, 1, 1, 0, 1] and frame["flag"].dtype == np.int64
    assert frame["share"].tolist() == [0.5, 0, 0.25, 1, 2]
    schema = infer_schema(frame)
    assert [column.kind for column in schema.columns] == ["category", "number", "number"]
    assert schema.columns[0].vocabulary == ("00007", "01234", "10115", "20095")
    assert schema.text_columns == ["zip"]
    assert reading_notes(schema) == (
        "1 column is read as categories, since codes are written so: 'zip' ('01234' has leading zeros). If they are "
        "numbers, column_types= (--type) says so.",
    )
    again = read_frame(tmp_path / f"t{suffix}", schema.text_columns)
    assert schema.transform(again).matrix[:, 2].tolist()[:2] == [2, 1]


def test_columns_that_are_texts_stay_so_in_sheets_and_folders(tmp_path: Path) -> None:
    pd.DataFrame({"size": ["1.50", "2.00"], "n": [1, 2]}).to_excel(tmp_path / "t.xlsx", index=False)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a.csv").write_text("size,n\n1.50,1\n2.00,2\n")
    for name in ("t.xlsx", "t"):
        frame = read_frame(tmp_path / name, ["size", "other"])
        assert frame["size"].tolist() == ["1.50", "2.00"] and frame["n"].tolist() == [1, 2]


def test_a_code_far_down_in_a_file(tmp_path: Path) -> None:
    numbers = [f"{number},{number % 7}" for number in range(10_000, 60_000)]
    (tmp_path / "t.csv").write_text("\n".join(["zip,x", *numbers, "01234,5"]))
    assert read_frame(tmp_path / "t.csv")["zip"].iloc[-1] == "01234"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["01234", "10115", "20095"], "category"),
        (["10115", "20095", "01234"], "category"),
        (["007", None, "012", "-"], "category"),
        (["0", "00", "1"], "category"),
        (np.array(["01234", 10115, 20095.0], dtype=object), "category"),
        (["0", "1", "0"], "number"),
        (["0", "0.5", "10"], "number"),
        (["007", "0.5", "1"], "number"),  # no code has a fraction
        (["-007", "007", "1"], "number"),  # or a sign
        (["0", "1e5", "10"], "number"),
        (["007", "A12", "012"], "category"),
    ],
)
def test_which_columns_are_codes(values: Any, kind: str) -> None:
    schema = infer_schema(to_frame(pd.DataFrame({"x": values, "y": [1.0, 2.0, 3.0, 4.0][: len(values)]})))
    assert schema.columns[0].kind == kind


def test_a_user_has_the_last_word() -> None:
    frame = pd.DataFrame({"x": ["001", "002", "010"]})
    schema = infer_schema(frame, {"x": "number"})
    assert schema.transform(frame).matrix[:, 0].tolist() == [1, 2, 10]
    assert reading_notes(schema) == ()


def test_numbers_are_found_among_codes() -> None:
    schema = infer_schema(pd.DataFrame({"zip": ["01234", "10115", "00000"], "n": [1, 2, 3]}))
    for values in ([1234, 10115, 0, 77], [1234.0, 10115.0, 0.0, 77.0], ["01234", "10115", "00000", "00077"]):
        frame = pd.DataFrame({"zip": values, "n": 1})
        assert schema.transform(frame).matrix[:, 1].tolist() == [1, 2, 0, 3]
    assert vocabulary_index(("007", "07", "08", "8")) == {"007": 0, "07": 1, "08": 2, "8": 3}  # 7 would be both


def test_codes_and_zeros() -> None:
    assert [text for text in ("0", "00", "01", "10", "0.5", "0a", "\u06600", "") if has_leading_zero(text)] == [
        "00",
        "01",
    ]
    assert not are_codes([]) and not are_codes(["1", "0"]) and not are_codes(["01", "1.5"])


def test_a_target_of_codes_has_labels_with_zeros(tmp_path: Path) -> None:
    y = read_frame(written(tmp_path, ".csv"))["zip"].dropna()
    assert infer_task(y) == ("classification", "4 distinct codes with leading zeros")
    assert encode_target(y, "classification")[1].tolist() == ["00007", "01234", "10115", "20095"]  # type: ignore[union-attr]


def test_times_with_leading_zeros_are_numbers() -> None:
    times = pd.Series([f"{i:03}" for i in range(12)])
    (fold,), _ = make_folds(np.arange(12.0), 1, seed=0, by=SplitOptions(time=times[::-1].reset_index(drop=True)))
    assert fold.validation.max() < fold.train.min()
    frame = pd.DataFrame({"period": times, "x": 1.0})
    assert learn_lags(frame, 1, "period", np.arange(12.0), "y", TimeSplit()).grid.step == 1
