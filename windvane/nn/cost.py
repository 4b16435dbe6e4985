"""What an image costs here: measured on the network itself, before a schedule is laid out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from windvane.data.images import ImageSet
from windvane.nn.freeze import freeze, set_training
from windvane.nn.place import Place
from windvane.nn.recipe import Recipe
from windvane.nn.weights import start_network

FEW, MANY = 2, 16  # images at once: to warm up, and to measure where that is quick
_QUICK = 2.0  # seconds
_CLASSES = 2  # of the network that is measured: the head costs next to nothing


@dataclass(frozen=True)
class Costs:
    """Seconds an image, at one size.

    Attributes
    ----------
    size
        Pixels a side.
    decode
        To decode it and bring it to a size; about the same for all sizes.
    look
        Through the network, for its features or its class.
    learn
        A step of training divided by its images, by share of the layers that stay as they are.
    """

    size: int
    decode: float
    look: float
    learn: dict[float, float]

    def scale(self, size: int) -> float:
        """Give the factor from the size that was measured to another: networks cost by the pixel."""
        return (size / self.size) ** 2


def measure(recipe: Recipe, images: ImageSet, place: Place, frozen: tuple[float, ...]) -> Costs:
    """Measure costs at the recipe's size, in a few seconds.

    Parameters
    ----------
    recipe
        Its network, weights and image size count.
    images
        Some of them are decoded.
    place
        Where.
    frozen
        Shares of layers that may stay as they are.

    Returns
    -------
    Costs
        At that size.

    Raises
    ------
    InputError
        Where the weights are not usable.
    """
    size = recipe.image_size
    chosen = np.random.default_rng(recipe.seed).permutation(len(images))[:MANY]
    began = time.monotonic()
    images.take(chosen).to_array(size)
    decode = (time.monotonic() - began) / len(chosen)
    network = start_network(recipe, _CLASSES).to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def pixels(n: int) -> torch.Tensor:
        return torch.zeros(n, 3, size, size, device=place.device).contiguous(memory_format=torch.channels_last)

    def look(n: int) -> None:
        with torch.inference_mode(), place.autocast():
            network.eval()(pixels(n))

    def learn(n: int) -> None:
        with place.autocast():
            logits = network(pixels(n))
        F.cross_entropy(logits.float(), torch.zeros(n, dtype=torch.int64, device=place.device)).backward()
        network.zero_grad()

    costs = {}
    for share in sorted(frozen):
        freeze(network.requires_grad_(True), share)
        set_training(network, from_weights=recipe.weights is not None)
        costs[share] = seconds_an_image(learn, place)
    return Costs(size, decode, seconds_an_image(look, place), costs)


def seconds_an_image(work: Callable[[int], None], place: Place) -> float:
    """Time a piece of work on images, first on few of them.

    Parameters
    ----------
    work
        Takes the number of images.
    place
        Whose device is waited for.

    Returns
    -------
    float
        Seconds divided by images.
    """

    def time_of(n: int) -> float:
        began = time.monotonic()
        work(n)
        if place.device.type == "cuda":
            torch.cuda.synchronize(place.device)
        return (time.monotonic() - began) / n

    time_of(FEW)
    found = time_of(FEW)
    return time_of(MANY) if found * MANY < _QUICK else found
