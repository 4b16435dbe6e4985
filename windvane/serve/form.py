"""The form that predicts one row: a field for each column, filled with what is typical in training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from windvane.errors import InputError
from windvane.pages.html_builder import Html, tag
from windvane.runtime.columns.column import Column
from windvane.runtime.columns.dates import ISO
from windvane.runtime.columns.number_texts import NumberForm
from windvane.runtime.columns.schema import Schema
from windvane.runtime.columns.table import Floats
from windvane.serve.predictions import bad_columns, input_columns
from windvane.serve.runs import UNREADABLE

MAX_FIELDS = 200
MAX_OPTIONS = 200  # of a list to choose from; more are suggested while typing
SAMPLE_ROWS = 5_000  # from which typical values are taken
IMAGE_TYPES = "image/*,.tif,.tiff,.ppm,.jp2"

_ERROR = tag("p", attributes={"class": "error", "role": "alert"})  # empty until the script fills it


@dataclass(frozen=True)
class Field:
    """One column of the form."""

    name: str  # as rows to predict name it
    title: str
    column: Column
    value: str  # a typical one; empty where none is known, which means missing

    @property
    def example(self) -> str | float | int | None:
        """The value as a program would send it."""
        column = self.column
        if not self.value:
            return None
        if column.kind == "number" and column.number_format is None:
            return float(self.value) if "." in self.value or "e" in self.value else int(self.value)
        if column.kind == "date" and column.date_format not in (None, ISO):
            return pd.Timestamp(self.value).strftime(column.date_format)
        return self.value

    def to_html(self, number: int) -> Html:
        """The field with its label and room for an error."""
        key = f"field-{number}"
        own = {"id": key, "name": key, "data-column": self.name, "autocomplete": "off"}
        return tag("div", tag("label", self.title, attributes={"for": key}), *self._control(own), _ERROR)

    def _control(self, own: Mapping[str, object]) -> list[Html]:
        column = self.column
        if column.kind == "category" and len(column.vocabulary) <= MAX_OPTIONS:
            options = [tag("option", "missing", attributes={"value": ""})]
            for text in column.vocabulary:
                chosen = {"selected": ""} if text == self.value else {}
                options.append(tag("option", text, attributes={"value": text, **chosen}))
            return [tag("select", *options, attributes=own)]
        if column.kind == "text":
            return [tag("textarea", self.value, attributes={**own, "rows": 3})]
        value = {"value": self.value, "placeholder": "missing"}
        if column.kind == "category":
            items = [tag("option", attributes={"value": text}) for text in column.vocabulary[: 10 * MAX_OPTIONS]]
            values = f"{own['id']}-values"
            return [
                tag("input", attributes={**own, **value, "list": values}),
                tag("datalist", *items, attributes={"id": values}),
            ]
        if column.kind == "date":
            kind = "datetime-local" if "hour" in column.parts else "date"
            return [tag("input", attributes={**own, "value": self.value, "type": kind, "step": "any"})]
        if column.kind == "duration":
            return [tag("input", attributes={**own, **value}), tag("p", "as in 1 days 02:00:00")]
        shown = [] if column.number_format is None else [tag("p", f"written as {column.number_format}")]
        return [tag("input", attributes={**own, **value, "inputmode": "decimal"}), *shown]


def make_fields(schema: Schema, typical: Mapping[str, str]) -> list[Field]:
    """Make a field for each column that a row to predict has."""
    return [
        Field(name, column.name if schema.named else f"column {name}", column, typical.get(column.name, ""))
        for name, column in input_columns(schema).items()
    ]


def form_html(fields: Sequence[Field], address: str) -> Html:
    """The form; the script of the page sends it."""
    return _form([field.to_html(number) for number, field in enumerate(fields)], address)


def image_form_html(address: str) -> Html:
    """The form that takes an image."""
    label = tag("label", "An image", attributes={"for": "image"})
    file = tag("input", attributes={"id": "image", "type": "file", "accept": IMAGE_TYPES, "required": ""})
    return _form([tag("div", label, file, _ERROR, attributes={"class": "whole"})], address)


def _form(fields: Sequence[Html], address: str) -> Html:
    button = tag("div", tag("button", "Predict", attributes={"type": "submit"}), attributes={"class": "whole"})
    return tag("form", *fields, button, attributes={"data-predict": address, "novalidate": ""})


class FieldErrors(InputError):
    """Values of a form that cannot be read: name of the column -> what is wrong."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        super().__init__(" ".join(columns.values()))
        self.columns = dict(columns)


def read_form(schema: Schema, given: Mapping[str, Any]) -> dict[str, Any]:
    """Make a row of what was filled in (name -> text, None for missing); raises FieldErrors."""
    row: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, column in input_columns(schema).items():
        row[name] = value = given.get(name)
        if column.kind == "date" and isinstance(value, str):  # a browser writes all dates in one way
            try:
                row[name] = pd.Timestamp(value)
            except ValueError:
                wrong[name] = f"{value!r} is no date."
    wrong = {**bad_columns(schema, pd.DataFrame([row])), **wrong}
    if wrong:
        raise FieldErrors(wrong)
    return row


def typical_values(data: Path, schema: Schema) -> dict[str, str]:
    """Name -> median or most frequent value in the training table, without texts; empty if the table was not kept."""
    try:
        rows = np.load(data / "matrix.npy", mmap_mode="r")  # (n, p + c)
        matrix = np.asarray(rows[:: max(1, len(rows) // SAMPLE_ROWS)], dtype=np.float64)
        places = schema.matrix_places
        by_name = {column.name: column for column in schema.columns}
        found = {name: _typical(by_name[name], matrix[:, columns]) for name, columns in places.items()}
        return {name: text for name, text in found.items() if text is not None}
    except UNREADABLE:  # keep_data=False
        return {}


def _typical(column: Column, values: Floats) -> str | None:  # (n, 1), or (n, parts) of a date
    if column.kind == "category":
        codes = values[:, 0]
        codes = codes[(codes >= 0) & (codes < len(column.vocabulary))].astype(np.int64)
        return column.vocabulary[int(np.bincount(codes).argmax())] if len(codes) else None
    if column.kind == "date" and "days" not in column.parts:
        return None
    number = _middle(values[:, column.parts.index("days") if column.kind == "date" else 0])
    if number is None:
        return None
    if column.kind == "date":
        moment = pd.Timestamp(round(number * 86400), unit="s")
        return moment.strftime("%Y-%m-%dT%H:%M:%S" if "hour" in column.parts else "%Y-%m-%d")
    if column.kind == "duration":
        return str(pd.to_timedelta(number, unit="s"))
    text = f"{number:.0f}" if number.is_integer() and abs(number) < 1e15 else f"{number:.6g}"
    if column.number_format is None:
        return text
    form = NumberForm.from_text(column.number_format)
    text = text.replace(".", form.decimal) + f" {form.unit}" * bool(form.unit)
    return text if np.isclose(form.read(text), number) else None


def _middle(values: Floats) -> float | None:
    """The lower median of the finite values; None without any."""
    known = values[np.isfinite(values)]
    return float(np.quantile(known, 0.5, method="lower")) if len(known) else None
