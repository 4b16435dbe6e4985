"""A trained network on images: probabilities, labels, and its score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from windvane.data.images import ImageDataset
from windvane.errors import InputError
from windvane.vision.augment.batch import normalize
from windvane.vision.device import DeviceContext
from windvane.vision.recipe import Recipe
from windvane.vision.saved_model import TrainedModel
from windvane.vision.training.loader import Batches, make_loader, sequential_batches

BATCH = 256  # images at once


@dataclass(frozen=True)
class Score:
    """How good a network is on a set.

    Attributes
    ----------
    loss
        Mean cross-entropy of the softmax.
    accuracy
        Share of the images whose most probable class is right.
    """

    loss: float
    accuracy: float


def evaluate(network: nn.Module, batches: Batches, recipe: Recipe, place: DeviceContext) -> Score:
    """Judge a network on a labelled set, shared between the processes of a place.

    Parameters
    ----------
    network
        On the place's device; in evaluation mode afterwards.
    batches
        The set.
    recipe
        Its range of pixels counts.
    place
        Where, and how many processes.

    Returns
    -------
    Score
        Of the whole set, on every process.
    """
    network.eval()
    sums = torch.zeros(2, device=place.device, dtype=torch.float64)
    with torch.inference_mode():
        for images, labels in batches.stream(sequential_batches(batches.n, BATCH, place.rank, place.world)):
            logits = _logits(network, images, recipe, place)  # (b, k)
            sums[0] += F.cross_entropy(logits, labels, reduction="sum")
            sums[1] += (logits.argmax(dim=1) == labels).sum()
    loss, right = place.total(sums).tolist()
    return Score(loss / batches.n, right / batches.n)


def predict_proba(model: TrainedModel, images: ImageDataset) -> NDArray[np.float32]:
    """Predict probabilities.

    Parameters
    ----------
    model
        Trained.
    images
        n images of any size; labels do not matter.

    Returns
    -------
    ndarray
        Shape (n, k), in the order of the model's classes; a row adds up to 1, also where the loss was "sigmoid".
    """
    if len(images) == 0:
        raise InputError("images is empty. Allowed: at least one image.")
    device = next(model.network.parameters()).device
    place = DeviceContext(device, bfloat16=False)
    model.network.eval()
    found = []
    with torch.inference_mode():
        for pixels, _ in make_loader(images, model.recipe, place).stream(sequential_batches(len(images), BATCH)):
            found.append(_logits(model.network, pixels, model.recipe, place).softmax(dim=1).cpu())
    return torch.cat(found).numpy()  # (n, k)


def predict(model: TrainedModel, images: ImageDataset) -> NDArray[np.str_]:
    """Predict the names of classes.

    Parameters
    ----------
    model
        Trained.
    images
        n images.

    Returns
    -------
    ndarray
        Shape (n,).
    """
    names: NDArray[np.str_] = np.array(model.classes)
    return np.asarray(names[predict_proba(model, images).argmax(axis=1)])


def prediction_table(model: TrainedModel, images: ImageDataset, *, proba: bool = False) -> pd.DataFrame:
    """Predict, as a table.

    Parameters
    ----------
    model
        Trained.
    images
        n images.
    proba
        A column of probabilities for each class, instead of the class and its probability.

    Returns
    -------
    DataFrame
        n rows: name, prediction and probability; or name and a column a class.
    """
    found = predict_proba(model, images)
    if proba:
        return pd.DataFrame({"name": list(images.names)}).join(pd.DataFrame(found, columns=list(model.classes)))
    labels = np.asarray(model.classes)[found.argmax(axis=1)]
    return pd.DataFrame({"name": list(images.names), "prediction": labels, "probability": found.max(axis=1)})


def _logits(network: nn.Module, images: Tensor, recipe: Recipe, place: DeviceContext) -> Tensor:
    """Give the logits, float32 of shape (b, k), of uint8 images of shape (b, 3, s, s)."""
    with place.autocast():
        return network(normalize(images, recipe)).float()  # type: ignore[no-any-return]
