"""Predictions of a trained network on images, and its score."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from windvane.data.images import ImageDataset
from windvane.errors import InputError
from windvane.runtime.rows_to_predict import rename_taken
from windvane.vision.augment.batch import normalize
from windvane.vision.recipe import Recipe
from windvane.vision.saved_model import TrainedModel
from windvane.vision.training.device import DeviceContext
from windvane.vision.training.loader import Loader, make_loader

BATCH_SIZE = 256


def evaluate(network: nn.Module, loader: Loader, recipe: Recipe, device: DeviceContext) -> tuple[float, float]:
    """Return mean cross-entropy and accuracy on a labelled dataset, shared between the processes."""
    # Leaves the network in evaluation mode.
    network.eval()
    sums = torch.zeros(2, device=device.device, dtype=torch.float64)
    with torch.inference_mode():
        for images, labels in loader.eval_batches(BATCH_SIZE, device.rank, device.world_size):
            logits = _logits(network, images, recipe, device)  # (b, k)
            sums[0] += F.cross_entropy(logits, labels, reduction="sum")
            sums[1] += (logits.argmax(dim=1) == labels).sum()
    loss, correct = device.all_reduce_sum(sums).tolist()
    return loss / loader.n, correct / loader.n


def predict_proba(model: TrainedModel, images: ImageDataset) -> NDArray[np.float32]:
    """Predict class probabilities.

    Parameters
    ----------
    model
        A trained model, on any device.
    images
        n images of any size; labels are ignored.

    Returns
    -------
    ndarray of shape (n, k)
        In the order of the classes of the model. Rows sum to 1, also after training with binary cross-entropy.

    Examples
    --------
    >>> predict_proba(load_model("run"), read_unlabelled("new_images/"))  # doctest: +SKIP
    """
    if len(images) == 0:
        raise InputError("images is empty. Allowed: at least one image.")
    device = DeviceContext(next(model.network.parameters()).device, bfloat16=False)
    model.network.eval()
    loader = make_loader(images, model.recipe, device)
    with torch.inference_mode():
        probabilities = [
            _logits(model.network, pixels, model.recipe, device).softmax(dim=1).cpu()
            for pixels, _ in loader.eval_batches(BATCH_SIZE)
        ]
    return torch.cat(probabilities).numpy()  # (n, k)


def predict(model: TrainedModel, images: ImageDataset) -> NDArray[np.str_]:
    """Predict class names.

    Parameters
    ----------
    model
        A trained model, on any device.
    images
        n images of any size.

    Returns
    -------
    ndarray of shape (n,)
        Names of the most probable classes.

    Examples
    --------
    >>> predict(load_model("run"), read_unlabelled("new_images/"))  # doctest: +SKIP
    """
    names: NDArray[np.str_] = np.array(model.classes)
    return np.asarray(names[predict_proba(model, images).argmax(axis=1)])


def prediction_table(model: TrainedModel, images: ImageDataset, *, proba: bool = False) -> pd.DataFrame:
    """Predict a table with one row per image.

    Parameters
    ----------
    model
        A trained model, on any device.
    images
        n images of any size.
    proba
        Give a column of probabilities per class instead of the predicted class and its probability.

    Returns
    -------
    DataFrame
        Columns name, prediction and probability; or name and one column per class, "name (class)" and "error (class)"
        for classes of these names.

    Examples
    --------
    >>> prediction_table(load_model("run"), read_unlabelled("new_images/"))  # doctest: +SKIP
    """
    probabilities = predict_proba(model, images)
    names = pd.DataFrame({"name": list(images.names)})
    if proba:
        of_classes = pd.DataFrame(probabilities, columns=list(model.classes))
        return names.join(rename_taken(of_classes, {"name", "error"}, "class"))
    classes = np.asarray(model.classes)[probabilities.argmax(axis=1)]
    return names.assign(prediction=classes, probability=probabilities.max(axis=1))


def _logits(network: nn.Module, images: Tensor, recipe: Recipe, device: DeviceContext) -> Tensor:
    """Return float32 logits (b, k) of uint8 images (b, 3, s, s)."""
    with device.autocast():
        return network(normalize(images, recipe)).float()  # type: ignore[no-any-return]
