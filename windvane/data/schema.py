"""The typed columns of a training table: learned once, then applied to every table that is to be predicted.

::

    frame = to_frame(X)              # windvane.data.files
    schema = Schema.learn(frame)     # what each column is
    table = schema.encode(frame)     # windvane.data.table: float block, category codes, texts

A table without names (an array, a list, a frame numbered 0, 1, 2 ...) is known by position, any other by name.
Infinite numbers count as missing. The matrix of a table holds first what is a number in training, then the parts of
dates and the seconds of durations, then the category codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, get_args

import numpy as np
import pandas as pd
from scipy import sparse as sp

from windvane.data.files import Frame, is_unnamed
from windvane.data.recognise import Column, Kind, recognise, recognise_numbers
from windvane.data.table import Floats, Integers, Table
from windvane.data.values import (
    codes_of,
    date_parts,
    to_codes,
    to_dates,
    to_numbers,
    to_seconds,
    to_texts,
    vocabulary_index,
)
from windvane.errors import InputError, MissingColumnsError, ModelFileError

FEW_ROWS = 300  # up to here values are looked up one by one: making a hash table of each column costs more
MAX_NAMED = 10  # columns named in a note or an error


@dataclass(frozen=True)
class Schema:
    """What the columns of a training table are.

    Attributes
    ----------
    columns
        The columns in the order of training; empty where the table was sparse.
    named
        Whether columns are found by name; by position otherwise.
    n_sparse
        Number of columns of a sparse table; 0 where it was dense.
    """

    columns: tuple[Column, ...]
    named: bool
    n_sparse: int = 0

    @classmethod
    def learn(cls, frame: Frame) -> Schema:
        """Recognise the columns of a training table.

        Parameters
        ----------
        frame
            What `windvane.data.files.to_frame` gave.

        Returns
        -------
        Schema
            The columns.

        Raises
        ------
        InputError
            Where no column is left because each is constant or has no value.
        """
        if not isinstance(frame, pd.DataFrame):
            return cls(columns=(), named=False, n_sparse=frame.shape[1])
        unnamed = is_unnamed(frame)
        names = [f"x{i}" if unnamed else str(name) for i, name in enumerate(frame.columns)]
        plain = _plain(frame)
        columns: list[Column | None] = [None] * len(names)
        found = recognise_numbers([names[i] for i in plain], _block(frame, plain)) if len(plain) else []
        for i, column in zip(plain, found, strict=True):
            columns[i] = column
        learned = tuple(column or recognise(frame.iloc[:, i].rename(names[i])) for i, column in enumerate(columns))
        if all(column.kind == "dropped" for column in learned):
            raise InputError(
                f"X has no column to learn from: each of the {len(learned)} is constant or has no value "
                f"in {len(frame)} sample(s)."
            )
        return cls(columns=learned, named=not unnamed)

    def encode(self, frame: Frame, owner: str = "the model") -> Table:
        """Apply the schema to a table.

        Parameters
        ----------
        frame
            What `windvane.data.files.to_frame` gave: n rows. Columns may have another order, columns that training
            did not know are ignored, and so is the absence of columns that were dropped.
        owner
            Name of the estimator, for errors.

        Returns
        -------
        Table
            n rows of typed columns.

        Raises
        ------
        MissingColumnsError
            Where columns are missing.
        InputError
            Where a table known by position has another number of columns, or a value cannot be read as in training.
        """
        if self.n_sparse:
            return self._encode_sparse(frame, owner)
        if not isinstance(frame, pd.DataFrame):
            frame = pd.DataFrame(frame.toarray())
        places = self._places(frame, owner)
        made = self._made_numbers(frame, places)
        numbers, categories = self._of_kind["number"], self._of_kind["category"]
        n_numbers = len(numbers) + len(made)
        matrix = np.empty((len(frame), n_numbers + len(categories)))  # (n, p + c)
        self._fill_numbers(frame, places, matrix[:, : len(numbers)])
        for j, number in enumerate(made, start=len(numbers)):
            matrix[:, j] = number
        self._fill_codes(frame, places, matrix[:, n_numbers:])
        return Table(
            matrix=matrix,
            n_numbers=n_numbers,
            cardinalities=tuple(len(self.columns[i].vocabulary) for i in categories),
            texts=tuple(to_texts(self._series(frame, places, i)) for i in self._of_kind["text"]),
        )

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns of training, dropped ones included; "x0", "x1" ... where they had none."""
        return [column.name for column in self.columns] or [f"x{i}" for i in range(self.n_sparse)]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know: which columns were left out."""
        notes = []
        for reason in ("constant", "no value"):
            names = [column.name for column in self.columns if column.reason == reason]
            if names:
                plural = "s" if len(names) > 1 else ""
                notes.append(f"{len(names)} column{plural} left out ({reason}): {_listed(names)}.")
        return tuple(notes)

    def describe(self) -> pd.DataFrame:
        """Tabulate the columns.

        Returns
        -------
        DataFrame
            A row for each column: column, kind, distinct (not counted for numbers), missing, note.
        """
        columns = self.columns or [Column(name, "number") for name in self.feature_names]
        return pd.DataFrame(
            {
                "column": [column.name for column in columns],
                "kind": [column.kind for column in columns],
                "distinct": pd.array([column.distinct for column in columns], dtype="Int64"),
                "missing": [column.missing for column in columns],
                "note": [column.reason or "" for column in columns],
            }
        )

    def to_json(self) -> dict[str, Any]:
        """Describe the schema in JSON's types.

        Returns
        -------
        dict
            What `from_json` reads.
        """
        columns = [column.to_json() for column in self.columns]
        return {"columns": columns, "named": self.named, "n_sparse": self.n_sparse}

    @classmethod
    def from_json(cls, fields: Any) -> Schema:
        """Make a schema of what `to_json` wrote.

        Parameters
        ----------
        fields
            The description, which may come from a damaged file.

        Returns
        -------
        Schema
            The same schema.

        Raises
        ------
        ModelFileError
            Where the description is malformed.
        """
        try:
            columns = tuple(Column.from_json(column) for column in fields["columns"])
            named, n_sparse = fields["named"], fields["n_sparse"]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"The description of the columns is damaged: {error}.") from error
        if not (isinstance(named, bool) and type(n_sparse) is int and (len(columns) > 0) == (n_sparse == 0)):
            raise ModelFileError(f"The description of the columns is damaged: {named=}, {n_sparse=}, {len(columns)=}.")
        return cls(columns=columns, named=named, n_sparse=n_sparse)

    @cached_property
    def _of_kind(self) -> dict[str, Integers]:
        """Positions of the columns of each kind."""
        kinds = np.array([column.kind for column in self.columns])
        return {kind: np.flatnonzero(kinds == kind) for kind in get_args(Kind)}

    @cached_property
    def _index(self) -> pd.Index:
        """The names, as pandas looks them up."""
        return pd.Index([column.name for column in self.columns])

    @cached_property
    def _codes(self) -> list[dict[str, float]]:
        """For each category, text -> code."""
        return [vocabulary_index(self.columns[i].vocabulary) for i in self._of_kind["category"]]

    def _places(self, frame: pd.DataFrame, owner: str) -> Integers:  # (len(self.columns),)
        """Where each column stands in a frame; -1 for a dropped one that is not there."""
        if not self.named or is_unnamed(frame):
            _check_width(frame.shape[1], len(self.columns), owner)
            return np.arange(len(self.columns))
        if frame.columns.equals(self._index):
            return np.arange(len(self.columns))
        places = frame.columns.get_indexer(self._index)
        missing = [self.columns[i].name for i in np.flatnonzero(places < 0) if self.columns[i].kind != "dropped"]
        if missing:
            raise MissingColumnsError(
                f"X lacks {len(missing)} of the {len(self.columns)} columns that {owner} was trained on: "
                f"{_listed(missing)}."
            )
        return np.asarray(places, dtype=np.int64)

    def _series(self, frame: pd.DataFrame, places: Integers, i: int) -> pd.Series:
        series: pd.Series = frame.iloc[:, int(places[i])]
        return series.rename(self.columns[i].name)

    def _fill_numbers(self, frame: pd.DataFrame, places: Integers, out: Floats) -> None:  # out: (n, len(numbers))
        """Write the columns that were numbers in training: in one block where they still are, else one by one."""
        numbers = self._of_kind["number"]
        plain = np.isin(places[numbers], _plain(frame))  # (len(numbers),)
        if plain.all():
            out[:] = _block(frame, places[numbers])
        else:
            out[:, plain] = _block(frame, places[numbers[plain]])
            for j in np.flatnonzero(~plain):
                out[:, j] = to_numbers(self._series(frame, places, numbers[j]))
        infinite = np.isinf(out)
        if infinite.any():
            out[infinite] = np.nan

    def _made_numbers(self, frame: pd.DataFrame, places: Integers) -> list[Floats]:
        """Make the numbers of dates and durations, each of shape (n,)."""
        made = []
        for i in self._of_kind["date"]:
            column = self.columns[i]
            parts = date_parts(to_dates(self._series(frame, places, i), column.form, column.timezone))
            made += [parts[part] for part in column.parts]
        return made + [to_seconds(self._series(frame, places, i)) for i in self._of_kind["duration"]]

    def _fill_codes(self, frame: pd.DataFrame, places: Integers, out: Floats) -> None:  # out: (n, c)
        """Write the codes of the categories."""
        categories = self._of_kind["category"]
        if len(frame) <= FEW_ROWS:
            cells = _cells(frame, places[categories])
            for j, index in enumerate(self._codes):
                out[:, j] = codes_of(cells[j], index, len(self.columns[categories[j]].vocabulary))
            return
        for j, index in enumerate(self._codes):
            i = categories[j]
            out[:, j] = to_codes(self._series(frame, places, i), index, len(self.columns[i].vocabulary))

    def _encode_sparse(self, frame: Frame, owner: str) -> Table:
        _check_width(frame.shape[1], self.n_sparse, owner)
        if isinstance(frame, pd.DataFrame):
            columns = [to_numbers(frame.iloc[:, i].rename(f"x{i}")) for i in range(self.n_sparse)]
            frame = sp.csr_matrix(np.stack(columns, axis=1))
        data = np.where(np.isinf(frame.data), np.nan, frame.data).astype(np.float64, copy=False)
        matrix = sp.csr_matrix((data, frame.indices, frame.indptr), shape=frame.shape)  # (n, s)
        return Table(matrix=np.empty((frame.shape[0], 0)), n_numbers=0, sparse=matrix)


def _plain(frame: pd.DataFrame) -> Integers:
    """Positions of the columns of NumPy's real and boolean types, which are converted in one block."""
    return np.flatnonzero([isinstance(dtype, np.dtype) and dtype.kind in "biuf" for dtype in frame.dtypes])


def _block(frame: pd.DataFrame, places: Integers) -> Floats:  # (n, len(places))
    whole = len(places) == frame.shape[1] and bool((np.diff(places) == 1).all())
    return np.asarray((frame if whole else frame.take(places, axis=1)).to_numpy(dtype=np.float64))


def _cells(frame: pd.DataFrame, places: Integers) -> list[Sequence[Any]]:
    """Give the values of some columns, column by column."""
    if len(frame) == 1:
        return [[frame.iat[0, i]] for i in places]
    return list(frame.take(places, axis=1).to_numpy(dtype=object).T)


def _check_width(given: int, expected: int, owner: str) -> None:
    if given != expected:
        raise InputError(f"X has {given} features, but {owner} is expecting {expected} features as input.")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(repr(name) for name in names[:MAX_NAMED]) + more
