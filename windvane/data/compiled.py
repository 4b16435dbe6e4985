"""The arithmetic of fitted scikit-learn transformers, without their checks.

`ColumnTransformer.transform` needs some 10 ms for one row of 45 columns, nearly all of it checks and bookkeeping. Its
arithmetic is little: a number is filled in and scaled, a category code is a row of a small table. Both classes here
are made from fitted scikit-learn objects, which stay the truth, and give the same to 1e-12.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from scipy.special import ndtri
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from windvane.data.table import Floats

Encoded = Floats | sp.csr_matrix

# Rows up to which quantiles are looked up for all columns at once instead of column by column.
_FEW_ROWS = 16

# scikit-learn's margin at both ends of a quantile transformation, and the normal quantiles where it cuts off.
_MARGIN = 1e-7
# Below this, scikit-learn takes a length for zero.
_ZERO_LENGTH = 10 * np.finfo(float).eps
_LOWEST, _HIGHEST = ndtri(_MARGIN - np.spacing(1)), ndtri(1 - (_MARGIN - np.spacing(1)))


class CompiledColumns:
    """What a `ColumnTransformer` made by `windvane.data.encoders` does to the matrix of a table.

    Parameters
    ----------
    columns
        Fitted; holds some of the transformers "numbers", "missing", "codes", "small" and "large", in this order.
    n_numbers
        How many columns of the matrix are numbers.
    cardinalities
        Sizes of the vocabularies of the others.
    """

    def __init__(self, columns: ColumnTransformer, n_numbers: int, cardinalities: tuple[int, ...]) -> None:
        fitted = {name: (transformer, list(chosen)) for name, transformer, chosen in columns.transformers_}
        self._numbers: _Numbers | None = None
        self._plain = False
        if "numbers" in fitted:
            # scikit-learn puts an object of its own in the place of "passthrough".
            self._plain = not isinstance(fitted["numbers"][0], Pipeline)
            self._numbers = None if self._plain else _Numbers(fitted["numbers"][0])
        self._missing = fitted["missing"][0].features_ if "missing" in fitted else None
        self._p, self._sparse = n_numbers, False
        self._top = np.asarray(cardinalities, dtype=float)  # (c,): the code that training never saw
        # The row of a missing value: one more, and the last, of each table.
        self._nan_row = np.asarray(cardinalities, dtype=np.intp) + 1  # (c,)
        self._small: list[tuple[int, Floats]] = []
        if "small" in fitted:
            encoder, chosen = fitted["small"]
            chosen = [column - n_numbers for column in chosen]
            self._small = list(zip(chosen, _onehot_tables(encoder, self._top[chosen]), strict=True))
            self._sparse = encoder.sparse_output
        self._native: list[int] = fitted["codes"][1] if "codes" in fitted else []
        self._large: list[tuple[int, Floats]] = []
        self._codes: list[int] = []
        if "large" in fitted and isinstance(fitted["large"][0], Pipeline):
            pipeline, chosen = fitted["large"]
            chosen = [column - n_numbers for column in chosen]
            self._large = list(zip(chosen, _target_tables(pipeline, self._top[chosen]), strict=True))
        elif "large" in fitted:
            self._codes = fitted["large"][1]
        if self._sparse:
            self._select, self._offsets = _stacked(self._small)

    def __call__(self, matrix: Floats) -> Encoded:
        """Transform some rows.

        Parameters
        ----------
        matrix
            Shape (n, p + c).

        Returns
        -------
        ndarray or csr_matrix
            What the `ColumnTransformer` gives: shape (n, q).
        """
        numbers, codes = matrix[:, : self._p], matrix[:, self._p :]  # (n, p), (n, c)
        # NaN goes through `minimum` and is replaced after: its integer would be arbitrary.
        with np.errstate(invalid="ignore"):
            rows = np.where(np.isnan(codes), self._nan_row, np.minimum(codes, self._top).astype(np.intp))  # (n, c)
        first: list[Floats] = []
        if self._plain:
            first.append(numbers)
        if self._numbers is not None:
            first.append(self._numbers(numbers))
        if self._missing is not None:
            first.append(np.isnan(numbers[:, self._missing]).astype(float))
        if self._native:
            first.append(matrix[:, self._native])
        last = [table[rows[:, j]] for j, table in self._large]
        if self._codes:
            last.append(matrix[:, self._codes])
        if self._sparse:
            return self._wide(first, rows, last)
        return np.hstack([*first, *(table[rows[:, j]] for j, table in self._small), *last])

    def _wide(self, first: list[Floats], rows: NDArray[np.intp], last: list[Floats]) -> sp.csr_matrix:
        picked = rows[:, [j for j, _ in self._small]] + self._offsets  # (n, number of small categories)
        n, c = picked.shape
        # One entry for each category of each row picks that row of the stacked tables; the product adds them up.
        chosen = sp.csr_matrix((np.ones(n * c), picked.ravel(), np.arange(0, n * c + 1, c)), (n, self._select.shape[0]))
        onehot = chosen @ self._select
        blocks = [*(sp.csr_matrix(block) for block in first), onehot, *(sp.csr_matrix(block) for block in last)]
        return sp.csr_matrix(sp.hstack(blocks, format="csr"))


class CompiledText:
    """What a pipeline of hashing, tf-idf and truncated SVD does to texts.

    Parameters
    ----------
    pipeline
        Fitted, with the steps "hash", "tfidf" and "svd".
    """

    def __init__(self, pipeline: Pipeline) -> None:
        steps = dict(pipeline.steps)
        self._hash = steps["hash"]
        # idf and projection in one: tf-idf is linear in the counts but for the length, which is divided out after.
        self._idf: Floats = np.asarray(steps["tfidf"].idf_)  # (terms,)
        self._components: Floats = np.ascontiguousarray(steps["svd"].components_.T)  # (terms, size)

    def __call__(self, texts: NDArray[np.object_]) -> Floats:
        """Embed some texts.

        Parameters
        ----------
        texts
            Shape (n,).

        Returns
        -------
        ndarray
            Shape (n, size).
        """
        counts: Any = self._hash.transform(texts)  # CSR (n, terms)
        counts.data = (1 + np.log(counts.data)) * self._idf[counts.indices]
        squares = np.add.reduceat(np.append(counts.data**2, 0.0), counts.indptr[:-1])  # (n,)
        squares[np.diff(counts.indptr) == 0] = 1.0
        return np.asarray(counts @ self._components / np.sqrt(squares)[:, None])


class _Numbers:
    """Numbers filled in and scaled."""

    def __init__(self, pipeline: Pipeline) -> None:
        steps = dict(pipeline.steps)
        self._fill: Floats | None = steps["impute"].statistics_ if "impute" in steps else None
        self._scalers = [
            _Levels(steps[name]) if isinstance(steps[name], QuantileTransformer) else steps[name]
            for name in ("centre", "scale")
            if name in steps
        ]

    def __call__(self, values: Floats) -> Floats:
        if self._fill is not None:
            values = np.where(np.isnan(values), self._fill, values)
        for scaler in self._scalers:
            values = _scaled(values, scaler)
        return values


class _Levels:
    """What a `QuantileTransformer` does: the level of a value in the training part, or the normal score of that level.

    A value that many rows share, thus several quantiles, gets the middle of their levels.
    """

    def __init__(self, fitted: QuantileTransformer) -> None:
        self._quantiles, self._references = fitted.quantiles_, fitted.references_  # (q, p), (q,)
        self._shared: NDArray[Any] = np.asarray((np.diff(self._quantiles, axis=0) <= 0).any(axis=0))  # (p,)
        self._normal = fitted.output_distribution == "normal"

    def __call__(self, values: Floats) -> Floats:
        few = len(values) <= _FEW_ROWS and len(self._references) > 1
        levels = np.array([self._row(row) for row in values]) if few else self._by_column(values)
        margin, lowest, highest = _MARGIN if self._normal else 0.0, self._quantiles[0], self._quantiles[-1]
        levels[(values >= highest) | (values + margin > highest)] = 1.0
        levels[(values <= lowest) | (values - margin < lowest)] = 0.0
        return np.asarray(np.clip(ndtri(levels), _LOWEST, _HIGHEST)) if self._normal else levels

    def _by_column(self, values: Floats) -> Floats:
        levels = np.empty(values.shape)
        for j, shared in enumerate(self._shared):
            x, q, r = np.ascontiguousarray(values[:, j]), self._quantiles[:, j], self._references
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


def _scaled(values: Floats, scaler: Any) -> Floats:
    if isinstance(scaler, StandardScaler):
        return np.asarray((values - scaler.mean_) / scaler.scale_)
    if isinstance(scaler, RobustScaler):
        return np.asarray((values - scaler.center_) / scaler.scale_)
    if isinstance(scaler, MinMaxScaler):
        return np.asarray(values * scaler.scale_ + scaler.min_)
    if isinstance(scaler, _Levels):
        return scaler(values)
    if isinstance(scaler, PowerTransformer):
        return _scaled(_yeo_johnson(values, scaler.lambdas_), scaler._scaler)
    if isinstance(scaler, Normalizer):
        lengths = np.linalg.norm(values, axis=1, keepdims=True)  # (n, 1)
        return np.asarray(values / np.where(lengths < _ZERO_LENGTH, 1.0, lengths))
    raise TypeError(f"{type(scaler).__name__} is not a known scaler")


def _yeo_johnson(values: Floats, powers: Floats) -> Floats:
    """Yeo and Johnson (2000), equation 2.1, column by column: a power of 1 changes nothing."""
    mirrored = np.where(values >= 0, powers, 2 - powers)  # (n, p): what is negative is turned round with 2 - power
    logs = np.log1p(np.abs(values))
    flat = np.abs(mirrored) < np.spacing(1.0)
    lengths = np.where(flat, logs, np.expm1(mirrored * logs) / np.where(flat, 1.0, mirrored))
    return np.asarray(np.copysign(lengths, values))


def _onehot_tables(encoder: OneHotEncoder, top: Floats) -> list[Floats]:
    """Make for each category the table (its codes, the unseen one, missing) x its columns, by asking the encoder."""
    grid = np.full((int(top.max()) + 2, len(top)), np.nan)
    for j, k in enumerate(top.astype(int)):
        grid[: k + 1, j] = np.arange(k + 1)
    encoded: Floats = sp.csr_matrix(encoder.transform(grid)).toarray()
    widths = [
        len(levels) - (0 if rare is None else len(rare) - 1)
        for levels, rare in zip(encoder.categories_, encoder.infrequent_categories_, strict=True)
    ]
    blocks = np.split(encoded, np.cumsum(widths)[:-1], axis=1)
    return [np.ascontiguousarray(block[: int(k) + 2]) for block, k in zip(blocks, top, strict=True)]


def _target_tables(pipeline: Pipeline, top: Floats) -> list[Floats]:
    """Make for each category the table (its codes, the unseen one, missing) x outputs of the target encoder."""
    steps = dict(pipeline.steps)
    encoder: TargetEncoder = steps["target"]
    default = np.atleast_1d(encoder.target_mean_)  # (k,): what a level that training did not see gets
    k = len(default)
    tables = []
    for j, levels in enumerate(encoder.categories_):
        table = np.tile(default, (int(top[j]) + 2, 1))  # (codes + 2, k)
        rows = np.where(np.isnan(levels), top[j] + 1, levels).astype(np.intp)
        table[rows] = np.column_stack(encoder.encodings_[j * k : (j + 1) * k])
        tables.append(table)
    if "scale" not in steps:
        return tables
    # The scaler has one entry for each output of each category; shorter tables are padded to scale all at once.
    longest = max(len(table) for table in tables)
    padded = np.hstack([np.pad(table, ((0, longest - len(table)), (0, 0)), mode="edge") for table in tables])
    scaled = np.split(_scaled(padded, steps["scale"]), len(tables), axis=1)
    return [np.ascontiguousarray(wide[: len(table)]) for wide, table in zip(scaled, tables, strict=True)]


def _stacked(tables: list[tuple[int, Floats]]) -> tuple[sp.csr_matrix, NDArray[np.intp]]:
    """Stack tables along the diagonal: one CSR matrix and the first row of each."""
    heights = [len(table) for _, table in tables]
    offsets = np.cumsum([0, *heights[:-1]]).astype(np.intp)
    return sp.csr_matrix(sp.block_diag([table for _, table in tables], format="csr")), offsets
