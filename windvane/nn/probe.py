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

from windvane.data.images import ImageSet
from windvane.errors import InputError
from windvane.nn.loader import in_order, make_batches
from windvane.nn.model import Model
from windvane.nn.networks import heads
from windvane.nn.place import Place, find_place
from windvane.nn.recipe import Recipe
from windvane.nn.vary import scale_pixels
from windvane.nn.weights import as_trained, start_network

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # C of scikit-learn's logistic regression, weakest first
_ITERATIONS = 200
_BATCH = 128
_STILL = 1e-6  # a feature that varies less is left alone


@dataclass(frozen=True)
class Probed:
    """What came of a linear probe.

    Attributes
    ----------
    model
        The network with its new head.
    strength
        C of the regression, chosen on the validation images.
    valid_accuracy
        There; it chose the strength. nan where there were no validation images.
    seconds
        Wall-clock time.
    """

    model: Model
    strength: float
    valid_accuracy: float
    seconds: float


def linear_probe(recipe: Recipe, train: ImageSet, valid: ImageSet | None = None, device: str | None = None) -> Probed:
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
    recipe = as_trained(recipe)
    for name, images in (("train", train), ("valid", valid)):
        if images is not None and (images.labels is None or len(images) == 0):
            raise InputError(f"{name} has no labelled images.")
    labels: NDArray[np.int64] = np.asarray(train.labels)
    if len(np.unique(labels)) < 2:
        raise InputError("train has images of one class alone. Allowed: two classes or more.")
    place = find_place(device, recipe.precision)
    network = start_network(recipe, len(train.classes)).to(place.device).eval()
    features = extract_features(network, train, recipe, place)  # (n, d)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale < _STILL, 1.0, scale)
    tried: list[tuple[float, float, LogisticRegression]] = []
    if valid is None:
        strength = STRENGTHS[len(STRENGTHS) // 2]
        tried.append((math.nan, strength, _fit((features - mean) / scale, labels, strength)))
    else:
        judged = (extract_features(network, valid, recipe, place) - mean) / scale
        for strength in STRENGTHS:
            fitted = _fit((features - mean) / scale, labels, strength)
            tried.append((float(fitted.score(judged, valid.labels)), strength, fitted))
    accuracy, strength, best = max(tried, key=lambda one: (one[0], -one[1]))
    _write_head(network, best, mean, scale)
    model = Model(network, recipe, tuple(map(str, train.classes)))
    return Probed(model, strength, accuracy, time.monotonic() - began)


def extract_features(network: nn.Module, images: ImageSet, recipe: Recipe, place: Place) -> NDArray[np.float64]:
    """Give what the head of a network sees.

    Parameters
    ----------
    network
        Of timm, on the place's device, in evaluation mode.
    images
        n images.
    recipe
        Its image size and range of pixels count.
    place
        Where.

    Returns
    -------
    ndarray
        Shape (n, d).
    """
    network_: Any = network
    found: list[Tensor] = []
    with torch.inference_mode(), place.autocast():
        for pixels, _ in make_batches(images, recipe, place).stream(in_order(len(images), _BATCH)):
            hidden = network_.forward_features(scale_pixels(pixels, recipe))
            found.append(network_.forward_head(hidden, pre_logits=True).float().cpu())  # (b, d)
    return torch.cat(found).double().numpy()  # (n, d)


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
    (head,) = heads(network)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(-1e9)
        rows = torch.from_numpy(fitted.classes_)
        head.weight[rows] = torch.from_numpy(weight).to(head.weight)
        head.bias[rows] = torch.from_numpy(bias).to(head.bias)
