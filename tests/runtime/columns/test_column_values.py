import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.errors import InputError
from windvane.runtime.columns import column_values as values

CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, np.nan, "a", " a", "1", "?", "", "True"])
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (np.int8(1), "1"),
        (np.float32(0.1), "0.1"),
        (-0.0, "0"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (np.inf, "inf"),
        (" a ", "a"),
        (b" a ", "a"),
        (True, "True"),
        (np.bool_(False), "False"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_canonical(value, text):
    assert values.to_canonical_text(value) == text


@pytest.mark.parametrize("value", [None, np.nan, np.float32("nan"), pd.NA, pd.NaT])
def test_missing(value):
    assert values.is_missing(value)


@pytest.mark.parametrize("value", [0, "", "nan", False, [], np.inf])
def test_not_missing(value):
    assert not values.is_missing(value)


@settings(deadline=None, max_examples=60)
@given(st.lists(CELLS, max_size=12))
def test_codes_equal_a_look_up_of_each_value(cells):
    vocabulary = ("1", "?", "True", "a")
    index = values.vocabulary_index(vocabulary)
    codes = values.to_codes(pd.Series(cells, dtype=object), index, 4.0)
    np.testing.assert_array_equal(codes, values.codes_of(cells, index, 4.0))
    for cell, code in zip(cells, codes, strict=True):
        if cell is None or cell != cell or cell == "":
            assert np.isnan(code)
        else:
            text = values.to_canonical_text(cell)
            assert code == (vocabulary.index(text) if text in vocabulary else 4.0)


@settings(deadline=None, max_examples=60)
@given(st.lists(CELLS, max_size=12))
def test_distinct_texts(cells):
    codes, texts = values.distinct_texts(pd.Series(cells, dtype=object))
    assert len(set(texts)) == len(texts)
    for cell, code in zip(cells, codes, strict=True):
        if code < 0:
            assert values.is_missing(cell) or values.to_canonical_text(cell) in values.MISSING_TEXTS
        else:
            assert texts[code] == values.to_canonical_text(cell)


def test_booleans_and_digits_stand_for_each_other():
    assert values.vocabulary_index(("False", "True")) == {"False": 0, "True": 1, "0": 0, "1": 1}
    assert values.vocabulary_index(("0", "1")) == {"False": 0, "True": 1, "0": 0, "1": 1}
    assert values.vocabulary_index(("1", "True")) == {"1": 0, "True": 1}


@pytest.mark.parametrize(
    "column",
    [
        [1, 2, None],
        np.array([1, 2, np.nan], dtype=np.float32),
        pd.array([1, 2, None], dtype="Int64"),
        pd.array([1, 2, None], dtype="float64[pyarrow]"),
        pd.array(["1", " 2.0", "NA"]),
        pd.array(["1", "2e0", None], dtype="string"),
        np.array([1, "2", "?"], dtype=object),
        np.array([1, 2, pd.NA], dtype=object),
        np.array([Decimal(1), Decimal("2.0"), None], dtype=object),
        np.array([True, 2, "nan"], dtype=object),
        np.array(["true", 2, ""], dtype=object),
        pd.Categorical([1, 2, None], categories=[1, 2, 3]),
        pd.Categorical(["1", "2", None], categories=["x", "1", "2"]),
    ],
)
def test_numbers(column):
    np.testing.assert_array_equal(values.to_numbers(pd.Series(column)), [1, 2, np.nan])


def test_missing_dates_are_missing_numbers():
    assert np.isnan(values.to_numbers(pd.Series([pd.NaT, pd.NaT]))).all()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["1", "?", "two", "three"], "Column 'c' holds 'two' (and 1 more), but must be a number as in training."),
        ([1, "1,234"], "Column 'c' holds '1,234', but must be a number"),
        (["1_000"], "Column 'c' holds '1_000', but"),
        ([1, [2]], "Column 'c' holds [2], but"),
        (pd.Categorical(["1", "x"]), "Column 'c' holds 'x', but"),
        (pd.to_datetime(["2024-01-01"]), "Column 'c' holds Timestamp('2024-01-01 00:00:00'), but"),
        ([datetime.date(2024, 1, 1)], "Column 'c' holds datetime.date(2024, 1, 1), but"),
    ],
)
def test_no_numbers(column, message):
    with pytest.raises(InputError) as caught:
        values.to_numbers(pd.Series(column, name="c"))
    assert message in str(caught.value)


MOMENT = pd.Timestamp("2024-02-29 13:45:30")


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([MOMENT, None]),
        pd.Series([MOMENT, None], dtype="datetime64[s]"),
        pd.Series([MOMENT, None], dtype="timestamp[us][pyarrow]"),
        pd.Series([MOMENT.to_pydatetime(), None], dtype=object),
        pd.Series(["29/02/2024 13:45:30", "?"]),
        pd.Series(["29/02/2024 13:45:30", None], dtype="category"),
    ],
)
def test_dates(column):
    dates = values.to_dates(column, "%d/%m/%Y %H:%M:%S", None)
    assert dates.dtype == "datetime64[us]"
    assert dates[0] == np.datetime64("2024-02-29T13:45:30")
    assert np.isnat(dates[1])


def test_dates_of_objects_and_without_a_format():
    dates = values.to_dates(pd.Series([datetime.date(2024, 2, 29), None], dtype=object), None, None)
    assert dates[0] == np.datetime64("2024-02-29")
    dates = values.to_dates(pd.Series(["2024-02-29", "2024-02-29T13:45:30"]), None, None)
    assert dates[1] == np.datetime64("2024-02-29T13:45:30")
    assert np.isnat(values.to_dates(pd.Series([np.nan, np.nan]), "%Y", None)).all()


@pytest.mark.parametrize(
    ("column", "timezone", "expected"),
    [
        (pd.Series([MOMENT]).dt.tz_localize("Europe/Paris"), "Europe/Paris", "2024-02-29T13:45:30"),
        (pd.Series([MOMENT]).dt.tz_localize("UTC"), "Europe/Paris", "2024-02-29T14:45:30"),
        (pd.Series([MOMENT]), "Europe/Paris", "2024-02-29T14:45:30"),
        (pd.Series([MOMENT]).dt.tz_localize("Europe/Paris"), None, "2024-02-29T12:45:30"),
        (pd.Series([MOMENT]).dt.tz_localize("UTC+02:00"), "UTC+02:00", "2024-02-29T13:45:30"),
    ],
)
def test_time_zones(column, timezone, expected):
    assert values.to_dates(column, None, timezone)[0] == np.datetime64(expected)


def test_texts_of_a_zone_with_summer_time():
    dates = pd.Series(pd.to_datetime(["2024-01-31 12:00", "2024-07-31 12:00", None])).dt.tz_localize("Europe/Berlin")
    found = values.to_dates(dates.astype(str), None, "Europe/Berlin")  # as a CSV file has them
    np.testing.assert_array_equal(found, values.to_dates(dates, None, "Europe/Berlin"))


def test_objects_of_several_time_zones():
    column = pd.Series([MOMENT.tz_localize("UTC"), MOMENT.tz_localize("Asia/Tokyo")], dtype=object)
    assert (np.diff(values.to_dates(column, None, "UTC")) == np.timedelta64(-9, "h")).all()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["2024-01-01", "soon"], "Column 'c' holds 'soon', but must be a date as in training."),
        ([3, 4], "Column 'c' holds 3 (and 1 more), but must be a date"),
        (pd.to_timedelta(["1h"]), "but must be a date as in training."),
    ],
)
def test_no_dates(column, message):
    with pytest.raises(InputError) as caught:
        values.to_dates(pd.Series(column, name="c"), "%Y-%m-%d", None)
    assert message in str(caught.value)


@settings(deadline=None, max_examples=60)
@given(st.datetimes(min_value=datetime.datetime(1900, 1, 1), max_value=datetime.datetime(2200, 1, 1)))
def test_date_parts(moment):
    parts = values.date_parts(np.array([moment, "NaT"], dtype="datetime64[us]"))
    expected = {
        "days": (moment - datetime.datetime(1970, 1, 1)).total_seconds() / 86400,
        "year": moment.year,
        "month": moment.month,
        "day": moment.day,
        "weekday": moment.weekday(),
        "hour": moment.hour,
    }
    assert tuple(parts) == values.PARTS
    assert {part: number[0] for part, number in parts.items()} == pytest.approx(expected)
    assert all(np.isnan(number[1]) for number in parts.values())


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(pd.to_timedelta([90, None], unit="s")),
        pd.Series([datetime.timedelta(seconds=90), None], dtype=object),
        pd.Series(["0 days 00:01:30", "?"]),
    ],
)
def test_seconds(column):
    np.testing.assert_array_equal(values.to_seconds(column), [90, np.nan])


@pytest.mark.parametrize("column", [[1.5], ["long"], pd.to_datetime(["2024-01-01"])])
def test_no_durations(column):
    with pytest.raises(InputError, match="but must be a duration as in training"):
        values.to_seconds(pd.Series(column, name="c"))


def test_texts():
    column = pd.Series([" a b", None, 1.0, "?", np.nan], dtype=object)
    assert values.to_texts(column).tolist() == ["a b", "", "1", "", ""]
