"""From a typed table to the matrix that a model was trained on: what was learned, as JSON and arrays.

`windvane.models.encoding` learns the steps with scikit-learn, whose arithmetic is repeated here without its checks:
`ColumnTransformer.transform` takes 10 ms for one row of 45 columns. Both are equal to 1e-12.

Notation: n rows, p numbers, c categories, as in `table`. A category code is looked up in a table of cardinality + 2
rows: its levels, a level that training did not see, a missing value.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from scipy.special import ndtri

from ..serialization import read_arrays, read_json, reading, write_json
from .generated_features import GeneratedFeatures
from .table import Floats, Table

Encoded = Floats | sp.csr_matrix
Step = dict[str, Any]
Arrays = Mapping[str, NDArray[Any]]
NumberStep = Callable[[Floats], Floats]  # (n, p) -> (n, p)

FEW_ROWS = 16  # up to here quantiles are looked up for all columns at once instead of column by column
# scikit-learn's margin at both ends of a quantile transformation, and the normal quantiles where it cuts off.
MARGIN = 1e-7
LOWEST, HIGHEST = ndtri(MARGIN - np.spacing(1)), ndtri(1 - (MARGIN - np.spacing(1)))
ZERO_LENGTH = 10 * np.finfo(float).eps  # scikit-learn takes a row that is shorter for zero


class Encoder:
    """The steps of one encoding.

    A step is a dictionary with the name of its operation under "op"; its arrays have the number of the step before
    their names, as in "2_scale". The operations, in the order in which they may stand:

    - "generate": features generated from pairs of columns are added to the table
    - "matrix": numbers and codes stay as they are; or a selection of
    - "clip", "impute", "affine", "range", "quantile", "power", "row_norm", "numbers": the numbers, one after the other
    - "missing": which numbers were missing; "codes": codes of some categories; "lookup": a table for each category
    - "text": hashed terms, weighted by tf-idf and projected; "sparse": the sparse columns
    """

    def __init__(self, steps: Sequence[Step], arrays: Arrays, n_numbers: int, cardinalities: tuple[int, ...]) -> None:
        self.steps, self.arrays = list(steps), dict(arrays)
        self.n_numbers, self.cardinalities = n_numbers, cardinalities  # with the generated features
        self.generated: GeneratedFeatures | None = None
        self._matrix_stays = False
        self._texts: list[tuple[int, TextEmbedding]] = []
        self._largest: Floats | None = None
        self._blocks: list[Callable[[Floats, Floats, NDArray[np.intp]], Encoded]] = []  # of numbers, codes, table rows
        self._unseen = np.asarray(cardinalities, dtype=float)  # (c,)
        self._missing_row = np.asarray(cardinalities, dtype=np.intp) + 1  # (c,)
        self._packed: bytes | None = None
        chain: list[NumberStep] = []
        for i, step in enumerate(self.steps):
            self._add(step, self.arrays_of(i), chain)

    def arrays_of(self, i: int) -> dict[str, NDArray[Any]]:
        """Return the arrays of one step by the names within the step."""
        prefix = f"{i}_"
        return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}

    def _add(self, step: Step, arrays: dict[str, NDArray[Any]], chain: list[NumberStep]) -> None:
        op = step["op"]
        if op == "generate":
            self.generated = GeneratedFeatures.from_arrays(arrays)
        elif op == "matrix":
            self._matrix_stays = True
        elif op in NUMBER_STEPS or op == "quantile":
            if any(array.shape[-1:] != (self.n_numbers,) for name, array in arrays.items() if name != "references"):
                raise ValueError(f"the arrays of {op!r} are not those of {self.n_numbers} numbers")
            if op == "quantile":
                chain.append(Quantile(arrays["quantiles"], arrays["references"], normal=bool(step["normal"])))
            else:
                function, names = NUMBER_STEPS[op]
                chain.append(partial(function, *(arrays[name] for name in names)))
        elif op == "numbers":
            self._blocks.append(partial(_numbers, list(chain)))
        elif op == "missing":
            self._blocks.append(partial(_missing, _places(arrays["columns"].tolist(), self.n_numbers)))
        elif op == "codes":
            self._blocks.append(partial(_codes, _places(step["columns"], len(self.cardinalities))))
        elif op == "lookup":
            tables = [(j, arrays[f"table_{j}"]) for j in _places(step["columns"], len(self.cardinalities))]
            if any(len(table) != self.cardinalities[j] + 2 for j, table in tables):
                raise ValueError("a table has not a row for each level of its category")
            self._blocks.append(WideLookup(tables) if step["sparse"] else partial(_lookup, tables))
        elif op == "text":
            self._texts.append((int(step["text"]), TextEmbedding(step, arrays["idf"], arrays["components"])))
        elif op == "sparse":
            self._largest = arrays.get("largest")
        else:
            raise ValueError(f"unknown step {op!r}")

    def check(self, table: Table) -> None:
        """Raise ValueError where a table has other columns than those of training."""
        added = 0 if self.generated is None else self.generated.n_columns
        expected = (self.n_numbers - added, self.cardinalities)
        if expected != (table.n_numbers, table.cardinalities):
            raise ValueError(f"numbers and levels are {expected}, the table has {table.n_numbers, table.cardinalities}")
        if any(not 0 <= i < len(table.texts) for i, _ in self._texts):
            raise ValueError(f"it reads more texts than the {len(table.texts)} of the table")
        n_sparse = 0 if table.sparse is None else table.sparse.shape[1]
        if self._largest is not None and len(self._largest) != n_sparse:
            raise ValueError(f"it reads {len(self._largest)} sparse columns, the table has {n_sparse}")

    def transform(self, table: Table) -> Encoded:
        """Encode n rows: float64, shape (n, q), CSR where the table has a sparse part or one-hot encoding is wide."""
        table = table if self.generated is None else self.generated.transform(table)
        blocks = [table.matrix if self._matrix_stays else self._transform_matrix(table.matrix)]
        blocks += [embed(table.texts[i]) for i, embed in self._texts]
        sparse = table.sparse
        if sparse is not None and self._largest is not None:
            data = sparse.data * (1.0 / self._largest).take(sparse.indices)
            sparse = sp.csr_matrix((data, sparse.indices, sparse.indptr), shape=sparse.shape)
        return join_blocks(blocks, sparse)

    def _transform_matrix(self, matrix: Floats) -> Encoded:
        numbers, codes = matrix[:, : self.n_numbers], matrix[:, self.n_numbers :]  # (n, p), (n, c)
        # NaN goes through `minimum` and is replaced after: its integer would be arbitrary.
        with np.errstate(invalid="ignore"):
            rows = np.where(np.isnan(codes), self._missing_row, np.minimum(codes, self._unseen).astype(np.intp))
        blocks = [block(numbers, codes, rows) for block in self._blocks]
        if any(sp.issparse(block) for block in blocks):
            return sp.csr_matrix(sp.hstack([sp.csr_matrix(block) for block in blocks], format="csr"))
        return np.hstack(blocks)  # type: ignore[arg-type]

    def save(self, folder: Path) -> None:
        """Write ``encoder.json`` and ``encoder.npz``."""
        content = {"steps": self.steps, "n_numbers": self.n_numbers, "cardinalities": self.cardinalities}
        write_json(folder / "encoder.json", content)
        if self._packed is None:  # once, since a growing model is saved many times
            file = io.BytesIO()
            np.savez(file, allow_pickle=False, **self.arrays)
            self._packed = file.getvalue()
        (folder / "encoder.npz").write_bytes(self._packed)

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """Read what `save` wrote; ModelFileError where it is missing or damaged."""
        content, arrays = read_json(folder / "encoder.json"), read_arrays(folder / "encoder.npz")
        with reading(folder / "encoder.json"):
            cardinalities = tuple(int(k) for k in content["cardinalities"])
            encoder = cls(content["steps"], arrays, int(content["n_numbers"]), cardinalities)
            if encoder.generated is not None:
                encoder.generated.check(encoder.n_numbers, cardinalities)
        return encoder


def _places(columns: Sequence[int], count: int) -> list[int]:
    """Return positions of columns; ValueError where there are not so many."""
    places = [int(column) for column in columns]
    if not all(0 <= place < count for place in places):
        raise ValueError(f"columns {places} of {count}")
    return places


def _numbers(chain: Sequence[NumberStep], numbers: Floats, codes: Floats, rows: NDArray[np.intp]) -> Floats:
    for step in chain:
        numbers = step(numbers)
    return numbers


def _missing(columns: list[int], numbers: Floats, codes: Floats, rows: NDArray[np.intp]) -> Floats:
    """Whether some of the numbers were missing, as 0 and 1."""
    return np.isnan(numbers[:, columns]).astype(float)


def _codes(columns: list[int], numbers: Floats, codes: Floats, rows: NDArray[np.intp]) -> Floats:
    return codes[:, columns]


def _lookup(tables: Sequence[tuple[int, Floats]], numbers: Floats, codes: Floats, rows: NDArray[np.intp]) -> Floats:
    """Return rows of tables, one for each category: one-hot, merged rare levels, or target means."""
    return np.hstack([table[rows[:, j]] for j, table in tables])


class WideLookup:
    """What `_lookup` returns as a CSR matrix, for tables that are mostly zero."""

    def __init__(self, tables: Sequence[tuple[int, Floats]]) -> None:
        self._columns = [j for j, _ in tables]
        heights = [len(table) for _, table in tables]
        self._offsets = np.cumsum([0, *heights[:-1]]).astype(np.intp)  # first row of each table in the stack
        blocks = [sp.csr_matrix(table) for _, table in tables]  # of dense ones scipy will make another type
        self._stack: sp.csr_matrix = sp.csr_matrix(sp.block_diag(blocks, format="csr"))

    def __call__(self, numbers: Floats, codes: Floats, rows: NDArray[np.intp]) -> sp.csr_matrix:
        picked = rows[:, self._columns] + self._offsets  # (n, number of tables)
        n, c = picked.shape
        # One entry for each category of each row picks that row of the stacked tables; the product adds them up.
        ends = np.arange(0, n * c + 1, c)
        return sp.csr_matrix(
            sp.csr_matrix((np.ones(n * c), picked.ravel(), ends), (n, self._stack.shape[0])) @ self._stack
        )


class TextEmbedding:
    """Hashed terms of a text, weighted by tf-idf, projected by truncated SVD."""

    def __init__(self, options: Step, idf: Floats, components: Floats) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self._hash = HashingVectorizer(
            analyzer=options["analyzer"],
            ngram_range=tuple(options["ngram_range"]),
            n_features=options["n_features"],
            alternate_sign=False,
            norm=None,
        )
        # tf-idf is linear in the counts but for the length, which is divided out after the projection.
        self._idf, self._components = idf, np.ascontiguousarray(components)  # (terms,), (terms, size)
        if not len(idf) == len(components) == options["n_features"]:
            raise ValueError(f"{len(idf)} and {len(components)} weights for {options['n_features']} terms")

    def __call__(self, texts: NDArray[np.object_]) -> Floats:
        counts: Any = self._hash.transform(texts)  # CSR (n, terms)
        counts.data = (1 + np.log(counts.data)) * self._idf[counts.indices]
        squares = np.add.reduceat(np.append(counts.data**2, 0.0), counts.indptr[:-1])  # (n,)
        squares[np.diff(counts.indptr) == 0] = 1.0
        return np.asarray(counts @ self._components / np.sqrt(squares)[:, None])


def _impute(values: Floats, numbers: Floats) -> Floats:
    return np.where(np.isnan(numbers), values, numbers)


def _clip(low: Floats, high: Floats, numbers: Floats) -> Floats:
    return np.asarray(np.clip(numbers, low, high))


def _affine(center: Floats, scale: Floats, numbers: Floats) -> Floats:
    return np.asarray((numbers - center) / scale)


def _range(factor: Floats, offset: Floats, numbers: Floats) -> Floats:
    """The range of training becomes 0 .. 1."""
    return np.asarray(numbers * factor + offset)


class Quantile:
    """Quantile levels of numbers in the training set, the middle of several equal ones, or their normal scores."""

    def __init__(self, quantiles: Floats, references: Floats, *, normal: bool) -> None:
        self._quantiles, self._references, self._normal = quantiles, references, normal  # (q, p), (q,)
        self._shared: NDArray[Any] = np.asarray((np.diff(self._quantiles, axis=0) <= 0).any(axis=0))  # (p,)
        if len(self._quantiles) != len(self._references):
            raise ValueError(f"{len(self._quantiles)} quantiles for {len(self._references)} levels")

    def __call__(self, numbers: Floats) -> Floats:
        few = len(numbers) <= FEW_ROWS and len(self._references) > 1
        levels = np.array([self._row(row) for row in numbers]) if few else self._by_column(numbers)
        margin, lowest, highest = MARGIN if self._normal else 0.0, self._quantiles[0], self._quantiles[-1]
        levels[(numbers >= highest) | (numbers + margin > highest)] = 1.0
        levels[(numbers <= lowest) | (numbers - margin < lowest)] = 0.0
        return np.asarray(np.clip(ndtri(levels), LOWEST, HIGHEST)) if self._normal else levels

    def _by_column(self, numbers: Floats) -> Floats:
        levels = np.empty(numbers.shape)
        for j, shared in enumerate(self._shared):
            x, q, r = np.ascontiguousarray(numbers[:, j]), self._quantiles[:, j], self._references
            levels[:, j] = np.interp(x, q, r)
            if shared:
                levels[:, j] = (levels[:, j] - np.interp(-x, -q[::-1], -r[::-1])) / 2
        return levels

    def _row(self, x: Floats) -> Floats:  # (p,) -> (p,)
        q, r, columns = self._quantiles, self._references, np.arange(len(x))
        below, up_to = (q < x).sum(axis=0), (q <= x).sum(axis=0)
        left = np.clip(up_to - 1, 0, len(r) - 2)
        step = q[left + 1, columns] - q[left, columns]
        share = np.divide(x - q[left, columns], step, out=np.zeros_like(x), where=step > 0)
        between = r[left] + np.clip(share, 0.0, 1.0) * (r[left + 1] - r[left])
        met = (r[np.minimum(below, len(r) - 1)] + r[up_to - 1]) / 2
        return np.where(up_to > below, met, np.where(np.isnan(x), np.nan, between))


def _power(powers: Floats, numbers: Floats) -> Floats:
    """Yeo and Johnson (2000), equation 2.1, column by column: a power of 1 changes nothing."""
    # (n, p): what is negative is mirrored, with 2 - power
    mirrored = np.where(numbers >= 0, powers, 2 - powers)
    logs = np.log1p(np.abs(numbers))
    flat = np.abs(mirrored) < np.spacing(1.0)
    lengths = np.where(flat, logs, np.expm1(mirrored * logs) / np.where(flat, 1.0, mirrored))
    return np.asarray(np.copysign(lengths, numbers))


def _row_norm(numbers: Floats) -> Floats:
    """The numbers of each row get the length 1."""
    lengths = np.linalg.norm(numbers, axis=1, keepdims=True)  # (n, 1)
    return np.asarray(numbers / np.where(lengths < ZERO_LENGTH, 1.0, lengths))


# Operation -> the function of the numbers, and the names of the arrays that it takes first.
NUMBER_STEPS: Mapping[str, tuple[Callable[..., Floats], tuple[str, ...]]] = {
    "clip": (_clip, ("low", "high")),
    "impute": (_impute, ("values",)),
    "affine": (_affine, ("center", "scale")),
    "range": (_range, ("factor", "offset")),
    "power": (_power, ("powers",)),
    "row_norm": (_row_norm, ()),
}


def join_blocks(blocks: Sequence[Encoded], sparse: sp.csr_matrix | None) -> Encoded:
    """Put blocks side by side; where all are empty, one constant column, since every family wants at least one."""
    parts = [block for block in (*blocks, sparse) if block is not None and block.shape[1] > 0]
    if not parts:
        return np.zeros((blocks[0].shape[0], 1))
    if len(parts) == 1:
        return parts[0]
    if any(sp.issparse(part) for part in parts):
        return sp.csr_matrix(sp.hstack([sp.csr_matrix(part) for part in parts], format="csr"))
    return np.hstack([np.asarray(part) for part in parts])


def float32(encoded: Encoded) -> Any:
    """Return encoded rows as float32, in C order or CSR; numbers beyond its range are clipped."""
    limit = np.finfo(np.float32).max
    if isinstance(encoded, sp.csr_matrix):
        clipped = encoded.copy()
        clipped.data = np.clip(clipped.data, -limit, limit)
        return clipped.astype(np.float32)
    return np.ascontiguousarray(np.clip(encoded, -limit, limit), dtype=np.float32)
