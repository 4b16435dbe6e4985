"""Infer what the columns of a training table are, from types and values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from windvane.data.date_formats import count_date_formats, find_date_format
from windvane.data.number_columns import (
    LEAST_NUMBERS,
    MOST_ODD,
    number_forms,
    texts_beside_numbers,
    without_digits,
)
from windvane.errors import InputError, check_choice, check_usable, some_of, unknown_name_error
from windvane.pages.texts import counted, cut
from windvane.runtime.columns.column import Column
from windvane.runtime.columns.column_values import (
    MISSING_TEXTS,
    are_codes,
    distinct_texts,
    has_leading_zero,
    kind_of,
    plain_numbers,
    to_numbers,
)
from windvane.runtime.columns.dates import PARTS, date_parts, order_of, to_dates, to_seconds
from windvane.runtime.columns.number_texts import Evidence, NumberForm
from windvane.runtime.columns.schema import Frame, Schema, is_unnamed, listed, name_text, plain_columns, to_block
from windvane.runtime.columns.table import Floats, Integers

MIN_WORDS = 4.0  # texts have at least as many words on average
MIN_DISTINCT = 0.5  # and at least this share of them is distinct
SAMPLE = 1000  # texts whose words are counted
SEVERAL_FORMATS = "dates in several formats"  # why a column is a category
MAX_NAMED, MAX_SHOWN = 8, 20  # in a message: columns, and letters of a value
# Why a column is a category though its texts look like numbers or dates, and what can be done.
_CATEGORY_NOTES = {
    "since codes are written so": "If they are numbers, column_types= (--type) says so.",
    "since no format holds for all of their dates": "Write the dates of a column in one format.",
    "though most values are numbers or dates": "Leave such values empty to read the others as what they are.",
}
READABLE_KINDS = ("number", "category", "date", "text")  # that a user can ask for


@dataclass(frozen=True)
class Conventions:
    """How the columns of a table that leave no doubt are written; None where they do not say or differ."""

    decimal: str | None = None  # the decimal mark of numbers
    order: str | None = None  # "day/month" or "month/day"


def infer_schema(
    frame: Frame, column_types: Mapping[str, str] | None = None, date_formats: Mapping[str, str] | None = None
) -> Schema:
    """Infer what the columns of a training table are; `column_types` and `date_formats` of the user go first."""
    if not isinstance(frame, pd.DataFrame):
        if column_types or date_formats:
            raise InputError("column_types and date_formats are for tables with columns; X is a sparse matrix.")
        return Schema(columns=(), named=False, n_sparse=frame.shape[1])
    unnamed = is_unnamed(frame)
    names = [f"x{i}" if unnamed else name_text(name) for i, name in enumerate(frame.columns)]
    plain = plain_columns(frame)
    numbers = infer_number_columns([names[i] for i in plain], to_block(frame, plain)) if len(plain) else []
    found = dict(zip(plain.tolist(), numbers, strict=True))  # by position
    for name, (kind, date_format) in _wanted_kinds(names, column_types or {}, date_formats or {}).items():
        i = names.index(name)
        found[i] = _column_of_kind(frame.iloc[:, i].rename(name), kind, date_format)
    others = {i: frame.iloc[:, i].rename(names[i]) for i in range(len(names)) if i not in found}
    found |= {i: infer_column(values) for i, values in others.items()}
    conventions = _conventions(list(found.values()), frame.attrs.get("decimal"))
    for i, values in others.items():
        # A number such as 1.234 that Python reads may be 1234 in a table with decimal commas.
        as_python = found[i].kind == "number" and found[i].number_format is None and conventions.decimal == ","
        if found[i].doubtful or as_python:
            found[i] = infer_column(values, conventions)
    learned = [found[i] for i in range(len(names))]
    if all(column.kind == "dropped" for column in learned):
        raise InputError(
            f"X has no column to learn from: each of the {len(learned)} is constant or has no value "
            f"in {len(frame)} sample(s)."
        )
    return Schema(columns=tuple(learned), named=not unnamed)


def infer_times(
    frame: pd.DataFrame, column_types: Mapping[str, str] | None = None, date_formats: Mapping[str, str] | None = None
) -> Schema:
    """Infer what the one column of a table is, which holds times; 01, 02 ... are numbers then, not codes."""
    schema = infer_schema(frame, column_types, date_formats)
    (column,) = schema.columns
    if column_types or not are_codes(column.vocabulary):
        return schema
    return infer_schema(frame, {column.name: "number"})


def leave_out(schema: Schema, reasons: Mapping[str, str]) -> Schema:
    """Drop columns, given name -> reason; InputError if no column is left."""
    columns = tuple(
        Column(column.name, "dropped", column.n_missing, drop_reason=reasons[column.name])
        if column.name in reasons
        else column
        for column in schema.columns
    )
    if all(column.kind == "dropped" for column in columns):
        raise InputError(f"X has no column to learn from: each of the {len(columns)} is left out or constant.")
    return dataclasses.replace(schema, columns=columns)


def describe_columns(schema: Schema) -> pd.DataFrame:
    """Tabulate the columns: column, kind, distinct (not counted for numbers), missing, note."""
    columns = schema.columns or [Column(name, "number") for name in schema.feature_names]
    return pd.DataFrame(
        {
            "column": [column.name for column in columns],
            "kind": [column.kind for column in columns],
            "distinct": pd.array([column.n_unique for column in columns], dtype="Int64"),
            "missing": [column.n_missing for column in columns],
            "note": [
                column.drop_reason or column.category_reason or column.number_format or column.date_format or ""
                for column in columns
            ],
        }
    )


def reading_notes(schema: Schema) -> tuple[str, ...]:
    """Say which texts are read as numbers, in which form, and which almost are."""
    names: dict[str, list[str]] = {}
    for column in schema.columns:
        if column.number_format is not None:
            names.setdefault(column.number_format, []).append(column.name)
    notes = [
        f"{_columns_are(some)} read as numbers written like {form}: {listed(some)}." for form, some in names.items()
    ]
    for why, advice in _CATEGORY_NOTES.items():
        categories = [one for one in schema.columns if one.category_reason is not None and _why_noted(one) == why]
        if categories:
            columns = some_of([f"{one.name!r} ({one.category_reason})" for one in categories], MAX_NAMED)
            are = _columns_are([one.name for one in categories])
            notes.append(f"{are} read as categories, {why}: {columns}. {advice}")
    return tuple(notes)


def _why_noted(column: Column) -> str:
    """Return the one of `_CATEGORY_NOTES` that is for a category of texts like numbers or dates."""
    codes, dates, odd = _CATEGORY_NOTES
    if are_codes(column.vocabulary):
        return codes
    return dates if (column.category_reason or "").startswith(SEVERAL_FORMATS) else odd


def doubts(schema: Schema) -> tuple[str, ...]:
    """Say which texts are read in one of two ways that their values do not decide."""
    doubtful = [column for column in schema.columns if column.doubtful]
    notes = []
    for decimal, reading in ((".", "1,234 as 1234"), (",", "1,234 as 1.234 and 1.234 as 1234")):
        names = [
            column.name
            for column in doubtful
            if column.number_format is not None and NumberForm.from_text(column.number_format).decimal == decimal
        ]
        if names:
            notes.append(
                f"{_columns_are(names)} read as numbers whose commas and points could mean either thousands or "
                f"decimals: {listed(names)}. Read is {reading}; if that is wrong, convert to numbers before."
            )
    for order, reading in (("day/month", "3 April"), ("month/day", "4 March")):
        names = [c.name for c in doubtful if c.date_format is not None and order_of(c.date_format) == order]
        if names:
            notes.append(
                f"{_columns_are(names)} read as dates in the order {order}, but no value decides between the orders: "
                f"{listed(names)}. 03/04 is the {reading}; if that is wrong, convert with "
                "pandas.to_datetime(..., format=...) before."
            )
    return tuple(notes)


def dropped_notes(schema: Schema) -> tuple[str, ...]:
    """Say which columns were left out, and why."""
    return tuple(
        f"{counted(len(names), 'column')} left out ({reason}): {listed(names)}."
        for reason, names in schema.dropped_columns.items()
    )


def infer_column(values: pd.Series, conventions: Conventions = Conventions()) -> Column:
    """Infer one column of any type; the conventions of its table decide where its own values do not."""
    name, kind = str(values.name), kind_of(values)
    if kind == "number":
        return _number_column(values)
    if kind == "date":
        return _date_column(values, None)
    if kind == "duration":
        seconds = infer_number_columns([name], to_seconds(values)[:, None])[0]
        return dataclasses.replace(seconds, kind="duration") if seconds.kind == "number" else seconds
    if kind == "text" and _begins_with_numbers(values) and conventions.decimal != ",":
        try:
            return _number_column(values)
        except InputError:
            pass  # a text stands further down
    codes, texts = _category_texts(values)
    missing, reason = int((codes < 0).sum()), None
    if len(texts) == 0 or (len(texts) == 1 and missing == 0):
        return _dropped_column(name, len(values), missing)
    if kind != "category" and are_codes(texts):
        reason = f"{next(filter(has_leading_zero, texts))!r} has leading zeros"
    elif kind != "category":
        evidence = number_forms(values) if conventions.decimal == "," else Evidence((), False)
        if not np.isnan(plain_numbers(texts)).any() and not evidence.doubtful:
            return Column(name, "number", n_missing=missing)
        evidence = evidence if evidence.forms else number_forms(values)
        if evidence.forms:
            likely = next((form for form in evidence.forms if form.decimal == conventions.decimal), evidence.forms[0])
            return _number_column(values, str(likely), evidence.doubtful)
        order = conventions.order or ("day/month" if conventions.decimal == "," else None)
        form, doubtful = find_date_format(texts, order)
        if form is not None:
            return dataclasses.replace(_date_column(values, form), doubtful=doubtful)
        words = np.mean([len(text.split()) for text in texts[:SAMPLE]])
        if words >= MIN_WORDS and len(texts) >= MIN_DISTINCT * (len(values) - missing):
            return Column(name, "text", n_missing=missing, n_unique=len(texts))
        reason = _why_category(texts)
    return Column(
        name, "category", missing, len(texts), vocabulary=_sorted_vocabulary(values, texts), category_reason=reason
    )


def _why_category(texts: list[str]) -> str | None:
    """Name a value that makes categories of a column whose many other values are numbers or dates."""
    formats = count_date_formats(texts)
    if formats:
        like = ", ".join(f"{count:,} like {cut(text, MAX_SHOWN)!r}" for text, count in formats.items())
        return f"{SEVERAL_FORMATS}: {like}"
    odd, kind = texts_beside_numbers(texts), "number"
    if not odd:
        odd, rest = without_digits(texts)
        is_few = 0 < len(odd) <= MOST_ODD * len(texts) and len(rest) >= LEAST_NUMBERS
        if not is_few or find_date_format(rest, None)[0] is None:
            return None
        kind = "date"
    return f"{cut(odd[0], MAX_SHOWN)!r} is no {kind}"


def infer_number_columns(names: list[str], block: Floats) -> list[Column]:
    """Infer columns that hold numbers, given as a block (n, p)."""
    missing = len(block) - np.isfinite(block).sum(axis=0)  # (p,)
    constant = missing == len(block)
    # Most columns vary within their first rows; only the others are read as a whole.
    for j in np.flatnonzero((block[:SAMPLE] == block[:1]).all(axis=0) & (missing == 0)):
        constant[j] = (block[:, j] == block[0, j]).all()
    columns = [
        _dropped_column(name, len(block), gone) if same else Column(name, "number", n_missing=gone)
        for name, gone, same in zip(names, missing.tolist(), constant.tolist(), strict=True)
    ]
    for j in np.flatnonzero((missing > 0) & ~constant):
        present = block[np.isfinite(block[:, j]), j]
        if (present[:SAMPLE] == present[0]).all() and (present == present[0]).all():
            columns[j] = dataclasses.replace(columns[j], constant=float(present[0]))
    return columns


def _conventions(columns: Sequence[Column], decimal: str | None) -> Conventions:
    """Return what the columns that leave no doubt have in common; `decimal` is what the file itself suggests."""
    sure = [column for column in columns if not column.doubtful]
    marks = {NumberForm.from_text(column.number_format).decimal for column in sure if column.number_format is not None}
    orders = {order_of(column.date_format) for column in sure if column.date_format is not None} - {None}
    return Conventions(marks.pop() if len(marks) == 1 else decimal, orders.pop() if len(orders) == 1 else None)


def _wanted_kinds(
    names: Sequence[str], column_types: Mapping[str, str], date_formats: Mapping[str, str]
) -> dict[str, tuple[str, str | None]]:
    """Return the kind, and the format of dates, of each column that the user names."""
    for argument, given in (("column_types", column_types), ("date_formats", date_formats)):
        if not isinstance(given, Mapping):
            raise InputError(f"{argument}={given!r} is no mapping. Allowed: the name of a column -> a text.")
        for name in given:
            if name_text(name) not in names:
                raise unknown_name_error(argument, name, names)
    for name, form in date_formats.items():
        is_format = isinstance(form, str) and "%" in form
        check_usable(f"date_formats[{name!r}]", form, is_format, "a format of strftime, as in '%d.%m.%Y'")
    formats = {name_text(name): form for name, form in date_formats.items()}
    wanted: dict[str, tuple[str, str | None]] = {name: ("date", form) for name, form in formats.items()}
    for name, kind in column_types.items():
        check_choice(f"column_types[{name!r}]", kind, READABLE_KINDS)
        text = name_text(name)
        if kind != "date" and text in formats:
            raise InputError(f"column_types[{name!r}]={kind!r}, but date_formats has a format for it.")
        wanted[text] = (kind, formats.get(text))
    return wanted


def _column_of_kind(values: pd.Series, kind: str, date_format: str | None) -> Column:
    """Describe a column that is of a kind because the user says so."""
    name = str(values.name)
    try:
        if kind == "number":
            forms = number_forms(values).forms if kind_of(values) == "text" else ()
            return _number_column(values, str(forms[0]) if forms else None)
        if kind == "date":
            if date_format is None and kind_of(values) == "text":
                date_format, _ = find_date_format(distinct_texts(values)[1], None)
                if date_format is None:
                    raise InputError("its values have no common format; date_formats can name one, as in '%d.%m.%Y'.")
            return _date_column(values, date_format)
    except InputError as error:
        said = str(error).replace(" as in training", "")
        raise InputError(f"{name!r} cannot be read as a {kind}: {said}") from error
    codes, texts = distinct_texts(values) if kind == "text" else _category_texts(values)
    missing = int((codes < 0).sum())
    if len(texts) == 0 or (len(texts) == 1 and missing == 0):
        return _dropped_column(name, len(values), missing)
    if kind == "text":
        return Column(name, "text", n_missing=missing, n_unique=len(texts))
    return Column(name, "category", missing, len(texts), vocabulary=_sorted_vocabulary(values, texts))


def _number_column(values: pd.Series, form: str | None = None, doubtful: bool = False) -> Column:
    """Describe a column of numbers; texts are written in a form, or as in Python."""
    column = infer_number_columns([str(values.name)], to_numbers(values, form)[:, None])[0]
    return dataclasses.replace(column, number_format=form, doubtful=doubtful) if column.kind == "number" else column


def _date_column(values: pd.Series, form: str | None) -> Column:
    """Describe a column of dates, leaving out the parts that do not vary."""
    zone = "UTC" if form is not None and "%z" in form else getattr(values.dtype, "tz", None)
    timezone = None if zone is None else str(zone)
    dates = to_dates(values, form, timezone)
    present = dates[~np.isnat(dates)]
    name, missing = str(values.name), len(dates) - len(present)
    parts: tuple[str, ...] = ("days",) if missing else ()  # whether there is a date may be all it says
    if len(present):
        columns = infer_number_columns(list(PARTS), np.stack(list(date_parts(present).values()), axis=1))
        parts = tuple(column.name for column in columns if column.kind == "number") or parts
    if not parts or missing == len(dates):
        return _dropped_column(name, len(dates), missing)
    distinct = len(np.unique(present))
    days = float(date_parts(present[:1])["days"][0]) if distinct == 1 else None  # beside missing ones
    return Column(name, "date", missing, distinct, date_format=form, timezone=timezone, parts=parts, constant=days)


def _dropped_column(name: str, n_rows: int, missing: int) -> Column:
    return Column(name, "dropped", n_missing=missing, drop_reason="no value" if missing == n_rows else "constant")


def _category_texts(values: pd.Series) -> tuple[Integers, list[str]]:  # (n,), k texts
    """Return the position of each value among the distinct texts (-1: missing), and these texts."""
    is_declared = isinstance(values.dtype, pd.CategoricalDtype)  # such a category may be called "?"
    return distinct_texts(values, frozenset([""]) if is_declared else MISSING_TEXTS)


def _begins_with_numbers(values: pd.Series) -> bool:
    """Whether the first values are numbers; then probably all are, and their many distinct texts need not be listed."""
    texts = distinct_texts(values.iloc[:SAMPLE])[1]
    if len(texts) == 0 or np.isnan(plain_numbers(texts)).any():
        return False
    return not all(map(str.isdigit, texts)) or not values.str.contains(r"^\s*0\d", na=False).any()  # codes


def _sorted_vocabulary(values: pd.Series, texts: list[str]) -> tuple[str, ...]:
    """Sort a vocabulary: as the category declares it, as numbers where all are, by letters otherwise."""
    if isinstance(values.dtype, pd.CategoricalDtype) and values.cat.ordered:
        _, declared = distinct_texts(pd.Series(values.cat.categories), frozenset([""]))
        occurring = set(texts)
        return tuple(text for text in declared if text in occurring)
    numbers = plain_numbers(texts)
    if np.isnan(numbers).any():
        return tuple(sorted(texts))
    return tuple(text for _, text in sorted(zip(numbers.tolist(), texts, strict=True)))


def _columns_are(names: Sequence[str]) -> str:
    return f"{counted(len(names), 'column')} {'are' if len(names) > 1 else 'is'}"
