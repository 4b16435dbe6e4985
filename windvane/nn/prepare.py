"""What a run begins with: images that can be trained on, at the size of its recipe, and the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from windvane.data.images import Images
from windvane.errors import InputError
from windvane.nn.loader import Batches, make_batches
from windvane.nn.place import Place
from windvane.nn.recipe import Recipe
from windvane.nn.weights import start_network


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a run begins with, where somebody has made it already.

    Attributes
    ----------
    network
        On the device; what it is before the first step.
    train, valid
        The images of both parts, at the recipe's size; None where there is no validation part.
    """

    network: nn.Module
    train: Batches
    valid: Batches | None


def check_images(data: Images) -> NDArray[np.int64]:
    """Refuse what cannot be trained on; give the labels of the rest.

    Parameters
    ----------
    data
        Of a user.

    Returns
    -------
    ndarray
        One label for each training image, shape (n,).

    Raises
    ------
    InputError
        Where there are no labelled images, or several labels an image.
    """
    if data.train is None or data.train.labels is None or len(data.train) == 0:
        raise InputError("data has no labelled images to train on.")
    if data.train.labels.ndim > 1:
        raise InputError("data has several labels an image. Allowed: one label for each.")
    return data.train.labels


def prepare(recipe: Recipe, data: Images, place: Place) -> Prepared:
    """Make the network of a recipe, and bring the images to its size.

    Parameters
    ----------
    recipe
        How to train.
    data
        Images that `check_images` let pass.
    place
        Where.

    Returns
    -------
    Prepared
        On the place's device.
    """
    train = make_batches(data.train, recipe, place)
    valid = make_batches(data.valid, recipe, place) if data.valid is not None and len(data.valid) else None
    network = start_network(recipe, len(data.train.classes)).to(place.device)
    return Prepared(network.to(memory_format=torch.channels_last), train, valid)
