import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.data import column_types as module
from windvane.data.column_types import infer_column, infer_number_columns
from windvane.runtime.columns.column import Column

DAYS = pd.date_range("2023-11-05", periods=60, freq="29h")


def column(values, dtype=None):
    return infer_column(pd.Series(values, name="c", dtype=dtype))


@pytest.mark.parametrize(
    "values",
    [
        pd.array([1, 2, None], dtype="Int64"),
        pd.array([True, False, None], dtype="boolean"),
        pd.array([1.5, 2, None], dtype="double[pyarrow]"),
        ["1", "2.5", "NA"],
        ["1", " -2e3 ", None],
        np.array([1, "2", "?"], dtype=object),
        np.array([Decimal(1), Decimal(2), None], dtype=object),
        np.array([True, False, None], dtype=object),
    ],
)
def test_numbers(values):
    assert column(values) == Column("c", "number", n_missing=1)


@pytest.mark.parametrize(
    ("values", "vocabulary"),
    [
        (["b", "a", "b", None], ("a", "b")),
        (["b ", " a", "?", "a"], ("a", "b")),
        (np.array([1, "a", 2.5, True, None], dtype=object), ("1", "2.5", "True", "a")),
        (np.array([[1], [2], None], dtype=object), ("[1]", "[2]")),
        (["10", "9", "1_0", None], ("10", "1_0", "9")),
        (pd.Categorical([10, 9, 9, None]), ("9", "10")),
        (pd.Categorical(["x", None, "y"], categories=["z", "y", "x"]), ("x", "y")),
        (pd.Categorical(["lo", "hi", None], categories=["lo", "mid", "hi"], ordered=True), ("lo", "hi")),
        (pd.Categorical(["?", "a", None]), ("?", "a")),
        (pd.Categorical([True, False, None]), ("False", "True")),
        (pd.Categorical(pd.to_datetime(["2024-01-01", "2024-01-02", None])), None),
        (["True", "False", None], ("False", "True")),
    ],
)
def test_categories(values, vocabulary):
    found = column(values)
    assert found.kind == "category"
    assert found.n_missing == 1
    assert found.n_unique == len(found.vocabulary)
    if vocabulary is not None:
        assert found.vocabulary == vocabulary


def test_many_short_texts_are_a_category():
    found = column([f"id{i}" for i in range(500)])
    assert found.kind == "category"
    assert found.n_unique == 500


def test_long_distinct_texts_are_text():
    texts = [f"the {i}th row of a table" for i in range(50)]
    assert column([*texts, None]) == Column("c", "text", n_missing=1, n_unique=50)
    assert column(texts[:2] * 50).kind == "category"


@pytest.mark.parametrize(
    ("values", "missing", "reason"),
    [
        (["a", "a"], 0, "constant"),
        (["3", "3"], 0, "constant"),
        ([None, None], 2, "no value"),
        (["NA", " "], 2, "no value"),
        (np.array([None, np.nan], dtype=object), 2, "no value"),
        (pd.Categorical(["a", "a"]), 0, "constant"),
        (pd.Categorical([None, None]), 2, "no value"),
        (pd.array([1, 1], dtype="Int64"), 0, "constant"),
        (pd.to_datetime(["2024-01-01"] * 2), 0, "constant"),
        (pd.Series([pd.NaT, pd.NaT]), 2, "no value"),
        (pd.to_timedelta(["1h", "1h"]), 0, "constant"),
    ],
)
def test_dropped(values, missing, reason):
    assert column(values) == Column("c", "dropped", n_missing=missing, drop_reason=reason)


@pytest.mark.parametrize("values", [["a", None], pd.Categorical(["a", None]), pd.array([1, None], dtype="Int64")])
def test_one_value_or_none_is_kept(values):
    assert column(values).kind != "dropped"


@pytest.mark.parametrize(
    ("values", "form", "timezone"),
    [
        (DAYS, None, None),
        (DAYS.tz_localize("Europe/Paris"), None, "Europe/Paris"),
        (DAYS.strftime("%d/%m/%Y"), "%d/%m/%Y", None),
        (DAYS.strftime("%m/%d/%Y"), "%m/%d/%Y", None),
        (DAYS.strftime("%Y-%m-%dT%H:%M:%S"), "%Y-%m-%dT%H:%M:%S", None),
        (DAYS.tz_localize("Europe/Paris").strftime("%Y-%m-%d %H:%M:%S%z"), "%Y-%m-%d %H:%M:%S%z", "UTC"),
        (pd.Series(DAYS.date, dtype=object), None, None),
        (pd.Series(DAYS, dtype="timestamp[ms][pyarrow]"), None, None),
        (DAYS.to_period("D"), "%Y-%m-%d", None),
    ],
)
def test_dates(values, form, timezone):
    found = column(values)
    assert (found.kind, found.date_format, found.timezone) == ("date", form, timezone)
    assert {"days", "year", "month", "day", "weekday"} <= set(found.parts)
    assert found.n_unique == len(set(values))


def test_parts_that_do_not_vary_are_left_out():
    weeks = pd.date_range("2024-03-04", periods=5, freq="W")
    assert column(weeks).parts == ("days", "month", "day")
    assert column([*weeks, pd.NaT]).parts == ("days", "month", "day")
    assert column([weeks[0], pd.NaT]).parts == ("days",)


@pytest.mark.parametrize("odd", ["soon", "31/31/2024", "2024"])
def test_one_text_that_is_no_date_makes_a_category(odd):
    assert column([*DAYS.strftime("%d/%m/%Y"), odd]).kind == "category"


def test_a_text_far_below_numbers_is_found():
    found = column([*map(str, range(module.SAMPLE + 5)), "x"])
    assert found.kind == "category"
    assert found.n_unique == module.SAMPLE + 6


def test_durations():
    values = pd.Series([datetime.timedelta(hours=1), datetime.timedelta(2), None], dtype=object)
    for made in (values, pd.to_timedelta(values)):
        assert column(made) == Column("c", "duration", n_missing=1)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 8),
    st.lists(st.lists(st.sampled_from([0.0, 1.0, np.nan, np.inf]), min_size=8, max_size=8), min_size=1, max_size=5),
    st.integers(1, 9),
)
def test_a_block_equals_column_by_column(n_rows, cells, sample):
    block = np.array(cells).T[:n_rows]
    whole, module.SAMPLE = module.SAMPLE, sample
    try:
        found = infer_number_columns([f"x{j}" for j in range(block.shape[1])], block)
    finally:
        module.SAMPLE = whole
    for j, got in enumerate(found):
        present = block[np.isfinite(block[:, j]), j]
        missing = n_rows - len(present)
        assert (got.name, got.n_missing) == (f"x{j}", missing)
        dropped = len(present) == 0 or (missing == 0 and len(set(present)) == 1)
        assert (got.kind == "dropped") == dropped


@pytest.mark.parametrize(
    "found",
    [
        Column("c", "number", n_missing=3),
        Column("c", "category", n_unique=2, vocabulary=("a", "b")),
        Column("c", "date", date_format="%Y", timezone="UTC", parts=("days", "year")),
        Column("c", "dropped", drop_reason="constant"),
    ],
)
def test_json(found):
    assert Column.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    "fields",
    [
        {"name": 3, "kind": "number"},
        {"name": "c", "kind": "float"},
        {"name": "c", "kind": ["number"]},
        {"name": "c", "kind": "number", "n_missing": "3"},
        {"name": "c", "kind": "number", "n_unique": 1.5},
        {"name": "c", "kind": "category", "vocabulary": "ab"},
        {"name": "c", "kind": "category", "vocabulary": ["a", 3]},
        {"name": "c", "kind": "date", "date_format": 3},
        {"name": "c", "kind": "date", "parts": ["century"]},
        {"name": "c", "kind": "date", "parts": [["days"]]},
        {"name": "c"},
        {"name": "c", "kind": "number", "code": "print()"},
    ],
)
def test_malformed_json(fields):
    with pytest.raises((TypeError, ValueError)):
        Column.from_json(fields)
