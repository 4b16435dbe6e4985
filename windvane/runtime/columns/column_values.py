"""One column of raw values -> numbers, canonical texts, category codes or dates.

Both what learns a schema and what applies it stand on these functions, so that a value means the same at training
and at prediction whatever type it came in: the category ``1`` is "1" as an integer, a float, a text or a category.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from ..errors import InputError
from .number_texts import NumberForm
from .table import Floats, Integers

# Texts that stand for no value. A declared category may have them as values all the same.
MISSING_TEXTS = frozenset(
    ("", "-", "?", "<NA>", "#N/A", "N/A", "n/a", "NA", "NULL", "null", "NaN", "nan", "NaT", "None")
)
PARTS = ("days", "year", "month", "day", "weekday", "hour")

NARROW = {"float32": np.float32, "float[pyarrow]": np.float32, "float16": np.float16, "halffloat[pyarrow]": np.float16}

_BOOLEANS = {"true": 1.0, "false": 0.0}
_NUMERIC = frozenset(("integer", "floating", "mixed-integer-float", "boolean", "decimal"))
_DATES = frozenset(("datetime", "datetime64", "date"))
_DURATIONS = frozenset(("timedelta", "timedelta64"))


def kind_of(values: pd.Series) -> str:
    """Tell what a column holds by its type, or by its values where the type is object.

    "number", "date", "duration", "category" (declared so), "text" (strings), "mixed" or "empty".
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return "category"
    if types.is_numeric_dtype(dtype):
        return "number"
    if isinstance(dtype, pd.DatetimeTZDtype) or types.is_datetime64_dtype(dtype):
        return "date"
    if types.is_timedelta64_dtype(dtype):
        return "duration"
    if isinstance(dtype, pd.StringDtype):
        return "text"
    inferred = types.infer_dtype(values.to_numpy(dtype=object), skipna=True)
    for kind, names in (("number", _NUMERIC), ("date", _DATES), ("duration", _DURATIONS)):
        if inferred in names:
            return kind
    return {"string": "text", "empty": "empty"}.get(inferred, "mixed")


def to_canonical_text(value: object) -> str:
    """Write a value as a text that does not depend on its type."""
    if isinstance(value, str):
        text = value.strip()
        # Halves of surrogate pairs, which no file can hold.
        return text if text.isascii() else text.encode("utf-8", errors="backslashreplace").decode("utf-8")
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace").strip()
    return str(value)


def is_missing(value: object) -> bool:
    """Whether one value is None, NaN, NaT or NA."""
    nan = isinstance(value, float | np.floating) and value != value
    return nan or value is None or value is pd.NA or value is pd.NaT


def distinct_texts(
    values: pd.Series, tokens: frozenset[str] = MISSING_TEXTS
) -> tuple[Integers, list[str]]:  # (n,), k texts
    """Return the position of each value among the distinct canonical texts (-1: missing), and these texts."""
    codes, raw = pd.factorize(_hashable(values))
    positions: dict[str, int] = {}
    found = [
        -1 if text in tokens else positions.setdefault(text, len(positions))
        for text in map(to_canonical_text, scalars(raw))
    ]
    return np.array([*found, -1], dtype=np.int64)[codes], list(positions)


def scalars(values: Any) -> Any:
    """The values of an array one by one; float32 and float16 stay what they are, so that 0.1 is written 0.1."""
    dtype = values.categories.dtype if isinstance(values, pd.Categorical) else values.dtype
    narrow = NARROW.get(str(dtype).lower())
    return np.asarray(values, dtype=object) if narrow is None else list(np.asarray(values, dtype=narrow))


def _hashable(values: pd.Series) -> Any:
    """Turn objects of several types into texts: to a hash table 1, 1.0 and True are one, and a list is an error."""
    if values.dtype != object or types.infer_dtype(values.to_numpy(), skipna=True) == "string":
        return values.array
    return np.array([None if is_missing(value) else to_canonical_text(value) for value in values], dtype=object)


def vocabulary_index(vocabulary: tuple[str, ...]) -> dict[str, float]:
    """Make the look-up from canonical text to code; booleans are found by "0" and "1" too, and the other way round."""
    index = {text: float(code) for code, text in enumerate(vocabulary)}
    for one, other in (("False", "0"), ("True", "1")):
        for text, alias in ((one, other), (other, one)):
            if text in index and alias not in index:
                index[alias] = index[text]
    return index


def to_codes(values: pd.Series, index: Mapping[str, float], unseen: float) -> Floats:  # (n,)
    """Translate a column to category codes: NaN is missing, `unseen` any text that is not in the index."""
    codes, raw = pd.factorize(_hashable(values))
    return np.array([*codes_of(scalars(raw), index, unseen), np.nan])[codes]


def codes_of(values: Iterable[object], index: Mapping[str, float], unseen: float) -> list[float]:
    """Translate a few values to category codes, one by one."""
    codes = []
    for value in values:
        text = "" if is_missing(value) else to_canonical_text(value)
        # A declared category may be called "?": the vocabulary is asked before the texts for missing.
        codes.append(index.get(text, np.nan if text in MISSING_TEXTS else unseen))
    return codes


def to_numbers(values: pd.Series, form: str | None = None) -> Floats:  # (n,)
    """Translate a column to float64; InputError names the first value that is neither a number nor missing.

    Texts have the form `form`; without one they are written as in Python, which also reads other values.
    """
    if form is not None and not types.is_numeric_dtype(values.dtype):
        return _written_numbers(values, form)
    if types.is_numeric_dtype(values.dtype):
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    if isinstance(values.dtype, pd.CategoricalDtype):
        used = values.cat.remove_unused_categories().cat
        categories = to_numbers(pd.Series(used.categories, name=values.name))
        return np.append(categories, np.nan)[used.codes.to_numpy()]
    if values.dtype == object:
        try:  # the quick way: Python's own numbers and None
            return values.to_numpy().astype(np.float64)
        except OverflowError as error:
            raise InputError(f"Column {values.name!r} holds an integer beyond the range of float64.") from error
        except (TypeError, ValueError):
            _refuse_kinds(values, {"date", "duration"}, "number")
    else:
        _refuse_kinds(values, {"date", "duration"}, "number")
    numbers = pd.to_numeric(values.astype(object), errors="coerce").to_numpy(dtype=np.float64)
    doubtful = np.flatnonzero(np.isnan(numbers) & values.notna().to_numpy())
    if len(doubtful):
        numbers = numbers.copy()
        texts = [to_canonical_text(value) for value in values.iloc[doubtful]]
        numbers[doubtful] = [_BOOLEANS.get(text.lower(), np.nan) for text in texts]
        wrong = np.isnan(numbers[doubtful]) & [text not in MISSING_TEXTS for text in texts]
        _refuse_where(wrong, values.iloc[doubtful], "number")
    return numbers


def _written_numbers(values: pd.Series, form: str) -> Floats:  # (n,)
    """Read texts as numbers of a form; other values are numbers or missing."""
    codes, raw = pd.factorize(values.to_numpy(dtype=object))
    others = iter(to_numbers(pd.Series([v for v in raw if not isinstance(v, str)], name=values.name, dtype=object)))
    read = NumberForm.from_text(form).read
    numbers = np.array([*(read(v) if isinstance(v, str) else next(others) for v in raw), np.nan])
    for at in np.flatnonzero(np.isnan(numbers[:-1])):
        text = raw[at]
        if isinstance(text, str) and text.strip() not in MISSING_TEXTS:
            raise InputError(
                f"Column {values.name!r} holds {text!r}, but must be a number written like {form} as in training."
            )
    return numbers[codes]


def swapped_order(form: str) -> str:
    """The format of dates with day and month in each other's place."""
    return form.replace("%d", "%\0").replace("%m", "%d").replace("%\0", "%m")


def order_of(form: str) -> str | None:
    """Whether a format of dates has "day/month" or "month/day" as numbers; None where there is no mistaking them."""
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
    _refuse_where(wrong, texts, "date")


def to_dates(values: pd.Series, form: str | None, timezone: str | None) -> NDArray[np.datetime64]:  # (n,)
    """Translate a column to wall-clock times in the time zone of training, in microseconds; NaT is missing.

    Texts have the format `form`. Dates without a zone are taken for UTC where training had a zone. InputError names the
    first value that is neither a date nor missing.
    """
    if _refuse_kinds(values, {"number", "duration"}, "date") == "date":
        try:
            dates = pd.to_datetime(values)
        except ValueError:  # objects of several time zones
            dates = pd.to_datetime(values, utc=True)
    else:
        codes, texts = distinct_texts(values)
        # Texts of a zone with summer time have two offsets, which pandas reads as UTC or not at all.
        utc = timezone is not None or (form is not None and "%z" in form)
        parsed = pd.to_datetime(pd.Series(texts, dtype=object), format=form or "ISO8601", errors="coerce", utc=utc)
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
    if _refuse_kinds(values, {"number", "date"}, "duration") == "duration":
        return np.asarray(pd.to_timedelta(values).dt.total_seconds().to_numpy(dtype=np.float64))
    codes, texts = distinct_texts(values)
    spans = pd.to_timedelta(pd.Series(texts, dtype=object), errors="coerce")
    _refuse_where(spans.isna().to_numpy(), pd.Series(texts, name=values.name, dtype=object), "duration")
    return np.append(spans.dt.total_seconds().to_numpy(dtype=np.float64), np.nan)[codes]


def to_texts(values: pd.Series) -> NDArray[np.object_]:  # (n,)
    """Translate a column to canonical texts; the empty string is missing."""
    texts = ["" if is_missing(value) else to_canonical_text(value) for value in values]
    return np.array(["" if text in MISSING_TEXTS else text for text in texts], dtype=object)


def _refuse_kinds(values: pd.Series, kinds: set[str], wanted: str) -> str:
    """Raise where a column of one of these kinds has a value; otherwise give its kind."""
    kind = kind_of(values)
    if kind in kinds:
        _refuse_where(values.notna().to_numpy(), values, wanted)
    return kind


def _refuse_where(wrong: NDArray[np.bool_], values: pd.Series, wanted: str) -> None:
    """Raise for the first value that is wrong, if there is one."""
    if wrong.any():
        value = values.iloc[[int(np.argmax(wrong))]].tolist()[0]
        count = int(wrong.sum())
        others = f" (and {count - 1} more)" if count > 1 else ""
        raise InputError(f"Column {values.name!r} holds {value!r}{others}, but must be a {wanted} as in training.")
