"""The arithmetic of fully connected networks on tables: scores, and gradients written out by hand.

The parts are those of RealMLP (Holzmueller, Grinsztajn and Steinwart, "Better by default", 2024): a learned scale for
each input, periodic embeddings of numbers beside the numbers themselves ("PBLD"), SELU. All parameters of a
network lie in one flat array, so that an optimiser and a file see one array; `Design.views` gives them names.

Notation: n rows, q features, p of them embedded, k outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp

Single = NDArray[np.float32]
Activation = Literal["selu", "relu"]
Parts = dict[str, Any]

WAVES = 16  # cosines of each embedded number
MIXED = 3  # columns that they are mixed to
SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772
CLIP = 3.0  # what a squashed number never exceeds
_SAMPLE = 1000  # rows that decide the first weights
PORTION = 512  # rows that are predicted at once: what a processor's cache holds


@dataclass(frozen=True)
class Design:
    """What a network is made of.

    Attributes
    ----------
    inputs
        q, the number of features.
    embedded
        p: so many of the first features are embedded as well; 0 for none.
    hidden
        Widths of the hidden layers, at least one.
    outputs
        k.
    activation
        Of the hidden layers.
    """

    inputs: int
    embedded: int
    hidden: tuple[int, ...]
    outputs: int
    activation: Activation

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of columns from the input, embeddings included, to the scores."""
        return (self.inputs + MIXED * self.embedded, *self.hidden, self.outputs)

    @property
    def layers(self) -> int:
        """Number of layers with weights."""
        return len(self.hidden) + 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of all parameters, in the order in which they lie."""
        p, shapes = self.embedded, dict[str, tuple[int, ...]]()
        if p:
            shapes |= {"frequencies": (p, WAVES), "phases": (p, WAVES), "mix": (p, WAVES, MIXED), "offset": (p, MIXED)}
        shapes["scale"] = self.widths[:1]
        for i, (before, after) in enumerate(pairwise(self.widths)):
            shapes |= {f"weights_{i}": (before, after), f"bias_{i}": (after,)}
        return shapes

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    def views(self, flat: NDArray[Any]) -> Parts:
        """Give the parts of a flat array of parameters by name; writing into them writes into it."""
        parts, begin = {}, 0
        for name, shape in self.shapes.items():
            end = begin + int(np.prod(shape))
            parts[name] = flat[begin:end].reshape(shape)
            begin = end
        return parts


@dataclass
class Trail:
    """What a pass through a network leaves for the gradient.

    Attributes
    ----------
    features
        Shape (n, q).
    angles, waves
        What the embeddings take the cosine of, and the cosines, (p, n, WAVES); or None.
    columns
        The embeddings, (n, p * MIXED), or None.
    first
        The weights of the first layer times the scale of their inputs.
    hidden, slopes
        For each hidden layer its values, and their derivatives by what the activation was applied to; (n, width).
    scores
        Shape (n, k).
    """

    features: Any
    angles: Any
    waves: Any
    columns: Any
    first: Any
    hidden: list[Any]
    slopes: list[Any]
    scores: Any


def squash(features: Any, stretch: NDArray[Any]) -> Any:
    """Stretch columns, and bend them so that no value is beyond -3 .. 3: x / sqrt(1 + (x / 3)^2).

    Parameters
    ----------
    features
        Shape (n, q), dense or CSR.
    stretch
        Shape (q,), from `find_stretch`.

    Returns
    -------
    ndarray or csr_matrix
        Of the same shape and type.
    """
    if isinstance(features, sp.csr_matrix):
        bent = features.copy()
        bent.data = bent.data / np.hypot(1, bent.data / CLIP)
        return bent
    scaled = features * stretch.astype(features.dtype)
    return scaled / np.hypot(1, scaled / CLIP)


def find_stretch(features: Any) -> Single:
    """Give what makes the range of a column at least 1; a column that is constant, or not dense, stays as it is.

    Robust scaling leaves a column alone of which more than half is one value; its others would go unnoticed if small.
    """
    if isinstance(features, sp.csr_matrix):
        return np.ones(features.shape[1], np.float32)
    ranges = features.max(axis=0).astype(np.float64) - features.min(axis=0)
    with np.errstate(divide="ignore"):
        return np.where(ranges > 0, np.clip(1 / ranges, 1, 1e30), 1).astype(np.float32)


def initial(design: Design, features: Any, sigma: float, last_bias: Any, rng: np.random.Generator) -> Single:
    """Draw the parameters to begin with.

    The weights of a hidden layer are scaled so that on the given rows each unit has a standard deviation of 1 before
    its bias; those of the last layer are zero.

    Parameters
    ----------
    design
        What to make.
    features
        Squashed rows of the training part, (n, q).
    sigma
        Standard deviation of the frequencies of the embeddings.
    last_bias
        Scores to begin with, (k,).
    rng
        Source of randomness.

    Returns
    -------
    ndarray
        Float32, shape (design.size,).
    """
    flat = np.zeros(design.size, np.float32)
    parts = design.views(flat)
    rows = rng.permutation(features.shape[0])[:_SAMPLE]
    hidden = features[rows]
    parts["scale"][:] = 1
    if design.embedded:
        parts["frequencies"][:] = sigma * rng.standard_normal(parts["frequencies"].shape)
        parts["phases"][:] = rng.uniform(-np.pi, np.pi, parts["phases"].shape)
        parts["mix"][:] = rng.uniform(-1, 1, parts["mix"].shape) / np.sqrt(WAVES)
        hidden = np.hstack([hidden, _embed(design, parts, hidden)[2]])  # (n, q + p * MIXED)
    for i, (before, after) in enumerate(pairwise(design.widths[:-1])):
        weights = rng.standard_normal((before, after)).astype(np.float32) / np.float32(np.sqrt(before))
        spread = np.asarray(hidden @ weights).std(axis=0)
        parts[f"weights_{i}"][:] = weights / np.where(spread > 1e-6, spread, 1)
        parts[f"bias_{i}"][:] = rng.standard_normal(after)
        hidden = activate(hidden @ parts[f"weights_{i}"] + parts[f"bias_{i}"], design.activation)
    parts[f"bias_{design.layers - 1}"][:] = last_bias
    return flat


def activate(z: Any, activation: Activation) -> Any:
    """Apply an activation to an array of any shape."""
    if activation == "relu":
        return np.maximum(z, 0)
    value = np.minimum(z, 0)  # in place from here on: a third of the time of one expression
    np.exp(value, out=value)
    value -= 1
    value *= SELU_ALPHA
    value += np.maximum(z, 0)
    value *= SELU_SCALE
    return value


def slope(z: Any, value: Any, activation: Activation) -> Any:
    """Give the derivative of `activate` at z, where it has this value."""
    if activation == "relu":
        return (z > 0).astype(z.dtype)
    return np.where(z > 0, SELU_SCALE, value + SELU_SCALE * SELU_ALPHA)


def forward(design: Design, parts: Parts, features: Any, masks: Iterator[Any] | None = None) -> Trail:
    """Run a network.

    Parameters
    ----------
    design, parts
        The network.
    features
        Squashed, shape (n, q), of the type that is computed in.
    masks
        For each hidden layer what its values are multiplied with, (n, width), or None; without masks the slopes, which
        `backward` needs, are left out.

    Returns
    -------
    Trail
        With scores of shape (n, k).
    """
    first = parts["scale"][:, None] * parts["weights_0"]  # (q + p * MIXED, width)
    angles = waves = columns = None
    z = features @ first[: design.inputs]  # (n, width)
    if design.embedded:
        angles, waves, columns = _embed(design, parts, features)
        z += columns @ first[design.inputs :]
    z += parts["bias_0"]
    trail = Trail(features, angles, waves, columns, first, [], [], None)
    for i in range(1, design.layers):
        value = activate(z, design.activation)
        if masks is not None:
            derivative, mask = slope(z, value, design.activation), next(masks)
            if mask is not None:
                value *= mask
                derivative *= mask
            trail.slopes.append(derivative)
        trail.hidden.append(value)
        z = value @ parts[f"weights_{i}"] + parts[f"bias_{i}"]  # (n, width or k)
    trail.scores = z
    return trail


def backward(design: Design, parts: Parts, trail: Trail, delta: Any, gradient: Parts) -> None:
    """Write the gradient of a loss by all parameters.

    Parameters
    ----------
    design, parts, trail
        A network and what `forward` left.
    delta
        Derivatives of the loss by the scores, shape (n, k).
    gradient
        What to write into; views like `parts`.
    """
    for i in range(design.layers - 1, 0, -1):
        np.matmul(trail.hidden[i - 1].T, delta, out=gradient[f"weights_{i}"])
        np.sum(delta, axis=0, out=gradient[f"bias_{i}"])
        delta = (delta @ parts[f"weights_{i}"].T) * trail.slopes[i - 1]  # (n, width below)
    np.sum(delta, axis=0, out=gradient["bias_0"])
    q, of_first = design.inputs, gradient["weights_0"]
    of_first[:q] = trail.features.T @ delta
    if design.embedded:
        of_first[q:] = trail.columns.T @ delta
        _embed_back(design, parts, trail, delta @ trail.first[q:].T, gradient)
    np.einsum("ij,ij->i", of_first, parts["weights_0"], out=gradient["scale"])
    of_first *= parts["scale"][:, None]


def _embed(design: Design, parts: Parts, features: Any) -> tuple[Any, Any, Any]:
    """Give angles and cosines, (p, n, WAVES), and the mixed cosines, (n, p * MIXED)."""
    numbers = features[:, : design.embedded].T[:, :, None]  # (p, n, 1)
    turns = 2 * np.pi * parts["frequencies"]
    angles = numbers * turns[:, None] + parts["phases"][:, None]
    waves = np.cos(angles)
    columns = waves @ parts["mix"] + parts["offset"][:, None]  # (p, n, MIXED)
    return angles, waves, np.ascontiguousarray(columns.transpose(1, 0, 2)).reshape(len(features), -1)


def _embed_back(design: Design, parts: Parts, trail: Trail, delta: Any, gradient: Parts) -> None:
    """Write the gradient of the embeddings from that of their columns, (n, p * MIXED)."""
    n, p = len(delta), design.embedded
    of_columns = np.ascontiguousarray(delta.reshape(n, p, MIXED).transpose(1, 0, 2))  # (p, n, MIXED)
    np.sum(of_columns, axis=1, out=gradient["offset"])
    np.matmul(trail.waves.transpose(0, 2, 1), of_columns, out=gradient["mix"])
    of_angles = of_columns @ parts["mix"].transpose(0, 2, 1)  # (p, n, WAVES)
    of_angles *= -np.sin(trail.angles)
    np.sum(of_angles, axis=1, out=gradient["phases"])
    turns = 2 * np.pi * trail.features[:, :p].T[:, None]  # (p, 1, n)
    gradient["frequencies"][:] = (turns @ of_angles)[:, 0]


def find_scores(design: Design, parts: Parts, features: Any) -> Any:
    """Run a network on many rows, some at a time; shape (n, k)."""
    starts = range(0, features.shape[0], PORTION)
    portions = [forward(design, parts, features[start : start + PORTION]).scores for start in starts]
    return np.concatenate(portions) if portions else np.zeros((0, design.outputs), features.dtype)


def cross_entropy_slopes(scores: Any, target: Any, weight: Any, smoothing: float) -> Any:
    """Give the derivatives of the weighted mean cross entropy with smoothed labels.

    Parameters
    ----------
    scores
        Shape (n, k).
    target
        Class codes, (n,).
    weight
        Weights of the rows, (n,), or None; the mean is divided by n, not by their sum.
    smoothing
        Share of the probability that all classes share.

    Returns
    -------
    ndarray
        By the scores, shape (n, k).
    """
    n, k = scores.shape
    delta = np.exp(scores - scores.max(axis=1, keepdims=True))
    delta /= delta.sum(axis=1, keepdims=True)
    delta -= smoothing / k
    delta[np.arange(n), target] -= 1 - smoothing
    delta /= n
    return delta if weight is None else delta * weight[:, None]


def squared_error_slopes(scores: Any, target: Any, weight: Any) -> Any:
    """Give the derivatives of half the weighted mean squared error of the only score.

    Parameters
    ----------
    scores
        Shape (n, 1).
    target
        Numbers, (n,), of the type of the scores.
    weight
        As for `cross_entropy_slopes`.

    Returns
    -------
    ndarray
        By the scores, shape (n, 1).
    """
    delta = (scores - target[:, None]) / len(target)
    return delta if weight is None else delta * weight[:, None]
