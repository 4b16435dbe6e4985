"""What a network costs: parameters, multiply-adds, and the time per image on this device."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from windvane.data.images import ImageDataset
from windvane.vision.networks.cpu_bfloat16 import is_depthwise, replace_slow_layers
from windvane.vision.recipe import Recipe
from windvane.vision.training.device import DeviceContext
from windvane.vision.training.optimizer import freeze_layers, set_train_mode

FEW, MANY = 2, 16  # images at once: to warm up, and to measure where that takes less than `_QUICK` seconds
_QUICK = 2.0
# With fewer multiply-adds per image, casting costs a CPU about what the products gain.
_MIN_BFLOAT16_MACS = 5e6


@dataclass(frozen=True)
class Timing:
    """Seconds per image at one image size."""

    size: int  # width and height in pixels
    decode: float  # decode and resize; about the same for all sizes
    forward: float  # one pass through the network
    train_step: dict[float, float]  # a training step, by the fraction of frozen layers

    def scale(self, size: int) -> float:
        """Return the factor from the measured size to another: networks cost by the pixel."""
        return (size / self.size) ** 2


def count_parameters(network: nn.Module) -> int:
    """Return the number of trainable parameters.

    Parameters
    ----------
    network
        Any module.

    Returns
    -------
    int
        Frozen parameters do not count.

    Examples
    --------
    >>> import torch
    >>> count_parameters(torch.nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def count_macs(network: nn.Module, image_size: int) -> int:
    """Return the multiply-adds of one image.

    Products between queries, keys and values of attention count too; published figures often leave them out
    (CCT-7/3x1: 0.95e9 without, 1.18e9 with them).

    Parameters
    ----------
    network
        On any device.
    image_size
        Width and height in pixels.

    Returns
    -------
    int
        MACs, half the floating-point operations. A training step takes about 3 x 2 x MACs x images operations.

    Examples
    --------
    >>> import torch
    >>> count_macs(torch.nn.Conv2d(3, 4, 1), 8)
    768
    """
    # The counter does not know every kernel of fused attention; it does know single products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        _predict_blank_image(network, image_size)
    return int(counter.get_total_flops()) // 2


def _predict_blank_image(network: nn.Module, image_size: int) -> None:
    weight, training = next(network.parameters()), network.training
    network.eval()
    with torch.no_grad():
        network(torch.zeros(1, 3, image_size, image_size, device=weight.device, dtype=weight.dtype))
    network.train(training)


def choose_precision(device: DeviceContext, network: nn.Module, recipe: Recipe) -> DeviceContext:
    """Return the device with the precision in which a recipe trains a network on it; prepare the network for that."""
    if device.device.type != "cpu":
        return device
    if recipe.precision == "auto":
        size = recipe.image_size
        has_products = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        gains = count_macs(network, size) >= _MIN_BFLOAT16_MACS and not _has_unsuitable_convolutions(network, size)
        device = replace(device, bfloat16=has_products and gains)
    if device.bfloat16:
        replace_slow_layers(network)
    return device


def _has_unsuitable_convolutions(network: nn.Module, image_size: int) -> bool:
    """Whether a network has convolutions that bfloat16 does not suit on a CPU, for images of this size."""
    found = []

    def look(module: nn.Conv2d, inputs: tuple[torch.Tensor]) -> None:
        # Of a stride over the whole input, torch 2.14 leaves parts of the weight's gradient unset.
        strides_over_input = min(inputs[0].shape[2:]) < max(module.stride)
        found.append(strides_over_input or (module.groups > 1 and not is_depthwise(module)))

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    hooks = [module.register_forward_pre_hook(look) for module in convolutions]
    _predict_blank_image(network, image_size)
    for hook in hooks:
        hook.remove()
    return any(found)


def measure_training_speed(network: nn.Module, recipe: Recipe, device: DeviceContext) -> float:
    """Return the images per second of training steps, measured in a second or two; loading is not included."""
    device = choose_precision(device, network, recipe)
    network = network.to(device.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    set_train_mode(network, from_weights=recipe.weights is not None)
    return 1.0 / seconds_per_image(_training_step(network, recipe.image_size, device), device)


def _training_step(network: nn.Module, size: int, device: DeviceContext) -> Callable[[int], None]:
    """Return a function that takes a training step of n images, without an optimizer."""

    def train_step(n: int) -> None:
        with device.autocast():
            logits = network(_blank_images(n, size, device))
        F.cross_entropy(logits.float(), torch.zeros(n, dtype=torch.int64, device=device.device)).backward()
        network.zero_grad()

    return train_step


def _blank_images(n: int, size: int, device: DeviceContext) -> torch.Tensor:
    return torch.zeros(n, 3, size, size, device=device.device).contiguous(memory_format=torch.channels_last)


def measure_timing(
    network: nn.Module, recipe: Recipe, images: ImageDataset, device: DeviceContext, freeze_fractions: Sequence[float]
) -> Timing:
    """Time a network on its device at the image size of the recipe, in a few seconds; unfreezes all its layers."""
    size = recipe.image_size
    chosen = np.random.default_rng(recipe.seed).permutation(len(images))[:MANY]
    started = time.monotonic()
    images.take(chosen).load_array(size)
    decode = (time.monotonic() - started) / len(chosen)

    def forward(n: int) -> None:
        with torch.inference_mode(), device.autocast():
            network.eval()(_blank_images(n, size, device))

    steps, train_step = {}, _training_step(network, size, choose_precision(device, network, recipe))
    for fraction in sorted(freeze_fractions):
        freeze_layers(network.requires_grad_(True), fraction)
        set_train_mode(network, from_weights=recipe.weights is not None)
        steps[fraction] = seconds_per_image(train_step, device)
    network.requires_grad_(True)
    return Timing(size, decode, seconds_per_image(forward, device), steps)


def seconds_per_image(work: Callable[[int], None], device: DeviceContext) -> float:
    """Return the seconds that `work`, which takes a number of images, needs for each of them."""

    def time_of(n: int) -> float:
        started = time.monotonic()
        work(n)
        if device.device.type == "cuda":
            torch.cuda.synchronize(device.device)
        return (time.monotonic() - started) / n

    time_of(FEW)
    found = time_of(FEW)
    return time_of(MANY) if found * MANY < _QUICK else found
