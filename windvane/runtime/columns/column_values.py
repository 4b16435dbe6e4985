"""One column of raw values -> numbers, canonical texts or category codes; `dates` has those of time.

Both what learns a schema and what applies it stand on these functions, so that a value means the same at training
and at prediction whatever type it came in: the category ``1`` is "1" as an integer, a float, a text or a category.
"""

from __future__ import annotations

from collections import Counter
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

NARROW = {"float32": np.float32, "float[pyarrow]": np.float32, "float16": np.float16, "halffloat[pyarrow]": np.float16}

_BOOLEANS = {"true": 1.0, "false": 0.0}
_NUMERIC = frozenset(("integer", "floating", "mixed-integer-float", "boolean", "decimal"))
_DATES = frozenset(("datetime", "datetime64", "date"))
_DURATIONS = frozenset(("timedelta", "timedelta64"))


def kind_of(values: pd.Series) -> str:
    """Return what a column holds by its type, or by its values where the type is object.

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
    """Return the values of an array one by one; float32 and float16 keep their types, so that 0.1 is written 0.1."""
    dtype = values.categories.dtype if isinstance(values, pd.Categorical) else values.dtype
    narrow = NARROW.get(str(dtype).lower())
    return np.asarray(values, dtype=object) if narrow is None else list(np.asarray(values, dtype=narrow))


def _hashable(values: pd.Series) -> Any:
    """Turn objects of several types into texts: to a hash table 1, 1.0 and True are one, and a list is an error."""
    if values.dtype != object or types.infer_dtype(values.to_numpy(), skipna=True) == "string":
        return values.array
    return np.array([None if is_missing(value) else to_canonical_text(value) for value in values], dtype=object)


def has_leading_zero(text: str) -> bool:
    """Whether a text is a whole number written with zeros before it, as codes are: 01234, 00."""
    return len(text) > 1 and text[0] == "0" and text.isascii() and text.isdigit()


def are_codes(texts: Iterable[str]) -> bool:
    """Whether all texts are nothing but digits, and some have leading zeros: they name something, as ZIP codes do."""
    found = False
    for text in texts:
        if not (text.isascii() and text.isdigit()):
            return False
        found = found or has_leading_zero(text)
    return found


def vocabulary_index(vocabulary: tuple[str, ...]) -> dict[str, float]:
    """Return the code of each canonical text.

    Booleans are found by "0" and "1" too, and the other way round; the only text that is 7 with leading zeros by "7".
    """
    index = {text: float(code) for code, text in enumerate(vocabulary)}
    padded = [(text.lstrip("0") or "0", index[text]) for text in vocabulary if has_leading_zero(text)]
    times = Counter(number for number, _ in padded)
    index |= {number: code for number, code in padded if number not in index and times[number] == 1}
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
    if types.is_numeric_dtype(values.dtype):
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    if form is not None:
        return _written_numbers(values, form)
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
            pass  # there are other values
    refuse_kinds(values, {"date", "duration"}, "number")
    numbers = plain_numbers(values)
    doubtful = np.flatnonzero(np.isnan(numbers) & values.notna().to_numpy())
    if len(doubtful):
        numbers = numbers.copy()
        texts = [to_canonical_text(value) for value in values.iloc[doubtful]]
        numbers[doubtful] = [_BOOLEANS.get(text.lower(), np.nan) for text in texts]
        wrong = np.isnan(numbers[doubtful]) & [text not in MISSING_TEXTS for text in texts]
        refuse_where(wrong, values.iloc[doubtful], "number")
    return numbers


def plain_numbers(values: Iterable[object]) -> Floats:  # (n,)
    """Read values and texts as Python does; NaN where one is no number."""
    return pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(dtype=np.float64)


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


def to_texts(values: pd.Series) -> NDArray[np.object_]:  # (n,)
    """Translate a column to canonical texts; the empty string is missing."""
    texts = ["" if is_missing(value) else to_canonical_text(value) for value in values]
    return np.array(["" if text in MISSING_TEXTS else text for text in texts], dtype=object)


def refuse_kinds(values: pd.Series, kinds: set[str], wanted: str) -> str:
    """Raise where a column of one of these kinds has a value; otherwise return its kind."""
    kind = kind_of(values)
    if kind in kinds:
        refuse_where(values.notna().to_numpy(), values, wanted)
    return kind


def refuse_where(wrong: NDArray[np.bool_], values: pd.Series, wanted: str) -> None:
    """Raise for the first value that is wrong, if there is one."""
    if wrong.any():
        value = values.iloc[[int(np.argmax(wrong))]].tolist()[0]
        count = int(wrong.sum())
        others = f" (and {count - 1} more)" if count > 1 else ""
        raise InputError(f"Column {values.name!r} holds {value!r}{others}, but must be a {wanted} as in training.")
