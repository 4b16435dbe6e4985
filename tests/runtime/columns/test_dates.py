import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.errors import InputError
from windvane.runtime.columns.dates import PARTS, date_parts, to_dates, to_seconds

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
    dates = to_dates(column, "%d/%m/%Y %H:%M:%S", None)
    assert dates.dtype == "datetime64[us]"
    assert dates[0] == np.datetime64("2024-02-29T13:45:30")
    assert np.isnat(dates[1])


def test_dates_of_objects_and_without_a_format():
    dates = to_dates(pd.Series([datetime.date(2024, 2, 29), None], dtype=object), None, None)
    assert dates[0] == np.datetime64("2024-02-29")
    dates = to_dates(pd.Series(["2024-02-29", "2024-02-29T13:45:30"]), None, None)
    assert dates[1] == np.datetime64("2024-02-29T13:45:30")
    assert np.isnat(to_dates(pd.Series([np.nan, np.nan]), "%Y", None)).all()


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
    assert to_dates(column, None, timezone)[0] == np.datetime64(expected)


def test_texts_of_a_zone_with_summer_time():
    dates = pd.Series(pd.to_datetime(["2024-01-31 12:00", "2024-07-31 12:00", None])).dt.tz_localize("Europe/Berlin")
    found = to_dates(dates.astype(str), None, "Europe/Berlin")  # as a CSV file has them
    np.testing.assert_array_equal(found, to_dates(dates, None, "Europe/Berlin"))


def test_objects_of_several_time_zones():
    column = pd.Series([MOMENT.tz_localize("UTC"), MOMENT.tz_localize("Asia/Tokyo")], dtype=object)
    assert (np.diff(to_dates(column, None, "UTC")) == np.timedelta64(-9, "h")).all()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["2024-01-01", "soon"], "Column 'c' holds 'soon', but must be a date in the format %Y-%m-%d as in training."),
        ([3, 4], "Column 'c' holds 3 (and 1 more), but must be a date"),
        (pd.to_timedelta(["1h"]), "but must be a date as in training."),
    ],
)
def test_no_dates(column, message):
    with pytest.raises(InputError) as caught:
        to_dates(pd.Series(column, name="c"), "%Y-%m-%d", None)
    assert message in str(caught.value)


@settings(deadline=None, max_examples=60)
@given(st.datetimes(min_value=datetime.datetime(1900, 1, 1), max_value=datetime.datetime(2200, 1, 1)))
def test_date_parts(moment):
    parts = date_parts(np.array([moment, "NaT"], dtype="datetime64[us]"))
    expected = {
        "days": (moment - datetime.datetime(1970, 1, 1)).total_seconds() / 86400,
        "year": moment.year,
        "month": moment.month,
        "day": moment.day,
        "weekday": moment.weekday(),
        "hour": moment.hour,
    }
    assert tuple(parts) == PARTS
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
    np.testing.assert_array_equal(to_seconds(column), [90, np.nan])


@pytest.mark.parametrize("column", [[1.5], ["long"], pd.to_datetime(["2024-01-01"])])
def test_no_durations(column):
    with pytest.raises(InputError, match="but must be a duration as in training"):
        to_seconds(pd.Series(column, name="c"))
