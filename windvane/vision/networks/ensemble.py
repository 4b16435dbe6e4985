"""The ensemble of a search over images as one torch network: pixels in, probabilities out.

Resizing is a product with two matrices, so that every exporter can write it and all compute the same. Networks on
pixels see what Pillow makes of an image, rounded to bytes after each direction; frozen networks see what torch makes.

Notation: n images of s x s pixels, p features, q encoded features, k classes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from windvane.runtime.columns.encoder import Encoder
from windvane.runtime.columns.table import PIXELS, FeatureView
from windvane.runtime.ensemble import Ensemble
from windvane.runtime.models.linear import FittedLinear
from windvane.runtime.models.realmlp import CLIP, FittedRealMLP
from windvane.runtime.models.sklearn_estimator import FittedSklearn
from windvane.runtime.models.trees import FittedForest, ForestPredictor
from windvane.runtime.output import SMALLEST_PROBABILITY, Output
from windvane.vision.export import Normalize, pixel_network
from windvane.vision.networks.block_features import block_features
from windvane.vision.saved_model import TrainedModel
from windvane.vision.transfer.frozen_features import FeatureExtractor

_REDUCING_GAP = 3.0  # as in `windvane.runtime.images.resize_square`


class Reader(Protocol):
    """What a network needs to know of how the images of a run are read."""

    @property
    def size(self) -> int: ...
    @property
    def views(self) -> Sequence[FeatureView]: ...
    @property
    def extractor(self) -> FeatureExtractor: ...


class ImageEnsemble(nn.Module):
    """Maps uint8 images (n, 3, s, s) to probabilities (n, k)."""

    def __init__(
        self, ensemble: Ensemble, models: Sequence[Sequence[Any]], classes: NDArray[Any], reader: Reader
    ) -> None:
        super().__init__()
        self.image_size = reader.size
        self.classes = [str(label) for label in classes.tolist()]
        self.calibration = _Calibration(ensemble)
        self.shares = [
            (one.weight, one.temperature_of(len(folds)), len(folds))
            for one, folds in zip(ensemble.members, models, strict=True)
        ]
        self.averages_roots = ensemble.averages_roots
        self.models = nn.ModuleList(_build(model, reader.size) for folds in models for model in folds)
        on_pixels = [isinstance(model, _OfPixels) for model in self.models]
        self.views = nn.ModuleList(_View(reader, view) for view in reader.views if not all(on_pixels))

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities of uint8 images."""
        pixels = images.to(torch.float32)
        features = torch.cat([view(pixels) for view in self.views], dim=1) if len(self.views) else pixels  # (n, p)
        predictions = iter([model(pixels if isinstance(model, _OfPixels) else features) for model in self.models])
        blend = [
            weight * _sharpen(self._average_folds(list(islice(predictions, n_folds))), temperature)
            for weight, temperature, n_folds in self.shares
        ]
        probabilities: Tensor = self.calibration(torch.stack(blend).sum(dim=0))
        return probabilities

    def _average_folds(self, predictions: list[Tensor]) -> Tensor:
        """Do what `Ensemble.average_folds` does."""
        if len(predictions) == 1:
            return predictions[0]
        if not self.averages_roots:
            return torch.stack(predictions).mean(dim=0)
        squares = torch.stack(predictions).sqrt().mean(dim=0).square()
        return squares / squares.sum(dim=1, keepdim=True)


class FeatureScores(nn.Module):
    """Maps pixels (n, 3, s, s) from 0 to 255 to the scores of a linear model on frozen features, before the softmax."""

    def __init__(self, model: FittedLinear, reader: Reader) -> None:
        super().__init__()
        self.views = nn.ModuleList(_View(reader, view) for view in reader.views)
        self.numbers = _Numbers(model.encoder)
        self.scores = _Scores(model.coefficients, model.intercept, model.output)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return scores (n, k)."""
        features = torch.cat([view(pixels) for view in self.views], dim=1)
        return self.scores.linear(self.numbers(features))


class _Calibration(nn.Module):
    """What `Ensemble.calibrate` does."""

    knots: Tensor
    values: Tensor

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.temperature = ensemble.temperature
        self.has_knots = ensemble.calibration is not None
        if ensemble.calibration is not None:  # torch.export cannot write empty tensors
            for name, row in zip(("knots", "values"), ensemble.calibration, strict=True):
                self.register_buffer(name, _tensor(row))

    def forward(self, blend: Tensor) -> Tensor:
        if self.has_knots:  # straight lines between the knots, level beyond the last
            second = blend[:, 1]
            i = (second[:, None] >= self.knots[1:-1]).sum(dim=1)
            share = (second - self.knots[i]) / (self.knots[i + 1] - self.knots[i])
            second = self.values[i] + share.clamp(0, 1) * (self.values[i + 1] - self.values[i])
            return torch.stack([1 - second, second], dim=1)
        return _sharpen(blend, self.temperature)


def _sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    if temperature == 1.0:
        return probabilities
    return torch.softmax(probabilities.clamp(SMALLEST_PROBABILITY, 1.0).log() / temperature, dim=1)


def is_expressible(model: Any) -> bool:
    """Whether a fitted model can be a part of the network."""
    if _trained(model) is not None:
        return True
    if not isinstance(model, FittedLinear | FittedRealMLP | FittedForest | FittedSklearn):
        return False
    if any(step["op"] not in ("matrix", "numbers", *_STEPS) for step in model.encoder.steps):
        return False
    return not isinstance(model, FittedSklearn) or _is_kernel(model.estimator)


def _trained(model: Any) -> TrainedModel | None:
    """Return the network of a fitted model of `windvane.models.image_network`; None for other models."""
    trained = getattr(model, "model", None)
    return trained if isinstance(trained, TrainedModel) else None


def _is_kernel(estimator: Any) -> bool:
    steps = getattr(estimator, "named_steps", {})
    return list(steps) == ["kernel", "linear"] and steps["kernel"].kernel in ("rbf", "polynomial")


def _build(model: Any, size: int) -> nn.Module:
    """Return the network of a fitted model: of pixels for image networks, else of features."""
    trained = _trained(model)
    if trained is not None:
        resize = _Resize(_pillow_matrix(size, trained.recipe.image_size), rounded=True)
        return _OfPixels(resize, pixel_network(trained))
    if isinstance(model, FittedLinear):
        return nn.Sequential(_Numbers(model.encoder), _Scores(model.coefficients, model.intercept, model.output))
    if isinstance(model, FittedRealMLP):
        return _RealMLP(model)
    return _Forest(model) if isinstance(model, FittedForest) else _Kernel(model)


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


class _Resize(nn.Module):
    """Images of float pixels (n, 3, s, s) in another size."""

    matrix: Tensor

    def __init__(self, matrix: Tensor | None, *, rounded: bool) -> None:
        super().__init__()
        self.rounded = rounded
        self.register_buffer("matrix", matrix)

    def forward(self, pixels: Tensor) -> Tensor:
        if self.matrix is None:
            return pixels
        wide = pixels @ self.matrix.T
        if self.rounded:
            wide = torch.floor(wide + 0.5).clamp(0, 255)
        resized: Tensor = self.matrix @ wide
        return (torch.floor(resized + 0.5) if self.rounded else resized).clamp(0, 255)


class _OfPixels(nn.Sequential):
    """Reads pixels, where all other models read features."""


def _pillow_matrix(before: int, after: int) -> Tensor | None:  # (after, before)
    if before == after:
        return None
    from PIL import Image

    unit = Image.fromarray(np.eye(before, dtype=np.float32))
    rows = unit.resize((before, after), Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP)
    return _tensor(np.asarray(rows))


def _torch_matrix(before: int, after: int) -> Tensor | None:  # (after, before)
    if before == after:
        return None
    unit = torch.eye(before)[None, None]
    return F.interpolate(unit, (after, before), mode="bicubic", antialias=True)[0, 0]


class _View(nn.Module):
    """The features (n, d) of one frozen network at one size, or the pixels of small copies."""

    matrix: Tensor
    offset: Tensor

    def __init__(self, reader: Reader, view: FeatureView) -> None:
        super().__init__()
        if view.weights == PIXELS:
            self.network: Any = None
            self.resize = _Resize(_pillow_matrix(reader.size, view.size), rounded=True)
            return
        model = reader.extractor.network(view.weights)
        self.network = copy.deepcopy(model.network).cpu()
        self.resize = _Resize(_torch_matrix(reader.size, view.size), rounded=False)
        self.normalize = Normalize(model.recipe)
        projection = reader.extractor.projection(view.weights, view.size)
        self.register_buffer("matrix", _tensor(projection.matrix))
        self.register_buffer("offset", _tensor(projection.offset))

    def forward(self, pixels: Tensor) -> Tensor:
        resized = self.resize(pixels)
        if self.network is None:
            flat: Tensor = resized.permute(0, 2, 3, 1).flatten(1)
            return flat / 255
        return block_features(self.network, self.normalize(resized)) @ self.matrix + self.offset


class _Numbers(nn.Module):
    """The steps of an encoder, for numbers without missing values."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.steps = [step["op"] for step in encoder.steps]
        for i in range(len(self.steps)):
            for name, array in encoder.arrays_of(i).items():
                self.register_buffer(f"{name}_{i}", _tensor(array))

    def forward(self, numbers: Tensor) -> Tensor:
        for i, op in enumerate(self.steps):
            if op in _STEPS:
                numbers = _STEPS[op](numbers, partial(self._array, i))
        return numbers

    def _array(self, i: int, name: str) -> Tensor:
        return self.get_buffer(f"{name}_{i}")


# Nothing is missing in features, so that "impute" changes nothing.
_STEPS: Mapping[str, Callable[[Tensor, Callable[[str], Tensor]], Tensor]] = {
    "impute": lambda x, get: x,
    "clip": lambda x, get: torch.minimum(torch.maximum(x, get("low")), get("high")),
    "affine": lambda x, get: (x - get("center")) / get("scale"),
    "range": lambda x, get: x * get("factor") + get("offset"),
    "row_norm": lambda x, get: F.normalize(x, dim=1),
}


class _Probabilities(nn.Module):
    """Probabilities of all classes (n, k) from those of the classes of a training set."""

    place: Tensor

    def __init__(self, output: Output) -> None:
        super().__init__()
        self.is_whole = len(output.classes) in (0, output.n_classes)
        self.register_buffer("place", _tensor(np.eye(output.n_classes)[list(output.classes)]))

    def forward(self, probabilities: Tensor) -> Tensor:
        return probabilities if self.is_whole else probabilities @ self.place


class _Scores(nn.Module):
    """The softmax of linear scores; of two classes there are coefficients of the second alone."""

    coefficients: Tensor
    intercept: Tensor

    def __init__(self, coefficients: NDArray[Any], intercept: NDArray[Any], output: Output) -> None:
        super().__init__()
        if len(output.classes) == 2:
            coefficients, intercept = (np.concatenate([0 * one, one]) for one in (coefficients, intercept))
        self.register_buffer("coefficients", _tensor(coefficients))
        self.register_buffer("intercept", _tensor(intercept))
        self.probabilities = _Probabilities(output)

    def linear(self, features: Tensor) -> Tensor:
        """Return the scores."""
        return F.linear(features, self.coefficients, self.intercept)

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor = self.probabilities(torch.softmax(self.linear(features), dim=1))
        return found


class _Kernel(nn.Module):
    """Logistic regression on kernels between images and some training images."""

    rows: Tensor
    projection: Tensor

    def __init__(self, model: FittedSklearn) -> None:
        super().__init__()
        kernel, linear = (model.estimator.named_steps[name] for name in ("kernel", "linear"))
        self.numbers = _Numbers(model.encoder)
        self.kernel, self.degree = kernel.kernel, kernel.degree
        self.gamma = 1.0 / model.n_features if kernel.gamma is None else float(kernel.gamma)
        self.coef0 = 1.0 if kernel.coef0 is None else float(kernel.coef0)
        self.register_buffer("rows", _tensor(kernel.components_))
        self.register_buffer("projection", _tensor(kernel.normalization_))
        self.scores = _Scores(linear.coef_, linear.intercept_, model.output)

    def forward(self, features: Tensor) -> Tensor:
        encoded = self.numbers(features)  # (n, q)
        products = encoded @ self.rows.T
        if self.kernel == "rbf":
            lengths = (encoded**2).sum(dim=1, keepdim=True) + (self.rows**2).sum(dim=1)
            kernel = torch.exp(-self.gamma * (lengths - 2 * products).clamp(min=0))
        else:
            kernel = (self.gamma * products + self.coef0) ** self.degree
        found: Tensor = self.scores(F.linear(kernel, self.projection))
        return found


class _RealMLP(nn.Module):
    """The network of `windvane.runtime.models.realmlp`."""

    input_scale: Tensor

    def __init__(self, model: FittedRealMLP) -> None:
        super().__init__()
        self.numbers, self.spec = _Numbers(model.encoder), model.spec
        self.register_buffer("input_scale", _tensor(model.input_scale))
        for name, part in model.spec.views(model.parameters).items():
            self.register_buffer(name, _tensor(part))

    def forward(self, features: Tensor) -> Tensor:
        scaled = self.numbers(features) * self.input_scale
        value = scaled / torch.sqrt(1 + (scaled / CLIP) ** 2)
        if self.spec.embedded:
            turns, phases, mix, offset = (getattr(self, n) for n in ("frequencies", "phases", "mix", "offset"))
            angles = value[:, : self.spec.embedded, None] * (2 * torch.pi * turns) + phases  # (n, p, waves)
            mixed = (torch.cos(angles)[..., None] * mix).sum(dim=2) + offset  # (n, p, mixed)
            value = torch.cat([value, mixed.flatten(1)], dim=1)
        value = value * self.scale
        for i in range(self.spec.layers):
            if i:
                value = torch.relu(value) if self.spec.activation == "relu" else F.selu(value)
            value = value @ getattr(self, f"weights_{i}") + getattr(self, f"bias_{i}")
        return torch.softmax(value, dim=1)


class _Forest(nn.Module):
    """The mean of the leaves that an image reaches in all trees, which are descended at once."""

    roots: Tensor
    child: Tensor
    feature: Tensor
    threshold: Tensor
    values: Tensor

    def __init__(self, model: FittedForest) -> None:
        super().__init__()
        trees = ForestPredictor(model.parts, model.n_features)
        self.numbers = _Numbers(model.encoder)
        self.depth = trees.depth
        for name, array in trees.arrays().items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))
        self.probabilities = _Probabilities(model.output)

    def forward(self, features: Tensor) -> Tensor:
        encoded = self.numbers(features)  # (n, q)
        node = self.roots.expand(len(encoded), -1)  # (n, trees)
        for _ in range(self.depth):
            right = encoded.gather(1, self.feature[node]) > self.threshold[node]
            node = self.child[2 * node + right.to(torch.int64)]
        found: Tensor = self.probabilities(self.values[node].mean(dim=1))
        return found
