"""A network of the family "network" in words of scikit-learn: matrix products, shifts, functions of numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from windvane.runtime.columns.table import Floats
from windvane.runtime.models.realmlp import CLIP, SELU_ALPHA, SELU_SCALE, Parts

Steps = list[tuple[str, Any]]


def build_realmlp(kept: Any) -> Pipeline:
    model = kept.model
    spec = model.spec
    parts = spec.views(model.parameters.astype(np.float64))
    # x / sqrt(1 + (x / c)^2) is c * sin(arctan(x / c)); what comes next takes the factor c.
    scale = StandardScaler(with_mean=False)
    scale.scale_, scale.n_features_in_ = CLIP / model.input_scale.astype(np.float64), spec.inputs
    steps: Steps = [
        ("input_scale", scale),
        ("angle", FunctionTransformer(np.arctan)),
        ("bend", FunctionTransformer(np.sin)),
    ]
    weights = parts["scale"][:, None] * parts["weights_0"]
    weights[: spec.inputs] *= CLIP
    if spec.embedded:
        steps.append(
            ("embed", FeatureUnion([("numbers", FunctionTransformer()), ("waves", _waves(parts, spec.inputs))]))
        )
    for i in range(spec.layers - 1):
        steps += _affine(f"layer {i}", weights, parts[f"bias_{i}"])
        weights = parts[f"weights_{i + 1}"]
        up = FunctionTransformer(np.clip, kw_args={"a_min": 0.0, "a_max": None})
        if spec.activation == "relu":
            steps.append((f"relu {i}", up))
        else:
            below = FunctionTransformer(np.clip, kw_args={"a_min": None, "a_max": 0.0})
            down = Pipeline([("below", below), ("power", FunctionTransformer(np.expm1))])
            steps.append((f"selu {i}", FeatureUnion([("up", up), ("down", down)])))
            weights = np.vstack([SELU_SCALE * weights, SELU_SCALE * SELU_ALPHA * weights])
    bias = parts[f"bias_{spec.layers - 1}"]
    if kept.task.is_classification:
        return Pipeline([*steps, ("scores", _logistic(weights, bias))])
    limits = FunctionTransformer(np.clip, kw_args={"a_min": model.limits[0], "a_max": model.limits[1]})
    last = LinearRegression()
    last.coef_, last.intercept_, last.n_features_in_ = np.ones(1), 0.0, 1
    return Pipeline([*steps, *_affine("last", weights, bias), ("limits", limits), ("number", last)])


def embedding_matrices(parts: Parts, inputs: int, turn: float) -> tuple[Floats, Floats]:
    """Return what all inputs are multiplied with, the frequencies times a full turn, and what mixes their cosines.

    The first columns are embedded; one block of each matrix is one column's.
    """
    turns = block_diag(*(turn * parts["frequencies"])[:, None])  # (p, p * WAVES)
    return np.pad(turns, ((0, inputs - len(turns)), (0, 0))), block_diag(*parts["mix"])


def _waves(parts: Parts, inputs: int) -> Pipeline:
    turns, mix = embedding_matrices(parts, inputs, 2 * np.pi * CLIP)
    cosines: Steps = [*_affine("angles", turns, parts["phases"].ravel()), ("cosines", FunctionTransformer(np.cos))]
    return Pipeline([*cosines, *_affine("mix", mix, parts["offset"].ravel())])


def _affine(name: str, weights: NDArray[Any], bias: NDArray[Any]) -> Steps:
    shift = StandardScaler(with_std=False)
    shift.mean_, shift.scale_, shift.n_features_in_ = -bias, None, len(bias)
    return [(f"{name} weights", FunctionTransformer(np.dot, kw_args={"b": weights})), (f"{name} bias", shift)]


def _logistic(weights: NDArray[Any], bias: NDArray[Any]) -> LogisticRegression:
    if len(bias) == 2:
        weights, bias = weights[:, 1:] - weights[:, :1], bias[1:] - bias[:1]
    model = LogisticRegression()
    model.coef_, model.intercept_, model.n_features_in_ = weights.T, bias, len(weights)
    model.classes_ = np.arange(max(2, len(bias)))
    return model
