"""Linear probe: the cheapest transfer. The network is frozen; a logistic regression on its features is the classifier.

The result is a model like any other, with the regression written into its classifier layer.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from windvane.data.images import ImageDataset
from windvane.errors import InputError
from windvane.vision.augment.batch import normalize
from windvane.vision.networks.block_features import (
    PROJECTED_IMAGES,
    Projection,
    add_block_classifier,
    block_features,
    pre_logits,
    watch_blocks,
)
from windvane.vision.networks.create import classifier_layer
from windvane.vision.networks.weights import load_pretrained_model, with_pretrained_normalization
from windvane.vision.recipe import Recipe
from windvane.vision.saved_model import TrainedModel
from windvane.vision.training.device import DeviceContext, find_device
from windvane.vision.training.loader import Loader, make_loader
from windvane.vision.transfer.finetune_plan import FLIPPED_IMAGES, START_IMAGES

C_VALUES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of scikit-learn's logistic regression, most regularized first
BATCH_SIZE = 128
_MAX_ITERATIONS = 200
_MIN_SPREAD = 1e-6  # a feature that varies less is not scaled
_PATIENCE = 2  # values of C in a row that are worse than the best: larger ones will be too
_UNSEEN_MARGIN = 10.0  # of the logit of a class without images below the smallest intercept
_SIGNIFICANT = 2.0  # standard errors
_SLOWDOWN = 3.0  # times that a regression may take as long as the one before it


@dataclass(frozen=True)
class ProbeResult:
    """Result of a linear probe."""

    model: TrainedModel  # the network with its new classifier layer
    C: float  # inverse regularization strength of the regression, chosen on the validation images
    valid_accuracy: float  # accuracy on the validation images, which chose C; nan without validation images
    seconds: float  # wall-clock time


@dataclass(frozen=True, eq=False)
class Features:
    """What the classifier layer of a network sees of n images, or what all its blocks see, and their labels."""

    values: NDArray[np.float32]  # (n, d)
    labels: NDArray[np.int64]  # (n,)


def linear_probe(
    recipe: Recipe, train: ImageDataset, valid: ImageDataset | None = None, device: str | None = None
) -> ProbeResult:
    """Train the classifier layer of a frozen network by logistic regression.

    Parameters
    ----------
    recipe
        Its model, weights, image size and normalization are used.
    train
        Labelled images.
    valid
        Labelled images that choose the regularization; None for a medium one.
    device
        As named by torch; None for a GPU if there is one.

    Returns
    -------
    ProbeResult
        The model, and how good it is.

    Examples
    --------
    >>> recipe = finetune_recipe("efficientnet_lite0")
    >>> probe = linear_probe(recipe, data.train, data.valid)  # doctest: +SKIP
    """
    started = time.monotonic()
    recipe = with_pretrained_normalization(recipe)
    for name, images in (("train", train), ("valid", valid)):
        if images is not None and (images.labels is None or len(images) == 0):
            raise InputError(f"{name} has no labelled images.")
    context = find_device(device, recipe.precision)
    network = load_pretrained_model(recipe, len(train.classes)).to(context.device)

    def read(images: ImageDataset) -> Features:
        return extract_features(network, make_loader(images, recipe, context), recipe, context)

    C, accuracy = fit_head(network, read(train), None if valid is None else read(valid))
    model = TrainedModel(network.eval(), recipe, tuple(map(str, train.classes)))
    return ProbeResult(model, C, accuracy, time.monotonic() - started)


def probe_blocks(
    network: nn.Module,
    train: ImageDataset,
    valid: ImageDataset | None,
    recipe: Recipe,
    device: DeviceContext,
    seconds: float = math.inf,
) -> tuple[int, float]:
    """Give a network of timm a classifier layer that reads all blocks, with the weights of a logistic regression.

    Fine-tuning starts from it, so some of the images are enough. Returns `Recipe.block_components` and the accuracy on
    validation images. No further regression is started after `seconds`.
    """
    classifier_layer(network)  # raises unless there is exactly one
    watch_blocks(network)

    def read(images: ImageDataset) -> Features:
        return extract_features(network, make_loader(images, recipe, device), recipe, device, read=block_features)

    train_features = read(_some_of_each_class(train, START_IMAGES, recipe.seed))
    valid_features = None if valid is None else read(_some(valid, START_IMAGES, recipe.seed))
    projection = Projection.fit(train_features.values[:PROJECTED_IMAGES])
    add_block_classifier(network, projection, len(train.classes))
    train_features = replace(train_features, values=projection(train_features.values))
    if valid_features is not None:
        valid_features = replace(valid_features, values=projection(valid_features.values))
    _, accuracy = fit_head(network, train_features, valid_features, seconds)
    return len(projection.offset), accuracy


def _some(images: ImageDataset, n: int, seed: int) -> ImageDataset:
    """Draw at most n images at random."""
    return images.take(np.random.default_rng(seed).permutation(len(images))[:n])


def _some_of_each_class(images: ImageDataset, n: int, seed: int) -> ImageDataset:
    """Draw n images at random, among them one of each class; with more than n / 2 classes, two a class on average."""
    assert images.labels is not None
    order = np.random.default_rng(seed).permutation(len(images))
    firsts = np.unique(images.labels[order], return_index=True)[1]  # places in the order
    others = np.delete(np.arange(len(order)), firsts)
    return images.take(order[np.concatenate([firsts, others])[: max(n, 2 * len(firsts))]])


@dataclass(frozen=True)
class FlipComparison:
    """How often a network is right on images and on the same images flipped horizontally."""

    n_images: int
    accuracy: float
    flipped_accuracy: float
    may_flip: bool  # whether flipping loses no more accuracy than chance explains


def compare_flipped(network: nn.Module, images: ImageDataset, recipe: Recipe, device: DeviceContext) -> FlipComparison:
    """Compare the predictions of some images with those of their mirror images."""
    some = _some(images, FLIPPED_IMAGES, seed=0)
    network.eval()
    correct: list[list[Tensor]] = [[], []]
    with torch.inference_mode(), device.autocast():
        for pixels, labels in make_loader(some, recipe, device).eval_batches(BATCH_SIZE):
            for found, batch in zip(correct, (pixels, pixels.flip(-1)), strict=True):
                found.append(network(normalize(batch, recipe)).argmax(dim=1) == labels)
    upright, flipped = (torch.cat(found).cpu().numpy().astype(np.float64) for found in correct)
    lost = upright - flipped
    may_flip = bool(lost.mean() <= _SIGNIFICANT * lost.std() / len(lost) ** 0.5)
    return FlipComparison(len(lost), float(upright.mean()), float(flipped.mean()), may_flip)


def extract_features(
    network: nn.Module,
    loader: Loader,
    recipe: Recipe,
    device: DeviceContext,
    *,
    read: Callable[[nn.Module, Tensor], Tensor] = pre_logits,
) -> Features:
    """Return what `read` returns for each image of a dataset; by default the input of the classifier layer."""
    # Leaves the network in evaluation mode.
    network.eval()
    values: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.inference_mode(), device.autocast():
        for images, truth in loader.eval_batches(BATCH_SIZE):
            values.append(read(network, normalize(images, recipe)).float().cpu())  # (b, d)
            labels.append(truth.cpu())
    return Features(torch.cat(values).numpy(), torch.cat(labels).numpy())


def fit_head(
    network: nn.Module, train: Features, valid: Features | None, seconds: float = math.inf
) -> tuple[float, float]:
    """Write the best logistic regression into the classifier layer; return its C and its validation accuracy."""
    # No further regression is started after `seconds`. Without validation features C is medium and the accuracy nan.
    if len(np.unique(train.labels)) < 2:
        raise InputError("train has images of one class alone. Allowed: two classes or more.")
    deadline = time.monotonic() + seconds
    double = train.values.astype(np.float64)
    mean, scale = double.mean(axis=0), double.std(axis=0)
    scale = np.where(scale < _MIN_SPREAD, 1.0, scale)
    values = (double - mean) / scale  # (n, d)
    if valid is None:
        C = C_VALUES[len(C_VALUES) // 2]
        _write_head(network, _fit(values, train.labels, C), mean, scale)
        return C, math.nan
    valid_values = (valid.values - mean) / scale
    fitted: list[LogisticRegression] = []
    accuracies: list[float] = []
    for C in C_VALUES:
        started = time.monotonic()
        fitted.append(_fit(values, train.labels, C))
        accuracies.append(float(fitted[-1].score(valid_values, valid.labels)))
        best = int(np.argmax(accuracies))  # of equally good ones the most regularized
        now = time.monotonic()
        if len(fitted) - 1 - best >= _PATIENCE or now + _SLOWDOWN * (now - started) > deadline:
            break
    _write_head(network, fitted[best], mean, scale)
    return C_VALUES[best], accuracies[best]


def _fit(features: NDArray[np.float64], labels: NDArray[np.int64], C: float) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # close to the optimum is good enough for a probe
        return LogisticRegression(C=C, max_iter=_MAX_ITERATIONS).fit(features, labels)


def _write_head(
    network: nn.Module, fitted: LogisticRegression, mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> None:
    """Make the classifier layer compute the regression of standardized features; classes without images hardly win."""
    weight, bias = fitted.coef_ / scale, fitted.intercept_ - (fitted.coef_ / scale) @ mean
    if len(fitted.classes_) == 2:  # scikit-learn has one row for both
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    layer = classifier_layer(network)
    if layer.bias is None:
        raise InputError(f"model={type(network).__name__} has a head without a bias. Allowed: networks with one.")
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.fill_(float(bias.min()) - _UNSEEN_MARGIN)
        rows = torch.from_numpy(fitted.classes_)
        layer.weight[rows] = torch.from_numpy(weight).to(layer.weight).reshape(-1, *layer.weight.shape[1:])
        layer.bias[rows] = torch.from_numpy(bias).to(layer.bias)
