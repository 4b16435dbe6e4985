"""What an image costs here: measured on the network itself, before a schedule is laid out."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from windvane.data.images import ImageDataset
from windvane.vision.device import DeviceContext
from windvane.vision.networks.weights import load_pretrained_model
from windvane.vision.recipe import Recipe
from windvane.vision.training.optimizer import freeze_layers, set_train_mode


def count_parameters(network: nn.Module) -> int:
    """Count the numbers that training changes."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def has_grouped(network: nn.Module) -> bool:
    """Tell whether a network has convolutions in groups, such as depthwise ones, which gain nothing in bfloat16."""
    return any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules())


def count_macs(network: nn.Module, image_size: int) -> int:
    """Count the multiplications of one image's way through a network.

    Those between queries, keys and values of attention count too; published figures often leave them out (CCT-7/3x1:
    0.95e9 without, 1.18e9 with them).

    Parameters
    ----------
    network
        On any device.
    image_size
        Pixels a side.

    Returns
    -------
    int
        MACs: half the floating-point operations. A training step takes about 3 x 2 x MACs x images operations.
    """
    place = next(network.parameters())
    image = torch.zeros(1, 3, image_size, image_size, device=place.device, dtype=place.dtype)  # (1, 3, s, s)
    training = network.training
    network.eval()
    # The counter does not know every kernel of fused attention; products one by one it does.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(image)
    network.train(training)
    return int(counter.get_total_flops()) // 2


FEW, MANY = 2, 16  # images at once: to warm up, and to measure where that is quick
_QUICK = 2.0  # seconds
_CLASSES = 2  # of the network that is measured: the head costs next to nothing


@dataclass(frozen=True)
class Timing:
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


def measure_timing(recipe: Recipe, images: ImageDataset, place: DeviceContext, frozen: tuple[float, ...]) -> Timing:
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
    images.take(chosen).load_array(size)
    decode = (time.monotonic() - began) / len(chosen)
    network = load_pretrained_model(recipe, _CLASSES).to(place.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

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
        freeze_layers(network.requires_grad_(True), share)
        set_train_mode(network, from_weights=recipe.weights is not None)
        costs[share] = seconds_per_image(learn, place)
    return Timing(size, decode, seconds_per_image(look, place), costs)


def seconds_per_image(work: Callable[[int], None], place: DeviceContext) -> float:
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
