"""Features generated from pairs of columns, as they were learned; `windvane.data.generated` learns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .table import Floats, Integers, Table

Operation = tuple[str, int, int]  # one of "-", "+", "*", "/" and the positions of two numbers

FLOAT_LIMIT = 1e30


@dataclass(frozen=True)
class Cross:
    """A combination of categories with the smoothed target means of its cells."""

    categories: tuple[int, ...]
    keys: Integers  # sorted, shape (m,)
    means: Floats  # shape (m, k)
    prior: Floats  # of cells that training did not see, shape (k,)

    def encode(self, keys: Integers) -> Floats:
        """Return the means of the cells, shape (n, k)."""
        at = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        return np.where((self.keys[at] == keys)[:, None], self.means[at], self.prior)


@dataclass(frozen=True)
class Group:
    """Means of a number within the levels of a category, an unseen level and a missing one."""

    category: int
    number: int
    means: Floats  # shape (cardinality + 2,)


@dataclass(frozen=True)
class GeneratedFeatures:
    """Columns that `transform` adds behind the numbers of a table."""

    arithmetic: tuple[Operation, ...]
    crosses: tuple[Cross, ...]
    groups: tuple[Group, ...]

    @property
    def n_columns(self) -> int:
        return len(self.arithmetic) + sum(len(cross.prior) for cross in self.crosses) + 2 * len(self.groups)

    def transform(self, table: Table) -> Table:
        """Return the table with the generated columns as further numbers."""
        codes = category_codes(table)
        encoded = [cross.encode(cross_keys(codes, table.cardinalities, cross.categories)) for cross in self.crosses]
        return self.extend(table, codes, encoded)

    def extend(self, table: Table, codes: Integers, encoded: Sequence[Floats]) -> Table:
        """Return the table with the columns, the crosses being encoded already."""
        p = table.n_numbers
        numbers = np.asarray(table.matrix[:, :p])
        columns = [combine(numbers, operation)[:, None] for operation in self.arithmetic]
        columns += encoded
        for group in self.groups:
            mean = group.means[codes[:, group.category]]  # (n,)
            columns.append(np.column_stack([mean, numbers[:, group.number] - mean]))
        if not columns:
            return table
        added = np.hstack(columns)  # (n, q)
        matrix = np.hstack([numbers, added, table.matrix[:, p:]])
        return replace(table, matrix=matrix, n_numbers=p + added.shape[1])

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Return arrays that `from_arrays` reads, without objects."""
        arrays: dict[str, NDArray[Any]] = {
            "operators": np.array([ord(operation[0]) for operation in self.arithmetic], dtype=np.int64),
            "operands": np.array([operation[1:] for operation in self.arithmetic], dtype=np.int64).reshape(-1, 2),
            "n_crosses": np.array([len(self.crosses)], dtype=np.int64),
            "grouped": np.array([(g.category, g.number) for g in self.groups], dtype=np.int64).reshape(-1, 2),
        }
        for i, cross in enumerate(self.crosses):
            arrays |= {f"categories_{i}": np.array(cross.categories, dtype=np.int64), f"keys_{i}": cross.keys}
            arrays |= {f"means_{i}": cross.means, f"prior_{i}": cross.prior}
        return arrays | {f"group_{i}": group.means for i, group in enumerate(self.groups)}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> GeneratedFeatures:
        """Read what `to_arrays` returned; ValueError where arrays do not go together."""
        operators = [chr(code) for code in arrays["operators"]]
        crosses = tuple(
            Cross(
                tuple(int(c) for c in arrays[f"categories_{i}"]),
                *(arrays[f"{name}_{i}"] for name in ("keys", "means", "prior")),
            )
            for i in range(int(arrays["n_crosses"][0]))
        )
        for cross in crosses:
            if cross.means.shape != (len(cross.keys), len(cross.prior)) or not len(cross.keys):
                raise ValueError("keys and means of a cross do not go together")
        if not set(operators) <= set("-+*/"):
            raise ValueError(f"unknown operators {operators}")
        return cls(
            tuple((op, int(i), int(j)) for op, (i, j) in zip(operators, arrays["operands"], strict=True)),
            crosses,
            tuple(Group(int(c), int(n), arrays[f"group_{i}"]) for i, (c, n) in enumerate(arrays["grouped"])),
        )

    def check(self, n_numbers: int, cardinalities: Sequence[int]) -> None:
        """Raise ValueError where a feature asks for a column that is not there; `n_numbers` counts generated ones."""
        numbers = [j for _, *operands in self.arithmetic for j in operands] + [group.number for group in self.groups]
        categories = [j for cross in self.crosses for j in cross.categories]
        categories += [group.category for group in self.groups]
        sound = (
            all(0 <= j < n_numbers - self.n_columns for j in numbers)
            and all(0 <= j < len(cardinalities) for j in categories)
            and all(group.means.shape == (cardinalities[group.category] + 2,) for group in self.groups)
        )
        if not sound:
            raise ValueError("the generated features do not belong to the columns")


def combine(numbers: Floats, operation: Operation) -> Floats:
    """Return one arithmetic combination of two columns, shape (n,); NaN where it is not finite."""
    operator, i, j = operation
    left, right = numbers[:, i], numbers[:, j]
    with np.errstate(all="ignore"):
        if operator == "/":
            found = left / np.where(right == 0, np.nan, right)
        else:
            found = left - right if operator == "-" else left + right if operator == "+" else left * right
    return np.where(np.abs(found) < FLOAT_LIMIT, found, np.nan)


def category_codes(table: Table) -> Integers:
    """Return integer codes, shape (n, c): unseen levels are the cardinality, missing ones the cardinality + 1."""
    raw = np.asarray(table.matrix[:, table.n_numbers :])
    top = np.asarray(table.cardinalities, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(np.isnan(raw), top + 1, np.minimum(raw, top)).astype(np.int64)


def cross_keys(codes: Integers, cardinalities: Sequence[int], categories: Sequence[int]) -> Integers:
    """Return one number for each combination of levels, shape (n,)."""
    keys = np.zeros(len(codes), dtype=np.int64)
    for category in categories:
        keys = keys * (cardinalities[category] + 2) + codes[:, category]
    return keys
