"""What one column of a training table is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from .column_values import plain_numbers, to_canonical_text
from .dates import PARTS
from .number_texts import NumberForm

Kind = Literal["number", "category", "date", "duration", "text", "dropped"]


@dataclass(frozen=True)
class Column:
    """One column of the training table."""

    name: str
    kind: Kind  # what it is read as
    n_missing: int = 0  # how many values were missing in training
    n_unique: int | None = None  # how many distinct values there were; None where they were not counted (numbers)
    vocabulary: tuple[str, ...] = ()  # the texts of a category; a code is a position in it
    date_format: str | None = None  # the format of dates written as texts
    number_format: str | None = None  # how numbers are written as texts (`number_texts.NumberForm`)
    doubtful: bool = False  # whether the texts have another format just as well
    timezone: str | None = None  # the time zone in which dates are taken apart; None where they have none
    parts: tuple[str, ...] = ()  # the numbers made of a date: those of `dates.PARTS` that varied in training
    constant: float | None = None  # the one number that was there in training beside missing ones; others count as it
    drop_reason: str | None = None  # why the column is dropped
    category_reason: str | None = None  # why it is a category though most of its texts are numbers or dates

    def to_json(self) -> dict[str, Any]:
        """Describe the column in JSON's types, leaving out what has its default."""
        given = {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        }
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}

    @property
    def is_text(self) -> bool:
        """Whether the column means its texts, and not the numbers that a reader of files would make of some."""
        if self.kind == "category":  # such as 007 and 1.50, but not 7
            read = zip(self.vocabulary, plain_numbers(self.vocabulary).tolist(), strict=True)
            return any(to_canonical_text(number) != text for text, number in read if number == number)
        return self.kind == "text" or self.number_format is not None or self.date_format is not None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Column:
        """Read what `to_json` returned; ValueError or TypeError where no column is like that."""
        given: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields.items()}
        if "reason" in given:  # the name of both reasons in earlier files
            given["drop_reason" if given.get("kind") == "dropped" else "category_reason"] = given.pop("reason")
        column = cls(**given)
        if not (column._has_right_types() and column._fits_its_kind()):
            raise ValueError(f"column {column.name!r} has a field of a wrong type")
        # A format or a time zone that does not exist is an error here.
        if column.date_format is not None:
            pd.to_datetime(pd.Series(["?"], dtype=object), format=column.date_format, errors="coerce")
        if column.timezone is not None:
            pd.Timestamp(0, tz=column.timezone)
        return column

    def _has_right_types(self) -> bool:
        lists = (self.vocabulary, self.parts)
        texts = (self.date_format, self.number_format, self.timezone, self.drop_reason, self.category_reason)
        return (
            isinstance(self.name, str)
            and self.kind in get_args(Kind)
            and type(self.n_missing) is int
            and (self.n_unique is None or type(self.n_unique) is int)
            and all(isinstance(items, tuple) and all(isinstance(item, str) for item in items) for items in lists)
            and all(text is None or isinstance(text, str) for text in texts)
            and isinstance(self.doubtful, bool)
            and (self.constant is None or isinstance(self.constant, float))
        )

    def _fits_its_kind(self) -> bool:
        """Whether fields that only some kinds of columns have are those of its kind, with possible values."""
        form, constant = self.number_format, self.constant
        return (
            (self.kind == "category" or not (self.vocabulary or self.category_reason))
            and (self.kind == "dropped" or self.drop_reason is None)
            and (self.kind == "date") == bool(self.parts)
            and set(self.parts) <= set(PARTS)
            and (constant is None or (self.kind in ("number", "date", "duration") and bool(np.isfinite(constant))))
            and (form is None or str(NumberForm.from_text(form)) == form)
        )
