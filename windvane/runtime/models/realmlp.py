"""The arithmetic of fully connected networks on tables: from numbers to scores.

The parts are those of RealMLP (Holzmueller, Grinsztajn and Steinwart, "Better by default", 2024): a learned scale for
each input, periodic embeddings of numbers beside the numbers themselves ("PBLD"), SELU. All parameters of a network
lie in one flat array; `NetworkSpec.views` gives them names.

Notation: n rows, q features, p of them embedded, k outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp
from scipy.special import softmax

from ..columns.encoder import Encoder, float32
from ..columns.table import Floats, Table
from ..output import Output
from ..serialization import read_arrays, write_arrays
from .fitted import FittedModel, LoadOptions

Single = NDArray[np.float32]
Activation = Literal["selu", "relu"]
Parts = dict[str, Any]

WAVES = 16  # cosines of each embedded number
MIXED = 3  # columns that they are mixed to
SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772
CLIP = 3.0  # what a squashed number never exceeds
PORTION = 512  # rows that are predicted at once: what a processor's cache holds


@dataclass(frozen=True)
class NetworkSpec:
    """What a network is made of."""

    inputs: int  # q, the number of features
    embedded: int  # p: so many of the first features are embedded as well; 0 for none
    hidden: tuple[int, ...]  # widths of the hidden layers, at least one
    outputs: int  # k
    activation: Activation  # of the hidden layers

    @classmethod
    def from_json(cls, content: Any) -> NetworkSpec:
        """Read what `to_json` wrote; ValueError or TypeError where it is not that."""
        spec = cls(**{**content, "hidden": tuple(int(width) for width in content["hidden"])})
        if spec.activation not in ("selu", "relu") or not 0 <= spec.embedded <= spec.inputs:
            raise ValueError(f"{spec} is no network")
        return spec

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def widths(self) -> tuple[int, ...]:
        """Numbers of columns from the input, embeddings included, to the scores."""
        return (self.inputs + MIXED * self.embedded, *self.hidden, self.outputs)

    @property
    def layers(self) -> int:
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
    def places(self) -> dict[str, slice]:
        """Name and place of all parameters in the flat array."""
        sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        ends = accumulate(sizes.values())
        return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}

    @property
    def size(self) -> int:
        return sum(map(math.prod, self.shapes.values()))

    def views(self, flat: NDArray[Any]) -> Parts:
        """Return the parts of a flat array of parameters by name; writing into them writes into it."""
        places = self.places
        return {name: flat[places[name]].reshape(shape) for name, shape in self.shapes.items()}


@dataclass
class Trail:
    """What a pass through a network leaves for the gradient."""

    features: Any  # shape (n, q)
    angles: Any  # what the embeddings take the cosine of, (p, WAVES, n), or None
    waves: Any  # the cosines, (p, WAVES, n), or None
    columns: Any  # the embeddings, (n, p * MIXED), or None
    first: Any  # the weights of the first layer times the scale of their inputs
    hidden: list[Any]  # the values of each hidden layer, (n, width)
    slopes: list[Any]  # their derivatives by what the activation was applied to, (n, width)
    scores: Any  # shape (n, k)


def smooth_clip(features: Any, input_scale: NDArray[Any]) -> Any:
    """Stretch columns, and bend them so that no value is beyond -3 .. 3: x / sqrt(1 + (x / 3)^2)."""
    if isinstance(features, sp.csr_matrix):
        bent = features.copy()
        bent.data = bent.data / np.hypot(1, bent.data / CLIP)
        return bent
    scaled = features * input_scale.astype(features.dtype)
    return scaled / np.hypot(1, scaled / CLIP)


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


def activation_gradient(z: Any, value: Any, activation: Activation) -> Any:
    """Return the derivative of `activate` at z, where it has this value."""
    if activation == "relu":
        return (z > 0).astype(z.dtype)
    return np.where(z > 0, SELU_SCALE, value + SELU_SCALE * SELU_ALPHA)


def forward(spec: NetworkSpec, parts: Parts, features: Any, masks: Iterator[Any] | None = None) -> Trail:
    """Run a network on n rows.

    `masks` has for each hidden layer what its values are multiplied with, (n, width), or None; without masks the
    slopes, which the gradient needs, are left out.
    """
    first = parts["scale"][:, None] * parts["weights_0"]  # (q + p * MIXED, width)
    angles = waves = columns = None
    z = features @ first[: spec.inputs]  # (n, width)
    if spec.embedded:
        angles, waves, columns = embed(spec, parts, features)
        z += columns @ first[spec.inputs :]
    z += parts["bias_0"]
    trail = Trail(features, angles, waves, columns, first, [], [], None)
    for i in range(1, spec.layers):
        value = activate(z, spec.activation)
        if masks is not None:
            derivative, mask = activation_gradient(z, value, spec.activation), next(masks)
            if mask is not None:
                value *= mask
                derivative *= mask
            trail.slopes.append(derivative)
        trail.hidden.append(value)
        z = value @ parts[f"weights_{i}"] + parts[f"bias_{i}"]  # (n, width or k)
    trail.scores = z
    return trail


def embed(spec: NetworkSpec, parts: Parts, features: Any) -> tuple[Any, Any, Any]:
    """Return angles and cosines, (p, WAVES, n), and the mixed cosines, (n, p * MIXED); fast with the rows last."""
    numbers = np.ascontiguousarray(features[:, : spec.embedded].T)[:, None]  # (p, 1, n)
    angles = numbers * (2 * np.pi * parts["frequencies"])[:, :, None]
    angles += parts["phases"][:, :, None]
    waves = np.cos(angles)
    columns = parts["mix"].transpose(0, 2, 1) @ waves  # (p, MIXED, n)
    columns += parts["offset"][:, :, None]
    return angles, waves, columns.reshape(-1, len(features)).T


def find_scores(spec: NetworkSpec, parts: Parts, features: Any) -> Any:
    """Run a network on many rows, some at a time; shape (n, k)."""
    starts = range(0, features.shape[0], PORTION)
    portions = [forward(spec, parts, features[start : start + PORTION]).scores for start in starts]
    return np.concatenate(portions) if portions else np.zeros((0, spec.outputs), features.dtype)


class FittedRealMLP(FittedModel):
    kind = "realmlp"

    def __init__(
        self,
        encoder: Encoder,
        output: Output,
        spec: NetworkSpec,
        parameters: Single,
        input_scale: Single,
        limits: tuple[float, float],
    ) -> None:
        super().__init__(encoder, output)
        self.spec, self.parameters, self.input_scale = spec, parameters, input_scale  # (spec.size,), (q,)
        self.limits = limits  # of the training target in its units, which predictions never leave
        self._parts = spec.views(parameters)

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> FittedRealMLP:
        arrays = read_arrays(folder / "model.npz")
        spec = NetworkSpec.from_json(content["spec"])
        names = ("parameters", "input_scale")
        parameters, input_scale = (arrays[name].astype(np.float32, casting="safe") for name in names)
        if parameters.shape != (spec.size,) or input_scale.shape != (spec.inputs,):
            raise ValueError("parameters and network do not go together")
        low, high = map(float, content["limits"])
        return cls(encoder, output, spec, parameters, input_scale, (low, high))

    def predict(self, table: Table) -> Floats:
        # In single precision, as in training: half the time of double precision.
        features = smooth_clip(float32(self.encoder.transform(table)), self.input_scale)
        scores = find_scores(self.spec, self._parts, features).astype(np.float64)
        if not self.output.n_classes:
            return self.output.from_values(np.clip(scores[:, 0], *self.limits))
        return np.asarray(softmax(scores, axis=1))

    def save(self, folder: Path) -> None:
        write_arrays(folder / "model.npz", {"parameters": self.parameters, "input_scale": self.input_scale})
        self._save(folder, {"spec": self.spec.to_json(), "limits": list(self.limits)})
