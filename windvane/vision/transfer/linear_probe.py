"""Linear probe: the cheapest transfer. The network stays as it is; a logistic regression on its features is the head.

What comes out is a model like any other, with the regression written into the head.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from windvane.data.images import ImageDataset
from windvane.errors import InputError
from windvane.vision.augment.batch import normalize
from windvane.vision.device import DeviceContext, find_device
from windvane.vision.networks.create import classifier_layer
from windvane.vision.networks.weights import load_pretrained_model, with_pretrained_normalization
from windvane.vision.recipe import Recipe
from windvane.vision.saved_model import TrainedModel
from windvane.vision.training.loader import Batches, make_loader, sequential_batches

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of scikit-learn's logistic regression, weakest first
BATCH = 128  # images at once
_ITERATIONS = 200
_STILL = 1e-6  # a feature that varies less is left alone
_WORSE = 2  # strengths in a row that are worse than the best: stronger ones will be too
_SLOWER = 3.0  # times that a stronger regression may take as long as the one before it


@dataclass(frozen=True)
class ProbeResult:
    """What came of a linear probe.

    Attributes
    ----------
    model
        The network with its new head.
    C
        C of the regression, chosen on the validation images.
    valid_accuracy
        There; it chose the strength. nan where there were no validation images.
    seconds
        Wall-clock time.
    """

    model: TrainedModel
    C: float
    valid_accuracy: float
    seconds: float


@dataclass(frozen=True, eq=False)
class Features:
    """What the head of a network sees of n images.

    Attributes
    ----------
    values
        Shape (n, d).
    labels
        Numbers of classes, shape (n,).
    """

    values: NDArray[np.float64]
    labels: NDArray[np.int64]


def linear_probe(
    recipe: Recipe, train: ImageDataset, valid: ImageDataset | None = None, device: str | None = None
) -> ProbeResult:
    """Learn a head for a network that stays as it is.

    Parameters
    ----------
    recipe
        Its model, weights, image size and range of pixels count.
    train
        Labelled images.
    valid
        Labelled images that choose how strong the head may be; None for the middle of `STRENGTHS`.
    device
        As torch names it; None for a GPU where there is one.

    Returns
    -------
    Probed
        A model, and how good it is.

    Raises
    ------
    InputError
        Where images have no labels or one class alone, or the weights are not usable.
    """
    began = time.monotonic()
    recipe = with_pretrained_normalization(recipe)
    for name, images in (("train", train), ("valid", valid)):
        if images is not None and (images.labels is None or len(images) == 0):
            raise InputError(f"{name} has no labelled images.")
    place = find_device(device, recipe.precision)
    network = load_pretrained_model(recipe, len(train.classes)).to(place.device)
    seen = extract_features(network, make_loader(train, recipe, place), recipe, place)
    judged = None if valid is None else extract_features(network, make_loader(valid, recipe, place), recipe, place)
    strength, accuracy = fit_head(network, seen, judged)
    model = TrainedModel(network.eval(), recipe, tuple(map(str, train.classes)))
    return ProbeResult(model, strength, accuracy, time.monotonic() - began)


def extract_features(
    network: nn.Module, batches: Batches, recipe: Recipe, place: DeviceContext, *, mirrored: bool = False
) -> Features:
    """Give what the head of a network sees of a set.

    Parameters
    ----------
    network
        Of timm, on the place's device; in evaluation mode afterwards.
    batches
        The set.
    recipe
        Its range of pixels counts.
    place
        Where.
    mirrored
        Whether to show the images mirrored.

    Returns
    -------
    Features
        Of all n images.
    """
    network_: Any = network.eval()
    found: list[Tensor] = []
    labels: list[Tensor] = []
    with torch.inference_mode(), place.autocast():
        for pixels, truth in batches.stream(sequential_batches(batches.n, BATCH)):
            shown = pixels.flip(-1) if mirrored else pixels
            hidden = network_.forward_features(normalize(shown, recipe))
            found.append(network_.forward_head(hidden, pre_logits=True).flatten(1).float().cpu())  # (b, d)
            labels.append(truth.cpu())
    return Features(torch.cat(found).double().numpy(), torch.cat(labels).numpy())


def fit_head(
    network: nn.Module, train: Features, valid: Features | None, seconds: float = math.inf
) -> tuple[float, float]:
    """Find the best logistic regression and write it into the head of a network.

    Parameters
    ----------
    network
        Its head is replaced.
    train
        To learn from.
    valid
        Chooses how strong the regression may be; None for the middle of `STRENGTHS`.
    seconds
        After which no further regression is begun.

    Returns
    -------
    strength, accuracy
        Of the best one; nan where there is no `valid`.

    Raises
    ------
    InputError
        Where there is one class alone.
    """
    if len(np.unique(train.labels)) < 2:
        raise InputError("train has images of one class alone. Allowed: two classes or more.")
    ends = time.monotonic() + seconds
    mean, scale = train.values.mean(axis=0), train.values.std(axis=0)
    scale = np.where(scale < _STILL, 1.0, scale)
    values = (train.values - mean) / scale  # (n, d)
    if valid is None:
        strength, accuracy = STRENGTHS[len(STRENGTHS) // 2], math.nan
        _write_head(network, _fit(values, train.labels, strength), mean, scale)
        return strength, accuracy
    judged = (valid.values - mean) / scale
    tried: list[tuple[float, float, LogisticRegression]] = []
    for strength in STRENGTHS:
        began = time.monotonic()
        fitted = _fit(values, train.labels, strength)
        tried.append((float(fitted.score(judged, valid.labels)), -strength, fitted))
        best = max(range(len(tried)), key=lambda i: tried[i][:2])  # of equally good ones the weakest
        now = time.monotonic()
        if len(tried) - 1 - best >= _WORSE or now + _SLOWER * (now - began) > ends:
            break
    accuracy, weakness, fitted = tried[best]
    _write_head(network, fitted, mean, scale)
    return -weakness, accuracy


def _fit(features: NDArray[np.float64], labels: NDArray[np.int64], strength: float) -> LogisticRegression:
    from warnings import catch_warnings, simplefilter

    from sklearn.exceptions import ConvergenceWarning

    with catch_warnings():
        simplefilter("ignore", ConvergenceWarning)  # near the optimum is near enough for a probe
        return LogisticRegression(C=strength, max_iter=_ITERATIONS).fit(features, labels)


def _write_head(
    network: nn.Module, fitted: LogisticRegression, mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> None:
    """Make the head compute the regression of standardised features; classes without an image never win."""
    weight, bias = fitted.coef_ / scale, fitted.intercept_ - (fitted.coef_ / scale) @ mean
    if len(fitted.classes_) == 2:  # scikit-learn has one row for both
        weight, bias = np.concatenate([-weight / 2, weight / 2]), np.concatenate([-bias / 2, bias / 2])
    head = classifier_layer(network)
    if head.bias is None:
        raise InputError(f"model={type(network).__name__} has a head without a bias. Allowed: networks with one.")
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-1e9)
        rows = torch.from_numpy(fitted.classes_)
        head.weight[rows] = torch.from_numpy(weight).to(head.weight).reshape(-1, *head.weight.shape[1:])
        head.bias[rows] = torch.from_numpy(bias).to(head.bias)
