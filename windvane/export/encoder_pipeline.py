"""The steps of an encoder, and other parts of pipelines, as fitted objects of scikit-learn."""

from __future__ import annotations

import re
from operator import methodcaller
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from sklearn.compose import TransformedTargetRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    PowerTransformer,
    QuantileTransformer,
    StandardScaler,
)

from windvane.runtime.columns.column_values import vocabulary_index
from windvane.runtime.columns.encoder import Encoder

Steps = list[tuple[str, Any]]


def category_texts(vocabulary: tuple[str, ...]) -> dict[str, float]:
    """Return text -> code of a category; 1 is there as 1.0, too, as pandas writes it beside missing values."""
    codes = vocabulary_index(vocabulary)
    for text in vocabulary:
        if re.fullmatch(r"-?\d{1,18}", text):
            codes.setdefault(str(float(text)), codes[text])
    return codes


def arrays_inside(model: Any) -> Any:
    """Return a model whose steps pass arrays on, whatever output is set for transformers, globally or around it."""
    if isinstance(model, Pipeline):
        model = Pipeline([(name, arrays_inside(step)) for name, step in model.steps])
        return model.set_output(transform="default")
    if isinstance(model, FrozenEstimator):
        return FrozenEstimator(arrays_inside(model.estimator))
    if isinstance(model, TransformedTargetRegressor):
        model.regressor_ = arrays_inside(model.regressor_)
    return model


def clip(low: Any, high: Any) -> FunctionTransformer:
    """Cut off below and above; None for no limit."""
    return FunctionTransformer(np.clip, kw_args={"a_min": low, "a_max": high})


def linear_classifier(coefficients: NDArray[Any], intercept: NDArray[Any], classes: NDArray[Any]) -> LogisticRegression:
    """Make a linear classifier of scores: a row of coefficients (., q) for each class, or one row for two classes."""
    if len(coefficients) == 2:
        coefficients, intercept = coefficients[1:] - coefficients[:1], intercept[1:] - intercept[:1]
    model = LogisticRegression()
    model.coef_, model.intercept_, model.classes_ = coefficients, intercept, classes
    model.n_features_in_ = coefficients.shape[1]
    return model


def encoder_steps(encoder: Encoder, *, sparse: bool) -> Steps:
    """Return steps from the numbers and category codes of a table to encoded rows; none if nothing changes."""
    p = encoder.n_numbers
    chain: Steps = []
    blocks: Steps = []
    wide = False
    for i, step in enumerate(encoder.steps):
        arrays, op = encoder.arrays_of(i), step["op"]
        if op in NUMBERS:
            chain.append((f"{op} {i}", NUMBERS[op](step, arrays)))
        elif op == "numbers":
            blocks.append(("numbers", Pipeline([("numbers", _columns(range(p))), *chain])))
        elif op == "missing":
            is_nan: Steps = [
                ("numbers", _columns(arrays["columns"].tolist())),
                ("is_nan", FunctionTransformer(np.isnan)),
                ("as", FunctionTransformer(methodcaller("astype", "float64"))),
            ]
            blocks.append(("missing", Pipeline(is_nan)))
        elif op == "codes":
            blocks.append((f"codes {i}", _columns([p + j for j in step["columns"]])))
        elif op == "lookup":
            wide |= sparse and bool(step["sparse"])
            for j in step["columns"]:
                table = arrays[f"table_{j}"]
                blocks.append((f"category {j}", _lookup(p + int(j), table, encoder.cardinalities[int(j)])))
    if not blocks:
        return []
    has_lookup = any(step["op"] == "lookup" for step in encoder.steps)
    dense = [("dense", FunctionTransformer(methodcaller("toarray")))] if has_lookup and not wide else []
    return [("encode", FeatureUnion(blocks)), *dense]


def _columns(columns: Any) -> FunctionTransformer:
    return FunctionTransformer(np.take, kw_args={"indices": list(columns), "axis": 1})


def _lookup(column: int, table: Any, cardinality: int) -> Pipeline:
    """Look codes up in a table: one-hot codes times the table; a code beyond the last counts as unseen."""
    codes = np.array([*range(cardinality + 1), np.nan], dtype=float)
    onehot = OneHotEncoder(categories=[codes], handle_unknown="ignore").fit(np.zeros((1, 1)))
    product = FunctionTransformer(methodcaller("dot", sp.csr_matrix(table)), accept_sparse=True)
    most = clip(None, float(cardinality))
    return Pipeline([("code", _columns([column])), ("most", most), ("onehot", onehot), ("table", product)])


def _impute(step: Any, arrays: Any) -> SimpleImputer:
    imputer = SimpleImputer(keep_empty_features=True).fit(np.zeros((2, len(arrays["values"]))))
    imputer.statistics_ = arrays["values"]
    return imputer


def _clip(step: Any, arrays: Any) -> FunctionTransformer:
    return clip(arrays["low"], arrays["high"])


def _affine(step: Any, arrays: Any) -> StandardScaler:
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_, scaler.n_features_in_ = arrays["center"], arrays["scale"], len(arrays["scale"])
    scaler.var_ = arrays["scale"] ** 2
    return scaler


def _range(step: Any, arrays: Any) -> MinMaxScaler:
    scaler = MinMaxScaler()
    scaler.scale_, scaler.min_, scaler.n_features_in_ = arrays["factor"], arrays["offset"], len(arrays["factor"])
    return scaler


def _quantile(step: Any, arrays: Any) -> QuantileTransformer:
    quantiles, references = arrays["quantiles"], arrays["references"]
    transformer = QuantileTransformer(
        n_quantiles=len(references), output_distribution="normal" if step["normal"] else "uniform"
    )
    transformer.quantiles_, transformer.references_ = quantiles, references
    transformer.n_quantiles_, transformer.n_features_in_ = len(references), quantiles.shape[1]
    return transformer


def _power(step: Any, arrays: Any) -> PowerTransformer:
    transformer = PowerTransformer(standardize=False)
    transformer.lambdas_, transformer.n_features_in_ = arrays["powers"], len(arrays["powers"])
    return transformer


def _row_norm(step: Any, arrays: Any) -> Normalizer:
    return Normalizer()


NUMBERS = {
    "clip": _clip,
    "impute": _impute,
    "affine": _affine,
    "range": _range,
    "quantile": _quantile,
    "power": _power,
    "row_norm": _row_norm,
}
