"""How networks on tables learn: their first parameters, and gradients written out by hand.

`windvane.runtime.models.realmlp` has the forward pass.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from scipy import sparse as sp

from windvane.runtime.models.realmlp import MIXED, WAVES, NetworkSpec, Parts, Single, Trail, activate, embed

_SAMPLE = 1000  # rows that decide the first weights


def fit_input_scale(features: Any) -> Single:
    """Return the factors that stretch the range of each column to at least 1; 1 for constant and for sparse columns.

    Robust scaling does not stretch a column of which more than half is one value; its other values may be small.
    """
    if isinstance(features, sp.csr_matrix):
        return np.ones(features.shape[1], np.float32)
    ranges = features.max(axis=0).astype(np.float64) - features.min(axis=0)
    with np.errstate(divide="ignore"):
        return np.where(ranges > 0, np.clip(1 / ranges, 1, 1e30), 1).astype(np.float32)


def initial_parameters(
    spec: NetworkSpec, features: Any, sigma: float, last_bias: Any, rng: np.random.Generator
) -> Single:
    """Draw the parameters to begin with.

    The weights of a hidden layer are scaled so that on the given rows each unit has a standard deviation of 1 before
    its bias; those of the last layer are zero.
    """
    flat = np.zeros(spec.size, np.float32)
    parts = spec.views(flat)
    rows = rng.permutation(features.shape[0])[:_SAMPLE]
    hidden = features[rows]
    parts["scale"][:] = 1
    if spec.embedded:
        parts["frequencies"][:] = sigma * rng.standard_normal(parts["frequencies"].shape)
        parts["phases"][:] = rng.uniform(-np.pi, np.pi, parts["phases"].shape)
        parts["mix"][:] = rng.uniform(-1, 1, parts["mix"].shape) / np.sqrt(WAVES)
        hidden = np.hstack([hidden, embed(spec, parts, hidden)[2]])  # (n, q + p * MIXED)
    for i, (before, after) in enumerate(pairwise(spec.widths[:-1])):
        weights = rng.standard_normal((before, after)).astype(np.float32) / np.float32(np.sqrt(before))
        spread = np.asarray(hidden @ weights).std(axis=0)
        parts[f"weights_{i}"][:] = weights / np.where(spread > 1e-6, spread, 1)
        parts[f"bias_{i}"][:] = rng.standard_normal(after)
        hidden = activate(hidden @ parts[f"weights_{i}"] + parts[f"bias_{i}"], spec.activation)
    parts[f"bias_{spec.layers - 1}"][:] = last_bias
    return flat


def backward(spec: NetworkSpec, parts: Parts, trail: Trail, delta: Any, gradient: Parts) -> None:
    """Write the gradient of a loss by all parameters."""
    for i in range(spec.layers - 1, 0, -1):
        np.matmul(trail.hidden[i - 1].T, delta, out=gradient[f"weights_{i}"])
        np.sum(delta, axis=0, out=gradient[f"bias_{i}"])
        delta = (delta @ parts[f"weights_{i}"].T) * trail.slopes[i - 1]  # (n, width below)
    np.sum(delta, axis=0, out=gradient["bias_0"])
    q, of_first = spec.inputs, gradient["weights_0"]
    of_first[:q] = trail.features.T @ delta
    if spec.embedded:
        of_first[q:] = trail.columns.T @ delta
        _embed_back(spec, parts, trail, delta @ trail.first[q:].T, gradient)
    np.einsum("ij,ij->i", of_first, parts["weights_0"], out=gradient["scale"])
    of_first *= parts["scale"][:, None]


def _embed_back(spec: NetworkSpec, parts: Parts, trail: Trail, delta: Any, gradient: Parts) -> None:
    """Write the gradient of the embeddings from that of their columns, (n, p * MIXED)."""
    n, p = len(delta), spec.embedded
    of_columns = np.ascontiguousarray(delta.T).reshape(p, MIXED, n)
    np.sum(of_columns, axis=2, out=gradient["offset"])
    np.matmul(trail.waves, of_columns.transpose(0, 2, 1), out=gradient["mix"])
    of_angles = parts["mix"] @ of_columns  # (p, WAVES, n)
    of_angles *= -np.sin(trail.angles)
    np.sum(of_angles, axis=2, out=gradient["phases"])
    turns = 2 * np.pi * trail.features[:, :p].T[:, :, None]  # (p, n, 1)
    gradient["frequencies"][:] = (of_angles @ turns)[:, :, 0]


def cross_entropy_gradient(scores: Any, target: Any, weight: Any, smoothing: float) -> Any:
    """Return the derivatives of the weighted mean cross entropy with smoothed labels."""
    n, k = scores.shape
    delta = np.exp(scores - scores.max(axis=1, keepdims=True))
    delta /= delta.sum(axis=1, keepdims=True)
    delta -= smoothing / k
    delta[np.arange(n), target] -= 1 - smoothing
    delta /= n
    return delta if weight is None else delta * weight[:, None]


def squared_error_gradient(scores: Any, target: Any, weight: Any) -> Any:
    """Return the derivatives of half the weighted mean squared error of the only score."""
    delta = (scores - target[:, None]) / len(target)
    return delta if weight is None else delta * weight[:, None]
