"""How a family's tables become a matrix: settings, what is learned of a training set, and the hyperparameters of it.

Three starting points, each a frozen `EncoderSettings` that a configuration refines with `dataclasses.replace`:

- `NATIVE`, for boosters: numbers and category codes as they are, NaN is missing.
- `ORDINAL`, for forests: small categories one-hot, large ones by target encoding, NaN stays in the numbers.
- `DENSE`, for linear models and networks: numbers imputed, marked where missing, scaled; rare levels merged.

Texts become tf-idf vectors, reduced by truncated SVD; a sparse part stays sparse. scikit-learn's transformers learn;
`windvane.runtime.columns.encoder.Encoder` holds what they learned. The hyperparameters are the preprocessing choices of
Auto-Sklearn 2.0's space, table 18 of its supplement.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from sklearn import config_context
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

from windvane.data.generated import fit_generated
from windvane.data.task import Task
from windvane.models.base import Config, DataSplit, Param
from windvane.models.search_space import choice, real, whole
from windvane.runtime.columns.encoder import Encoded, Encoder, Step, join_blocks
from windvane.runtime.columns.generated_features import GeneratedFeatures
from windvane.runtime.columns.table import Floats, Table

Impute = Literal["none", "median", "mean", "most_frequent"]
Large = Literal["codes", "target"]
Scale = Literal["none", "standard", "robust", "quantile", "minmax", "power", "normalise"]

# Columns of one-hot output from which on a result that is mostly zeros stays sparse: below, dense arithmetic is faster.
_WIDE, _MOSTLY_ZERO = 256, 0.1
# Buckets of hashed text terms. Hashing needs no vocabulary, which would make a checkpoint slow to write and to open.
_BUCKETS = 2**13
# Singular values below this share of the largest are rounding errors.
_NOISE = 1e-6
SAMPLE = 1000  # rows that show that most columns are not constant
# Mean number of characters up to which a text is a name or a code, whose pieces say more than its words.
_SHORT_TEXT = 40


@dataclass(frozen=True)
class EncoderSettings:
    """How each kind of column is encoded."""

    impute: Impute = "none"  # what fills a missing number; unless "none", columns that mark the missing ones are added
    # How numbers are scaled ("power": by Yeo and Johnson's transformation, "normalise": the numbers of a row to length
    # 1). With anything but "none", target encodings are standardised and the sparse part divided by its largest values;
    # the columns of a text lie in -1 .. 1 anyway.
    scale: Scale = "none"
    robust_low: float = 0.25  # the quantiles whose distance is the unit of "robust"
    robust_high: float = 0.75
    quantiles: int = 1000  # that the scale "quantile" learns, at most
    # What "quantile" makes of ranks: normal scores or numbers spread evenly over 0 .. 1.
    quantile_shape: Literal["normal", "uniform"] = "normal"
    native_max: int = -1  # categories with at most so many levels keep their codes, right behind the numbers
    onehot_max: int = 0  # other categories with at most so many levels are encoded one-hot, missing being a level
    min_frequency: float = 0.0  # share of the rows below which levels are merged into one, in one-hot encoding
    # What is left of the categories: their codes as they are, or the mean target of each level (cross-fitted).
    large: Large = "codes"
    text_size: int = 30  # columns that a text becomes, at most
    generated: bool = False  # whether features generated from pairs of columns come first (`windvane.data.generated`)


NATIVE = EncoderSettings()
ORDINAL = EncoderSettings(onehot_max=10, large="target")
DENSE = EncoderSettings(impute="median", scale="standard", onehot_max=40, large="target")


@dataclass(frozen=True)
class FittedTransformers:
    """What scikit-learn learned of a training set."""

    columns: ColumnTransformer | None  # of `Table.matrix`; None where the matrix stays as it is
    texts: tuple[Pipeline | None, ...]  # for each text column; None where training had no text in it
    sparse: MaxAbsScaler | None


def fit_encoder(
    settings: EncoderSettings, table: Table, target: NDArray[Any], task: Task, shared: dict[Any, Any] | None = None
) -> tuple[Encoder, Encoded]:
    """Learn an encoder from a training set and encode the set: float64, shape (n, q), dense or CSR.

    Target means of the training rows are cross-fitted: a row never sees its own target. `shared` keeps what does not
    depend on the target, for other targets of the same rows.
    """
    if shared is not None and not _reads_target(settings, table):
        if settings not in shared:
            shared[settings] = fit_encoder(settings, table, target, task)
        found: tuple[Encoder, Encoded] = shared[settings]
        return found
    generated: GeneratedFeatures | None = None
    if settings.generated:
        generated, table = fit_generated(table, target, task, seed=0)
    fitted, encoded = fit_transformers(settings, table, target, task)
    return describe_transformers(fitted, generated, table), encoded


def _reads_target(settings: EncoderSettings, table: Table) -> bool:
    """Whether an encoding depends on the target: generated features do, and target means of large categories."""
    most = max(settings.native_max, settings.onehot_max or -1)
    return settings.generated or (settings.large == "target" and any(k > most for k in table.cardinalities))


def fit_transformers(
    settings: EncoderSettings, table: Table, target: NDArray[Any], task: Task
) -> tuple[FittedTransformers, Encoded]:
    """Fit scikit-learn's transformers on a training set; return them with the encoded set."""
    columns = _columns(settings, table, target, task)
    matrix: Encoded = table.matrix
    scaler, sparse = None, table.sparse
    with config_context(transform_output="default"):  # whatever the user's session has set
        if columns is not None:
            with warnings.catch_warnings():
                # Of a class with fewer rows than folds: its rows then share folds, which harms nothing here.
                warnings.filterwarnings("ignore", message="The least populated class")
                matrix = columns.fit_transform(matrix, target)
        texts = [_embed(text, settings) for text in table.texts]
        if sparse is not None and settings.scale != "none":
            scaler = MaxAbsScaler()
            sparse = scaler.fit_transform(sparse)
    encoded = join_blocks([matrix, *(embedded for _, embedded in texts if embedded is not None)], sparse)
    return FittedTransformers(columns, tuple(pipeline for pipeline, _ in texts), scaler), encoded


def describe_transformers(fitted: FittedTransformers, generated: GeneratedFeatures | None, table: Table) -> Encoder:
    """Write what was learned as the steps of an encoder; the kind of `table` is that of the training set."""
    learned: list[tuple[Step, dict[str, Any]]] = []
    if generated is not None:
        learned.append(({"op": "generate"}, generated.to_arrays()))
    if fitted.columns is None:
        learned.append(({"op": "matrix"}, {}))
    else:
        learned += _constant_steps(fitted.columns, table.matrix[:, : table.n_numbers])
        learned += _column_steps(fitted.columns, table.n_numbers, table.cardinalities)
    for i, pipeline in enumerate(fitted.texts):
        if pipeline is not None:
            parts = dict(pipeline.steps)
            options = {name: getattr(parts["hash"], name) for name in ("analyzer", "ngram_range", "n_features")}
            arrays = {"idf": parts["tfidf"].idf_, "components": np.ascontiguousarray(parts["svd"].components_.T)}
            learned.append(({"op": "text", "text": i, **options}, arrays))
    if table.sparse is not None:
        # A column without a number in training gets none at prediction.
        largest = None if fitted.sparse is None else np.where(fitted.sparse.max_abs_ == 0, np.inf, fitted.sparse.scale_)
        learned.append(({"op": "sparse"}, {} if largest is None else {"largest": largest}))
    arrays = {f"{i}_{name}": np.asarray(array) for i, (_, held) in enumerate(learned) for name, array in held.items()}
    return Encoder([step for step, _ in learned], arrays, table.n_numbers, table.cardinalities)


def _constant_steps(columns: ColumnTransformer, numbers: Floats) -> list[tuple[Step, dict[str, Any]]]:
    """Clip columns that were constant in training to their value, since no model learned what another one means.

    Trees ignore such a column; in other models, which scale it by a spread of 1, a new value would count.
    """
    chain = {name: transformer for name, transformer, _ in columns.transformers_}.get("numbers")
    if not isinstance(chain, Pipeline) or "impute" not in chain.named_steps:
        return []
    first = numbers[:SAMPLE]  # most columns vary within their first rows
    varies = np.fmin.reduce(first) < np.fmax.reduce(first)  # (p,): without the missing ones
    low, high = np.full(numbers.shape[1], -np.inf), np.full(numbers.shape[1], np.inf)
    for j in np.flatnonzero(~varies):
        present = numbers[~np.isnan(numbers[:, j]), j]
        if len(present) == 0 or (present == present[0]).all():  # what is always missing is imputed by 0
            low[j] = high[j] = present[0] if len(present) else 0.0
    return [({"op": "clip"}, {"low": low, "high": high})] if np.isfinite(low).any() else []


def _column_steps(
    columns: ColumnTransformer, n_numbers: int, cardinalities: tuple[int, ...]
) -> list[tuple[Step, dict[str, Any]]]:
    learned: list[tuple[Step, dict[str, Any]]] = []
    for name, transformer, chosen in columns.transformers_:
        if not len(chosen):
            continue
        places = [int(column) - n_numbers for column in chosen]
        if name == "numbers":
            # scikit-learn puts its own object in the place of "passthrough".
            steps = transformer.steps if isinstance(transformer, Pipeline) else []
            learned += [part for _, step in steps for part in _number_steps(step)]
            learned.append(({"op": "numbers"}, {}))
        elif name == "missing":
            learned.append(({"op": "missing"}, {"columns": np.asarray(chosen)[transformer.features_]}))
        elif isinstance(transformer, OneHotEncoder | Pipeline):
            onehot = isinstance(transformer, OneHotEncoder)
            top = np.array([cardinalities[j] for j in places], dtype=float)
            tables = _onehot_tables(transformer, top) if onehot else _target_tables(transformer, top)
            arrays = {f"table_{j}": table for j, table in zip(places, tables, strict=True)}
            sparse = onehot and bool(transformer.sparse_output)
            learned.append(({"op": "lookup", "columns": places, "sparse": sparse}, arrays))
        else:
            learned.append(({"op": "codes", "columns": places}, {}))
    return learned


def _number_steps(fitted: Any) -> list[tuple[Step, dict[str, Any]]]:
    """Return the steps of a fitted transformer of numbers, with what it learned."""
    if isinstance(fitted, SimpleImputer):
        return [({"op": "impute"}, {"values": fitted.statistics_})]
    if isinstance(fitted, StandardScaler):
        return [({"op": "affine"}, {"center": fitted.mean_, "scale": fitted.scale_})]
    if isinstance(fitted, RobustScaler):
        return [({"op": "affine"}, {"center": fitted.center_, "scale": fitted.scale_})]
    if isinstance(fitted, MinMaxScaler):
        return [({"op": "range"}, {"factor": fitted.scale_, "offset": fitted.min_})]
    if isinstance(fitted, QuantileTransformer):
        step = {"op": "quantile", "normal": fitted.output_distribution == "normal"}
        return [(step, {"quantiles": fitted.quantiles_, "references": fitted.references_})]
    if isinstance(fitted, PowerTransformer):
        return [({"op": "power"}, {"powers": fitted.lambdas_}), *_number_steps(fitted._scaler)]
    if isinstance(fitted, Normalizer):
        return [({"op": "row_norm"}, {})]
    raise TypeError(f"{type(fitted).__name__} has no step of an encoder")


def _columns(settings: EncoderSettings, table: Table, target: NDArray[Any], task: Task) -> ColumnTransformer | None:
    """Make the transformer of the matrix, not fitted yet; None where all columns stay as they are."""
    p = table.n_numbers
    codes, small, large = _groups_by_size(settings, table)
    as_it_is = settings.impute == settings.scale == "none" and not small and (settings.large == "codes" or not large)
    if as_it_is or table.matrix.shape[1] == 0:
        return None
    steps: list[tuple[str, Any, list[int]]] = []
    if p:
        steps.append(("numbers", _number_transformer(settings, table.n_rows), list(range(p))))
        missing = np.isnan(table.matrix[:, :p]).mean(axis=0)
        marked = np.flatnonzero((missing > 0) & (missing < 1)).tolist()  # what is always missing says nothing
        if settings.impute != "none" and marked:
            steps.append(("missing", MissingIndicator(features="missing-only", error_on_new=False), marked))
    if codes:
        steps.append(("codes", "passthrough", codes))
    n_onehot = sum(table.cardinalities[column - p] + 1 for column in small)  # columns of the one-hot encoding
    n_others = p + len(codes) + len(large)
    is_sparse = n_onehot > _WIDE and n_others + len(small) < _MOSTLY_ZERO * (n_others + n_onehot)
    if small:
        # At least one row: merging is thereby on, so that the merged levels can be asked for.
        onehot = OneHotEncoder(
            handle_unknown="infrequent_if_exist", min_frequency=settings.min_frequency or 1, sparse_output=is_sparse
        )
        steps.append(("small", onehot, small))
    if large:
        steps.append(("large", _large_steps(settings, target, task), large))
    return ColumnTransformer(steps, sparse_threshold=1.0 if is_sparse else 0.0)


def _groups_by_size(settings: EncoderSettings, table: Table) -> tuple[list[int], list[int], list[int]]:
    """Return the columns of categories that stay codes, that are one-hot encoded, and that are larger than those."""
    native_max = settings.native_max
    onehot_max = settings.onehot_max or -1  # 0 is never, also for categories without levels
    columns = list(enumerate(table.cardinalities, start=table.n_numbers))
    return (
        [column for column, k in columns if k <= native_max],
        [column for column, k in columns if native_max < k <= onehot_max],
        [column for column, k in columns if k > max(native_max, onehot_max)],
    )


def _number_transformer(settings: EncoderSettings, n_rows: int) -> Any:
    steps: list[tuple[str, Any]] = []
    if settings.impute != "none":
        steps.append(("impute", SimpleImputer(strategy=settings.impute, keep_empty_features=True)))
    if settings.scale == "power":
        steps.append(("centre", StandardScaler()))  # the power is sought near 1, and large numbers would overflow
    if settings.scale != "none":
        steps.append(("scale", _scaler(settings, n_rows)))
    return Pipeline(steps) if steps else "passthrough"


def _large_steps(settings: EncoderSettings, target: NDArray[Any], task: Task) -> Any:
    if settings.large == "codes":
        return "passthrough"
    kind, folds = "continuous", KFold(5, shuffle=True, random_state=0)
    if task.is_classification:
        counts = np.unique(target, return_counts=True)[1]
        # The training set decides: a rare class may be missing in it, and no class may have a row for each fold.
        kind = "binary" if len(counts) == 2 else "multiclass"
        folds = StratifiedKFold(int(np.clip(counts.max(), 2, 5)), shuffle=True, random_state=0)
    encoder = TargetEncoder(target_type=kind, cv=folds)
    return Pipeline([("target", encoder)] + ([("scale", StandardScaler())] if settings.scale != "none" else []))


def _scaler(settings: EncoderSettings, n_rows: int) -> Any:
    if settings.scale == "quantile":
        # As many quantiles as the rows can tell apart; the usual limit of 1000 is the one that works well for networks
        # in Gorishniy et al., Revisiting Deep Learning Models for Tabular Data (2021).
        n_quantiles = min(n_rows, max(min(n_rows // 30, settings.quantiles), 10))
        return QuantileTransformer(n_quantiles=n_quantiles, output_distribution=settings.quantile_shape, random_state=0)
    if settings.scale == "robust":
        return RobustScaler(quantile_range=(100 * settings.robust_low, 100 * settings.robust_high))
    kinds = {"standard": StandardScaler, "minmax": MinMaxScaler, "power": PowerTransformer, "normalise": Normalizer}
    return kinds[settings.scale]()


def _embed(text: NDArray[np.object_], settings: EncoderSettings) -> tuple[Pipeline | None, NDArray[np.float64] | None]:
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
        svd = TruncatedSVD(min(settings.text_size, len(text)), random_state=0).fit(weighted)
        rank = int((svd.singular_values_ > _NOISE * svd.singular_values_[0]).sum())
        if rank < svd.n_components:  # the rest would be rounding errors, on which a tree could split
            svd = TruncatedSVD(rank, random_state=0).fit(weighted)
    return Pipeline([("hash", hasher), ("tfidf", tfidf), ("svd", svd)]), svd.transform(weighted)


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
    scaled = np.split((padded - steps["scale"].mean_) / steps["scale"].scale_, len(tables), axis=1)
    return [np.ascontiguousarray(wide[: len(table)]) for wide, table in zip(scaled, tables, strict=True)]


def preprocessing_space(scale: str) -> dict[str, Param]:
    """Make the hyperparameters of encoding."""
    scales = ["standard", "robust", "quantile", "minmax", "power", "normalise", "none"]
    return {
        "scale": choice(scales, scale),
        "robust_low": real(1e-3, 0.3, 0.25, when={"scale": ("robust",)}),
        "robust_high": real(0.7, 0.999, 0.75, when={"scale": ("robust",)}),
        "quantiles": whole(10, 2000, 1000, log=True, when={"scale": ("quantile",)}),
        "quantile_shape": choice(["normal", "uniform"], "normal", when={"scale": ("quantile",)}),
        "impute": choice(["median", "mean", "most_frequent"], "median"),
        "merge_rare": choice([True, False], True),
        "min_frequency": real(1e-4, 0.5, 1e-3, log=True, when={"merge_rare": (True,)}),
        "onehot_max": choice([10, 40, 150], 40),
    }


def encoder_settings(config: Config) -> EncoderSettings:
    """Read the hyperparameters of `preprocessing_space` from a complete configuration."""
    names = preprocessing_space(DENSE.scale).keys() - {"merge_rare"}  # where it is False, there is no `min_frequency`
    chosen: dict[str, Any] = {name: value for name, value in config.items() if name in names}
    return replace(DENSE, **chosen)


def class_weight_space(task: Task) -> dict[str, Param]:
    """Make the hyperparameter of class weights, where there are classes; `balance_class_weights` reads it."""
    return {"class_weight": choice(["none", "balanced"], "none")} if task.is_classification else {}


def balance_class_weights(config: Config, train: DataSplit) -> DataSplit:
    """Return a training set whose classes have the same total weight, if the configuration asks for it.

    Weights of rows are kept within their class, and so is the sum of all.
    """
    if config.get("class_weight", "none") == "none":
        return train
    weight = np.ones(len(train.target)) if train.weight is None else train.weight
    totals = np.bincount(train.target, weights=weight)  # (classes up to the last of the part,)
    return replace(train, weight=weight * weight.sum() / (np.count_nonzero(totals) * totals[train.target]))
