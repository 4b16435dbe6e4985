"""The columns of a training table, applied to every table that is to be predicted.

`windvane.data.column_types.infer_schema` learns them.

Columns are matched by name, whatever the type of the names: 1, 1.0 and "1" are one name, and so are equal tuples. An
array or a list is matched by position. A frame numbered 0, 1, 2 ... is what pandas makes of an array: its numbers are
names where training had such names, else positions.
Infinite numbers count as missing. The matrix of a table holds first what is a number in training, then the parts of
dates and the seconds of durations, then the category codes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np
import pandas as pd
from scipy import sparse as sp

from ..errors import InputError, MissingColumnsError, ModelFileError, some_of, warn_user
from .column import Column, Kind
from .column_values import (
    NARROW,
    codes_of,
    scalars,
    to_canonical_text,
    to_codes,
    to_numbers,
    to_texts,
    vocabulary_index,
)
from .dates import date_parts, to_dates, to_seconds
from .lag_features import LagFeatures
from .table import Floats, Integers, Table

FEW_ROWS = 300  # up to here values are looked up one by one: making a hash table of each column costs more
Frame = pd.DataFrame | sp.csr_matrix

# Why a column is not learned from, beside being constant or without a value.
IGNORED = "ignored"
IDENTIFIER = "like an identifier, and of no use for other rows"
CARRIED = "carried into the predictions"
ORDERING = "gives the order of time"
GROUPING = "gives the groups"
MAX_NAMED = 10  # columns named in a note or an error
ARRAY = "windvane: positions of an array"  # the name of the columns' index of a frame that was an array


@dataclass(frozen=True)
class Schema:
    """What the columns of a training table are."""

    columns: tuple[Column, ...]  # the columns in the order of training; empty where the table was sparse
    named: bool  # whether columns are found by name; by position otherwise
    n_sparse: int = 0  # number of columns of a sparse table; 0 where it was dense
    lags: LagFeatures | None = None  # columns made of earlier rows; they stand among `columns` like others

    def transform(self, frame: Frame, owner: str = "the model") -> Table:
        """Apply the schema to n rows.

        Columns may have another order; what training did not know or dropped is ignored. Errors name the `owner`.
        """
        if self.n_sparse:
            return self._transform_sparse(frame, owner)
        table = self.with_lags(frame)
        if self.lags is not None and len(table):
            _warn_without_lags(self.lags, table, owner)
        return self._transform_columns(table, owner)

    def with_lags(self, frame: Frame) -> pd.DataFrame:
        """Return a dense table with the columns that are made of earlier rows, if the schema has some."""
        if not isinstance(frame, pd.DataFrame):
            frame = of_array(frame.toarray())
        return frame if self.lags is None else self.lags.add(frame)

    def _transform_columns(self, frame: pd.DataFrame, owner: str) -> Table:
        places = self.places(frame, owner)
        made = self._made_numbers(frame, places)
        numbers, categories = self._of_kind["number"], self._of_kind["category"]
        n_numbers = len(numbers) + len(made)
        matrix = np.empty((len(frame), n_numbers + len(categories)))  # (n, p + c)
        self._fill_numbers(frame, places, matrix[:, : len(numbers)])
        for j, number in enumerate(made, start=len(numbers)):
            matrix[:, j] = number
        for j, constant in self.constants:
            matrix[~np.isnan(matrix[:, j]), j] = constant
        self._fill_codes(frame, places, matrix[:, n_numbers:])
        return Table(
            matrix=matrix,
            n_numbers=n_numbers,
            cardinalities=tuple(len(self.columns[i].vocabulary) for i in categories),
            texts=tuple(to_texts(self._series(frame, places, i)) for i in self._of_kind["text"]),
        )

    def example(self) -> Table:
        """Make a table of a few rows: missing, first, last and unseen values."""
        if self.n_sparse:
            ends = sp.csr_matrix(([1.0, -1.0], ([1, 2], [0, self.n_sparse - 1])), shape=(4, self.n_sparse))
            return self._transform_sparse(ends, "the model")
        empty = pd.DataFrame(np.full((4, len(self.columns)), np.nan), columns=self._index)
        table = self._transform_columns(empty, "the model")
        matrix = table.matrix
        for row, number in enumerate((0.0, 1.0, -1.0)):
            matrix[row, : table.n_numbers] = number
        for row, codes in enumerate((0.0, np.maximum(table.cardinalities, 1) - 1.0, table.cardinalities)):
            matrix[row, table.n_numbers :] = codes
        texts = tuple(np.array(["", "a", "one two, three", "?"], dtype=object) for _ in table.texts)
        return dataclasses.replace(table, texts=texts)

    def one_row(self, X: Any) -> Any:
        """Return a frame of one row for a Series whose index are the names of the columns; other things stay."""
        if not isinstance(X, pd.Series) or len(self.columns) < 2:
            return X
        known = {name_text(name) for name in X.index}
        made = () if self.lags is None else self.lags.names
        is_row = all(
            name in known
            for name, column in zip(self._index, self.columns, strict=True)
            if column.kind != "dropped" and name not in made
        )
        return X.to_frame().T.infer_objects() if is_row else X

    def places(self, frame: pd.DataFrame, owner: str = "the model") -> Integers:  # (len(self.columns),)
        """Return the position of each column in a frame; -1 for a dropped column that is missing there."""
        if is_array(frame) or (is_unnamed(frame) and not self.named):
            _check_width(frame.shape[1], len(self.columns), owner)
            return np.arange(len(self.columns))
        if frame.columns.equals(self._index):
            return np.arange(len(self.columns))
        names = pd.Index(list(map(str, frame.columns))) if is_unnamed(frame) else frame.columns
        places = names.get_indexer(self._index)
        if is_unnamed(frame) != (not self.named) and (places < 0).all():  # one of the two has no names
            _check_width(frame.shape[1], len(self.columns), owner)
            if not self.named:
                warn_user(
                    f"X has named columns, but {owner} was trained on a table without names: they are matched by "
                    f"position, {listed(names.tolist())}.",
                )
            return np.arange(len(self.columns))
        missing = [i for i in np.flatnonzero(places < 0).tolist() if self.columns[i].kind != "dropped"]
        if missing:
            raise MissingColumnsError(
                f"X lacks {len(missing)} of the {len(self.columns)} columns that {owner} was trained on: "
                f"{listed([self._index[i] for i in missing])}."
            )
        return np.asarray(places, dtype=np.int64)

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns of training, dropped ones included; "x0", "x1" ... where they had none."""
        return [column.name for column in self.columns] or [f"x{i}" for i in range(self.n_sparse)]

    @property
    def input_names(self) -> list[str]:
        """Names of the columns of the user's table: those of `feature_names` that are not made of earlier rows."""
        made = () if self.lags is None else self.lags.names
        return [name for name in self.feature_names if name not in made]

    @property
    def id_columns(self) -> list[str]:
        """Names of the columns that name the rows of a table, and stand beside their predictions."""
        return [column.name for column in self.columns if column.drop_reason == CARRIED]

    @property
    def dropped_columns(self) -> dict[str, list[str]]:
        """Reason -> names of the columns that are not learned from."""
        found: dict[str, list[str]] = {}
        for column in self.columns:
            if column.kind == "dropped":
                found.setdefault(column.drop_reason or "", []).append(column.name)
        return found

    @property
    def text_columns(self) -> list[str]:
        """Columns that a reader of files must leave as texts: as numbers they would lose what training saw."""
        texts = [column.name for column in self.columns if column.is_text]
        if self.lags is None:
            return texts
        kinds = {column.name: column.kind for column in self.columns}
        time = self.lags.grid.time
        texts += [name for name in self.lags.by if kinds.get(name) != "number"]
        return list(dict.fromkeys(texts + [time.name] * time.is_text))

    def to_json(self) -> dict[str, Any]:
        columns = [column.to_json() for column in self.columns]
        lags = {} if self.lags is None else {"lags": self.lags.to_json()}
        return {"columns": columns, "named": self.named, "n_sparse": self.n_sparse, **lags}

    @classmethod
    def from_json(cls, fields: Any) -> Schema:
        try:
            columns = tuple(Column.from_json(column) for column in fields["columns"])
            named, n_sparse, lags = fields["named"], fields["n_sparse"], fields.get("lags")
            time = None if lags is None else Column.from_json(lags["time"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"The description of the columns is damaged: {error}.") from error
        if not (isinstance(named, bool) and type(n_sparse) is int and (len(columns) > 0) == (n_sparse == 0)):
            raise ModelFileError(f"The description of the columns is damaged: {named=}, {n_sparse=}, {len(columns)=}.")
        found = None if time is None else LagFeatures.from_json(lags, time)
        return cls(columns=columns, named=named, n_sparse=n_sparse, lags=found)

    @cached_property
    def _of_kind(self) -> dict[str, Integers]:
        kinds = np.array([column.kind for column in self.columns])
        return {kind: np.flatnonzero(kinds == kind) for kind in get_args(Kind)}

    @cached_property
    def matrix_places(self) -> dict[str, list[int]]:
        """Name -> columns of `Table.matrix`, in its order, of what is there; several for the parts of a date."""
        found: dict[str, list[int]] = {}
        start = 0
        for i in np.concatenate([self._of_kind[kind] for kind in ("number", "date", "duration", "category")]):
            column = self.columns[i]
            stop = start + max(1, len(column.parts))
            found[column.name] = list(range(start, stop))
            start = stop
        return found

    @cached_property
    def constants(self) -> list[tuple[int, float]]:
        """Columns of `Table.matrix` with one number, and that number."""
        return [
            (self.matrix_places[column.name][0], column.constant)
            for column in self.columns
            if column.constant is not None
        ]

    @cached_property
    def _index(self) -> pd.Index:
        """The names as pandas looks them up; positions where training had no names."""
        return pd.Index([column.name if self.named else str(i) for i, column in enumerate(self.columns)])

    @cached_property
    def _codes(self) -> list[dict[str, float]]:
        """For each category, text -> code."""
        return [vocabulary_index(self.columns[i].vocabulary) for i in self._of_kind["category"]]

    def _series(self, frame: pd.DataFrame, places: Integers, i: int) -> pd.Series:
        series: pd.Series = frame.iloc[:, int(places[i])]
        return series.rename(self.columns[i].name)

    def _fill_numbers(self, frame: pd.DataFrame, places: Integers, out: Floats) -> None:  # out: (n, len(numbers))
        """Write the columns that were numbers in training: in one block where they still are, else one by one."""
        numbers = self._of_kind["number"]
        plain = np.isin(places[numbers], plain_columns(frame))  # (len(numbers),)
        if plain.all():
            out[:] = to_block(frame, places[numbers])
        else:
            out[:, plain] = to_block(frame, places[numbers[plain]])
            for j in np.flatnonzero(~plain):
                out[:, j] = to_numbers(self._series(frame, places, numbers[j]), self.columns[numbers[j]].number_format)
        infinite = np.isinf(out)
        if infinite.any():
            out[infinite] = np.nan

    def _made_numbers(self, frame: pd.DataFrame, places: Integers) -> list[Floats]:
        """Make the numbers of dates and durations, each of shape (n,)."""
        made = []
        for i in self._of_kind["date"]:
            column = self.columns[i]
            parts = date_parts(to_dates(self._series(frame, places, i), column.date_format, column.timezone))
            made += [parts[part] for part in column.parts]
        return made + [to_seconds(self._series(frame, places, i)) for i in self._of_kind["duration"]]

    def _fill_codes(self, frame: pd.DataFrame, places: Integers, out: Floats) -> None:  # out: (n, c)
        categories = self._of_kind["category"]
        if len(frame) <= FEW_ROWS:
            cells = _cells(frame, places[categories])
            for j, index in enumerate(self._codes):
                out[:, j] = codes_of(cells[j], index, len(self.columns[categories[j]].vocabulary))
            return
        for j, index in enumerate(self._codes):
            i = categories[j]
            out[:, j] = to_codes(self._series(frame, places, i), index, len(self.columns[i].vocabulary))

    def _transform_sparse(self, frame: Frame, owner: str) -> Table:
        if isinstance(frame, pd.DataFrame):
            dense = Schema(tuple(Column(name, "number") for name in self.feature_names), named=False)
            frame = sp.csr_matrix(dense.transform(frame, owner).matrix)
        _check_width(frame.shape[1], self.n_sparse, owner)
        data = np.where(np.isinf(frame.data), np.nan, frame.data).astype(np.float64, copy=False)
        matrix = sp.csr_matrix((data, frame.indices, frame.indptr), shape=frame.shape)  # (n, s)
        return Table(matrix=np.empty((frame.shape[0], 0)), n_numbers=0, sparse=matrix)


def _warn_without_lags(lags: LagFeatures, table: pd.DataFrame, owner: str) -> None:
    """Warn of rows none of whose lags is known; `table` has the lags."""
    none = table[lags.names].isna().all(axis=1).to_numpy()  # (n,)
    lost = none if none.all() else none & ~lags.are_known(table)
    if lost.any():
        steps = f"{' or '.join(map(str, lags.steps))} step{'s' * (lags.steps != (1,))}"
        rows = "No row of X has a" if lost.all() else f"{int(lost.sum()):,} of {len(table):,} rows of X have no"
        warn_user(
            f"{rows} lag: the rows that {owner} knows of their series, the last ones, are not "
            f"{steps} before. update_lags makes other rows known.",
        )


def plain_columns(frame: pd.DataFrame) -> Integers:
    """Positions of the columns of NumPy's real and boolean types, which are converted in one block."""
    return np.flatnonzero([isinstance(dtype, np.dtype) and dtype.kind in "biuf" for dtype in frame.dtypes])


def to_block(frame: pd.DataFrame, places: Integers) -> Floats:  # (n, len(places))
    whole = len(places) == frame.shape[1] and bool((np.diff(places) == 1).all())
    return np.asarray((frame if whole else frame.take(places, axis=1)).to_numpy(dtype=np.float64))


def _cells(frame: pd.DataFrame, places: Integers) -> list[Sequence[Any]]:
    """Return the values of some columns, column by column."""
    if len(frame) == 1:
        return [[_cell(frame, int(i))] for i in places]
    some = frame.take(places, axis=1)
    cells: list[Sequence[Any]] = list(some.to_numpy(dtype=object).T)
    for j, dtype in enumerate(some.dtypes):
        held = dtype.categories.dtype if isinstance(dtype, pd.CategoricalDtype) else dtype
        if str(held).lower() in NARROW:
            codes, raw = pd.factorize(some.iloc[:, j].array)
            distinct = [*scalars(raw), None]  # -1 is missing
            cells[j] = [distinct[code] for code in codes]
    return cells


def _cell(frame: pd.DataFrame, place: int) -> Any:
    """Return the value of a column in the only row."""
    value = frame.iat[0, place]
    # Arrow's float32 comes as Python's float.
    return scalars(frame.iloc[:, place].array)[0] if type(value) is float and value == value else value


def _check_width(given: int, expected: int, owner: str) -> None:
    if given != expected:
        raise InputError(f"X has {given} features, but {owner} is expecting {expected} features as input.")


def listed(names: list[str]) -> str:
    """Write names for a message, the first of many."""
    return some_of(list(map(repr, names)), MAX_NAMED)


def of_array(array: Any) -> pd.DataFrame:
    """Make a frame of a table that has no names; it stays recognizable by `is_array`."""
    try:
        frame = pd.DataFrame(array, copy=False)
    except UnicodeEncodeError:  # halves of surrogate pairs
        clean = [[to_canonical_text(cell) if isinstance(cell, str) else cell for cell in row] for row in array]
        frame = pd.DataFrame(clean, dtype=object)
    frame.columns = pd.RangeIndex(frame.shape[1], name=ARRAY)
    return frame


def is_one_row(X: Any) -> bool:
    """Whether a dictionary is one row: name -> value, not name -> column."""
    return isinstance(X, Mapping) and len(X) > 0 and all(pd.api.types.is_scalar(value) for value in X.values())


def is_array(frame: pd.DataFrame) -> bool:
    """Whether a frame was made by `of_array`: its columns have positions alone."""
    return is_unnamed(frame) and frame.columns.name == ARRAY


def is_unnamed(frame: pd.DataFrame) -> bool:
    """Whether the columns of a frame are merely numbered 0, 1, 2 ..."""
    columns = frame.columns
    return isinstance(columns, pd.RangeIndex) and columns.start == 0 and columns.step == 1


def with_text_names(frame: pd.DataFrame) -> pd.DataFrame:
    """Write the names of columns as texts; frames that are merely numbered stay so."""
    if is_unnamed(frame) or (frame.columns.inferred_type == "string" and not frame.columns.hasnans):
        return frame
    return frame.set_axis([name_text(name) for name in frame.columns], axis=1)


def name_text(name: object) -> str:
    """Write a name as a text that does not depend on its type: numbers as `to_canonical_text`, tuples part by part."""
    if isinstance(name, str):
        return str(name)
    if isinstance(name, tuple):
        parts = [repr(str(part)) if isinstance(part, str) else name_text(part) for part in name]
        return f"({', '.join(parts)}{',' * (len(parts) == 1)})"
    return to_canonical_text(name)
