"""A model of the family "network" as scikit-learn steps: matrix products, shifts, functions of numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import block_diag
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from windvane.export.encoder_pipeline import Steps, clip, linear_classifier
from windvane.runtime.columns.table import Floats
from windvane.runtime.models.realmlp import CLIP, SELU_ALPHA, SELU_SCALE, Parts


def build_realmlp(fold: Any) -> Pipeline:
    model = fold.model
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
        up = clip(0.0, None)
        if spec.activation == "relu":
            steps.append((f"relu {i}", up))
        else:
            down = Pipeline([("below", clip(None, 0.0)), ("power", FunctionTransformer(np.expm1))])
            steps.append((f"selu {i}", FeatureUnion([("up", up), ("down", down)])))
            weights = np.vstack([SELU_SCALE * weights, SELU_SCALE * SELU_ALPHA * weights])
    bias = parts[f"bias_{spec.layers - 1}"]
    if fold.task.is_classification:
        return Pipeline([*steps, ("scores", linear_classifier(weights.T, bias, np.arange(len(bias))))])
    last = LinearRegression()
    last.coef_, last.intercept_, last.n_features_in_ = np.ones(1), 0.0, 1
    return Pipeline([*steps, *_affine("last", weights, bias), ("limits", clip(*model.limits)), ("number", last)])


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
