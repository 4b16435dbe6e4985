"""Turn a table into the matrix that a family of models wants, learned on the training part of a fold alone.

Three starting points, each a frozen `Choices` that a configuration refines with `dataclasses.replace`:

- `NATIVE`, for boosters: numbers and category codes as they are, NaN is missing.
- `ORDINAL`, for forests: small categories one-hot, large ones by target encoding, NaN stays in the numbers.
- `DENSE`, for linear models and networks: numbers imputed, marked where missing, scaled; rare levels merged.

Texts become tf-idf vectors, reduced by truncated SVD; a sparse part stays sparse. What is fitted are scikit-learn
objects; `Encoder.transform` runs their arithmetic compiled (`windvane.data.compiled`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from windvane.data.compiled import CompiledColumns, CompiledText, Encoded
from windvane.data.fitted_parts import pack, unpack
from windvane.data.generated import GeneratedFeatures, fit_generated
from windvane.data.store import read_arrays, read_json, reading, write_arrays, write_json
from windvane.data.table import Table
from windvane.data.task import Task
from windvane.errors import ModelFileError

Impute = Literal["none", "median", "mean", "most_frequent"]
Scale = Literal["none", "standard", "robust", "quantile", "minmax", "power", "normalise"]

# Columns of one-hot output from which on a result that is mostly zeros stays sparse: below, dense arithmetic is faster.
_WIDE, _MOSTLY_ZERO = 256, 0.1
# Buckets of hashed text terms. Hashing needs no vocabulary, which would make a kept state slow to write and to open.
_BUCKETS = 2**13
# Singular values below this share of the largest are rounding errors.
_NOISE = 1e-6
# Mean number of characters up to which a text is a name or a code, whose pieces say more than its words.
_SHORT_TEXT = 40


@dataclass(frozen=True)
class Choices:
    """How each kind of column is encoded.

    Attributes
    ----------
    impute
        What fills a missing number; with anything but "none", columns that mark the missing ones are added.
    scale
        How numbers are scaled ("power": by Yeo and Johnson's transformation, "normalise": the numbers of a row to
        length 1). With anything but "none", target encodings are standardised and the sparse part divided by its
        largest values; the columns of a text lie in -1 .. 1 anyway.
    robust_low, robust_high
        The quantiles whose distance is the unit of "robust".
    quantiles
        Most quantiles of "quantile".
    quantile_shape
        What "quantile" makes of ranks: normal scores or numbers spread evenly over 0 .. 1.
    native_max
        Categories with at most so many levels keep their codes, right behind the numbers.
    onehot_max
        Other categories with at most so many levels are encoded one-hot, missing being a level.
    min_frequency
        Share of the rows below which levels are merged into one, in one-hot encoding.
    large
        What is left of the categories: their codes as they are, or the mean target of each level (cross-fitted).
    text_size
        Most columns that a text becomes.
    generated
        Whether features generated from pairs of columns come first (`windvane.data.generated`).
    """

    impute: Impute = "none"
    scale: Scale = "none"
    robust_low: float = 0.25
    robust_high: float = 0.75
    quantiles: int = 1000
    quantile_shape: Literal["normal", "uniform"] = "normal"
    native_max: int = -1
    onehot_max: int = 0
    min_frequency: float = 0.0
    large: Literal["codes", "target"] = "codes"
    text_size: int = 30
    generated: bool = False


NATIVE = Choices()
ORDINAL = Choices(onehot_max=10, large="target")
DENSE = Choices(impute="median", scale="standard", onehot_max=40, large="target")


class Encoder:
    """Encode tables of one kind.

    Parameters
    ----------
    choices
        How.

    Attributes
    ----------
    columns_
        The fitted transformer of `Table.matrix`; None where the matrix stays as it is.
    texts_
        For each text column the fitted pipeline; None where training had no text in it.
    sparse_
        The fitted scaler of the sparse part, or None.
    generated_
        The features that are generated first, or None.
    n_numbers, cardinalities
        Of the table that it was fitted on, with what was generated.
    """

    columns_: ColumnTransformer | None
    texts_: list[Pipeline | None]
    sparse_: MaxAbsScaler | None
    generated_: GeneratedFeatures | None

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self._packed: bytes | None = None

    def fit_transform(self, table: Table, target: NDArray[Any], task: Task) -> Encoded:
        """Learn from the training part and encode it.

        Target encodings of the training part are cross-fitted: a row never sees its own target.

        Parameters
        ----------
        table
            n rows.
        target
            Shape (n,).
        task
            What is to be learned.

        Returns
        -------
        ndarray or csr_matrix
            Float64, shape (n, q); sparse where the table has a sparse part or one-hot encoding is wide.
        """
        self._packed, self.generated_ = None, None
        if self.choices.generated:
            self.generated_, table = fit_generated(table, target, task, seed=0)
        self.columns_ = _columns(self.choices, table, target, task)
        matrix: Encoded = table.matrix
        if self.columns_ is not None:
            with warnings.catch_warnings():
                # Of a class with fewer rows than folds: its rows then share folds, which harms nothing here.
                warnings.filterwarnings("ignore", message="The least populated class")
                matrix = self.columns_.fit_transform(matrix, target)
        fitted = [_embed(text, self.choices) for text in table.texts]
        self.texts_ = [pipeline for pipeline, _ in fitted]
        self.sparse_, sparse = None, table.sparse
        if sparse is not None and self.choices.scale != "none":
            self.sparse_ = MaxAbsScaler()
            sparse = self.sparse_.fit_transform(sparse)
        self._compile(table.n_numbers, table.cardinalities)
        return _join([matrix, *(embedded for _, embedded in fitted if embedded is not None)], sparse)

    def transform(self, table: Table) -> Encoded:
        """Encode rows.

        Parameters
        ----------
        table
            n rows, of the kind that it was fitted on.

        Returns
        -------
        ndarray or csr_matrix
            Float64, shape (n, q).
        """
        table = table if self.generated_ is None else self.generated_.transform(table)
        matrix = table.matrix if self._compiled is None else self._compiled(table.matrix)
        pairs = zip(self._compiled_texts, table.texts, strict=True)
        texts = [embed(text) for embed, text in pairs if embed is not None]
        sparse = table.sparse if self.sparse_ is None else self.sparse_.transform(table.sparse)
        return _join([matrix, *texts], sparse)

    def save(self, folder: Path) -> None:
        """Write ``encoder.json`` and, where something was learned, ``encoder.npz``.

        Parameters
        ----------
        folder
            An existing folder.
        """
        parts = {"columns": self.columns_, "texts": self.texts_, "sparse": self.sparse_}
        learned = any(parts.values())
        kept = {"choices": asdict(self.choices), "n_numbers": self.n_numbers, "cardinalities": self.cardinalities}
        write_json(folder / "encoder.json", {**kept, "learned": learned})
        if self.generated_ is not None:
            write_arrays(folder / "generated.npz", self.generated_.to_arrays())
        if learned:
            # Packed once, since a growing model is kept many times.
            self._packed = self._packed or pack(parts)
            (folder / "encoder.npz").write_bytes(self._packed)

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """Read what `save` wrote.

        Parameters
        ----------
        folder
            Where.

        Returns
        -------
        Encoder
            Ready to transform.

        Raises
        ------
        ModelFileError
            If a file is missing, damaged or holds a type that is not trusted.
        """
        kept = read_json(folder / "encoder.json")
        with reading(folder / "encoder.npz"):
            encoder = cls(Choices(**kept["choices"]))
            encoder.generated_ = None
            if encoder.choices.generated:
                encoder.generated_ = GeneratedFeatures.from_arrays(read_arrays(folder / "generated.npz"))
            parts: dict[str, Any] = {"columns": None, "texts": [], "sparse": None}
            if kept["learned"]:
                parts = unpack(folder / "encoder.npz")
            kinds = {type(part) for part in (parts["columns"], parts["sparse"], *parts["texts"])}
            if not kinds <= {ColumnTransformer, MaxAbsScaler, Pipeline, type(None)}:
                raise ModelFileError(f"{folder} holds {kinds}, which is no encoder.")
            encoder.columns_, encoder.texts_, encoder.sparse_ = parts["columns"], parts["texts"], parts["sparse"]
            encoder._compile(int(kept["n_numbers"]), tuple(kept["cardinalities"]))
        return encoder

    def _compile(self, n_numbers: int, cardinalities: tuple[int, ...]) -> None:
        self.n_numbers, self.cardinalities = n_numbers, cardinalities
        columns = self.columns_
        self._compiled = None if columns is None else CompiledColumns(columns, n_numbers, cardinalities)
        self._compiled_texts = [None if pipeline is None else CompiledText(pipeline) for pipeline in self.texts_]


def float32(encoded: Encoded) -> Any:
    """Make float32 of what an encoder gives, in C order or CSR; numbers beyond its range are cut off."""
    limit = np.finfo(np.float32).max
    if isinstance(encoded, sp.csr_matrix):
        cut = encoded.copy()
        cut.data = np.clip(cut.data, -limit, limit)
        return cut.astype(np.float32)
    return np.ascontiguousarray(np.clip(encoded, -limit, limit), dtype=np.float32)


def _columns(choices: Choices, table: Table, target: NDArray[Any], task: Task) -> ColumnTransformer | None:
    p = table.n_numbers
    numbers = list(range(p))
    most = choices.onehot_max or -1  # a category of no level at all is no exception from "never one-hot"
    codes = [p + j for j, k in enumerate(table.cardinalities) if k <= choices.native_max]
    small = [p + j for j, k in enumerate(table.cardinalities) if choices.native_max < k <= most]
    large = [p + j for j, k in enumerate(table.cardinalities) if k > max(choices.native_max, most)]
    as_it_is = choices.impute == choices.scale == "none" and not small and (choices.large == "codes" or not large)
    if as_it_is or table.matrix.shape[1] == 0:
        return None
    levels = sum(table.cardinalities[column - p] + 1 for column in small)
    others = p + len(codes) + len(large)
    wide = levels > _WIDE and others + len(small) < _MOSTLY_ZERO * (others + levels)
    steps: list[tuple[str, Any, list[int]]] = []
    if numbers:
        steps.append(("numbers", _number_steps(choices, table.n_rows), numbers))
        if choices.impute != "none" and np.isnan(table.matrix[:, :p]).any():
            steps.append(("missing", MissingIndicator(features="missing-only", error_on_new=False), numbers))
    if codes:
        steps.append(("codes", "passthrough", codes))
    if small:
        # At least one row: merging is thereby on, so that the merged levels can be asked for.
        onehot = OneHotEncoder(
            handle_unknown="infrequent_if_exist", min_frequency=choices.min_frequency or 1, sparse_output=wide
        )
        steps.append(("small", onehot, small))
    if large:
        steps.append(("large", _large_steps(choices, target, task), large))
    return ColumnTransformer(steps, sparse_threshold=1.0 if wide else 0.0)


def _number_steps(choices: Choices, n_rows: int) -> Any:
    steps: list[tuple[str, Any]] = []
    if choices.impute != "none":
        steps.append(("impute", SimpleImputer(strategy=choices.impute, keep_empty_features=True)))
    if choices.scale == "power":
        steps.append(("centre", StandardScaler()))  # the power is sought near 1, and large numbers would overflow
    if choices.scale != "none":
        steps.append(("scale", _scaler(choices, n_rows)))
    return Pipeline(steps) if steps else "passthrough"


def _large_steps(choices: Choices, target: NDArray[Any], task: Task) -> Any:
    if choices.large == "codes":
        return "passthrough"
    kind, folds = "continuous", KFold(5, shuffle=True, random_state=0)
    if task.is_classification:
        counts = np.unique(target, return_counts=True)[1]
        # The training part decides: a rare class may be missing in it, and no class may have a row for each fold.
        kind = "binary" if len(counts) == 2 else "multiclass"
        folds = StratifiedKFold(int(np.clip(counts.max(), 2, 5)), shuffle=True, random_state=0)
    encoder = TargetEncoder(target_type=kind, cv=folds)
    return Pipeline([("target", encoder)] + ([("scale", StandardScaler())] if choices.scale != "none" else []))


def _scaler(choices: Choices, n_rows: int) -> Any:
    if choices.scale == "quantile":
        # As many quantiles as the rows can tell apart; the usual limit of 1000 is the one that works well for networks
        # in Gorishniy et al., Revisiting Deep Learning Models for Tabular Data (2021).
        n_quantiles = min(n_rows, max(min(n_rows // 30, choices.quantiles), 10))
        return QuantileTransformer(n_quantiles=n_quantiles, output_distribution=choices.quantile_shape, random_state=0)
    if choices.scale == "robust":
        return RobustScaler(quantile_range=(100 * choices.robust_low, 100 * choices.robust_high))
    kinds = {"standard": StandardScaler, "minmax": MinMaxScaler, "power": PowerTransformer, "normalise": Normalizer}
    return kinds[choices.scale]()


def _embed(text: NDArray[np.object_], choices: Choices) -> tuple[Pipeline | None, NDArray[np.float64] | None]:
    lengths = np.fromiter(map(len, text), dtype=np.int64, count=len(text))
    if not lengths.any():
        return None, None
    pieces = lengths[lengths > 0].mean() <= _SHORT_TEXT
    hasher = HashingVectorizer(
        analyzer="char_wb" if pieces else "word",
        ngram_range=(2, 4) if pieces else (1, 2),
        n_features=_BUCKETS,
        alternate_sign=False,
        norm=None,
    )
    counts = hasher.transform(text)
    if counts.nnz == 0:  # nothing but blanks
        return None, None
    tfidf = TfidfTransformer(sublinear_tf=True)
    weighted = tfidf.fit_transform(counts)
    # The share of variance explained, which nobody reads, is 0 / 0 where all texts are the same.
    with np.errstate(invalid="ignore", divide="ignore"):
        svd = TruncatedSVD(min(choices.text_size, len(text)), random_state=0).fit(weighted)
        rank = int((svd.singular_values_ > _NOISE * svd.singular_values_[0]).sum())
        if rank < svd.n_components:  # the rest would be rounding errors, on which a tree could split
            svd = TruncatedSVD(rank, random_state=0).fit(weighted)
    return Pipeline([("hash", hasher), ("tfidf", tfidf), ("svd", svd)]), svd.transform(weighted)


def _join(blocks: Sequence[Encoded], sparse: sp.csr_matrix | None) -> Encoded:
    """Put blocks side by side; where all are empty, one constant column, since every family wants at least one."""
    parts = [block for block in (*blocks, sparse) if block is not None and block.shape[1] > 0]
    if not parts:
        return np.zeros((blocks[0].shape[0], 1))
    if len(parts) == 1:
        return parts[0]
    if any(sp.issparse(part) for part in parts):
        return sp.csr_matrix(sp.hstack([sp.csr_matrix(part) for part in parts], format="csr"))
    return np.hstack([np.asarray(part) for part in parts])
