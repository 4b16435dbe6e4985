"""One column of raw values -> dates and the numbers made of them, or durations in seconds.

`windvane.data.date_formats` finds the format of dates that are written as texts, as in a CSV file.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..errors import InputError
from .column_values import distinct_texts, refuse_kinds, refuse_where
from .table import Floats

ISO = "ISO8601"  # the format of dates of several lengths, as pandas names it: 2024-12-31 beside 2024-12-31 10:00:00
PARTS = ("days", "year", "month", "day", "weekday", "hour")


def swapped_order(form: str) -> str:
    """Return a format of dates with day and month swapped."""
    return form.replace("%d", "%\0").replace("%m", "%d").replace("%\0", "%m")


def order_of(form: str) -> str | None:
    """Return the order of day and month in a format of dates; None where it is unambiguous."""
    day, month, year = form.find("%d"), form.find("%m"), max(form.find("%Y"), form.find("%y"))
    if min(day, month) < 0 or -1 < year < min(day, month):
        return None
    return "day/month" if day < month else "month/day"


def _refuse_dates(wrong: NDArray[np.bool_], texts: pd.Series, form: str | None) -> None:
    """Raise for the first text that is no date of a format, with what it would be in the other order."""
    order = None if form is None else order_of(form)
    if wrong.any() and form is not None and order is not None:
        text = str(texts[wrong].iloc[0])
        other = pd.to_datetime(text, format=swapped_order(form), errors="coerce")
        if not pd.isna(other):
            reverse = "month/day" if order == "day/month" else "day/month"
            raise InputError(
                f"Column {texts.name!r} holds {text!r}, which is no date in the order {order} of training ({form}); as "
                f"{reverse} it would be {other.day} {other:%B %Y}. Write all its dates in one order."
            )
    refuse_where(wrong, texts, "date" if form is None else f"date in the format {form}")


def to_dates(values: pd.Series, form: str | None, timezone: str | None) -> NDArray[np.datetime64]:  # (n,)
    """Translate a column to wall-clock times in the time zone of training, in microseconds; NaT is missing.

    Texts have the format `form`. Dates without a zone are taken for UTC where training had a zone. InputError names the
    first value that is neither a date nor missing.
    """
    if refuse_kinds(values, {"number", "duration"}, "date") == "date":
        try:
            dates = pd.to_datetime(values)
        except ValueError:  # objects of several time zones
            dates = pd.to_datetime(values, utc=True)
    else:
        codes, texts = distinct_texts(values)
        # Texts of a zone with summer time have two offsets, which pandas reads as UTC or not at all.
        utc = timezone is not None or (form is not None and "%z" in form)
        parsed = pd.to_datetime(pd.Series(texts, dtype=object), format=form or ISO, errors="coerce", utc=utc)
        _refuse_dates(parsed.isna().to_numpy(), pd.Series(texts, name=values.name, dtype=object), form)
        dates = parsed.reindex(codes).reset_index(drop=True)  # -1 is no label: NaT
    if dates.dt.tz is not None:
        dates = dates.dt.tz_convert(timezone)
    elif timezone is not None:
        dates = dates.dt.tz_localize("UTC").dt.tz_convert(timezone)
    return np.asarray(dates.dt.tz_localize(None).to_numpy(dtype="datetime64[us]"))


def date_parts(dates: NDArray[np.datetime64]) -> dict[str, Floats]:
    """Take dates apart into the numbers of `PARTS`, each of shape (n,); NaN where a date is missing."""
    day, month, year = (dates.astype(f"datetime64[{unit}]") for unit in "DMY")
    seconds = (dates - day) / np.timedelta64(1, "s")  # since midnight; NaT gives NaN
    numbers = {
        "days": day.astype(np.int64) + seconds / 86400,
        "year": year.astype(np.int64) + 1970.0,
        "month": month.astype(np.int64) % 12 + 1.0,
        "day": (day - month.astype("datetime64[D]")).astype(np.int64) + 1.0,
        "weekday": (day.astype(np.int64) + 3) % 7 * 1.0,  # 1 January 1970 was a Thursday
        "hour": seconds // 3600,
    }
    return {part: np.where(np.isnat(dates), np.nan, number) for part, number in numbers.items()}


def to_seconds(values: pd.Series) -> Floats:  # (n,)
    """Translate durations, or texts such as "1 days 02:00:00", to seconds; NaN is missing."""
    if refuse_kinds(values, {"number", "date"}, "duration") == "duration":
        return np.asarray(pd.to_timedelta(values).dt.total_seconds().to_numpy(dtype=np.float64))
    codes, texts = distinct_texts(values)
    spans = pd.to_timedelta(pd.Series(texts, dtype=object), errors="coerce")
    refuse_where(spans.isna().to_numpy(), pd.Series(texts, name=values.name, dtype=object), "duration")
    return np.append(spans.dt.total_seconds().to_numpy(dtype=np.float64), np.nan)[codes]
