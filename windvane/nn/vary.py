"""A batch of training: crops, AugReg's operations, the network's range of pixels, Mixup. All on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from windvane.nn.augment import AUGREG_LEVELS, rand_augment
from windvane.nn.crop import crop_batch
from windvane.nn.mixup import mixup
from windvane.nn.recipe import Recipe


def vary(
    images: Tensor, labels: Tensor, n_classes: int, recipe: Recipe, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Make of a batch what the network learns from.

    Parameters
    ----------
    images
        uint8, shape (n, 3, s, s).
    labels
        Numbers of classes, shape (n,).
    n_classes
        How many there are.
    recipe
        Its crop, AugReg level and range of pixels count.
    generator
        Of the CPU, which spares a GPU the wait for what was drawn.

    Returns
    -------
    pixels, targets
        float32, shapes (n, 3, s, s) and (n, k); a row of targets adds up to 1.
    """
    level = AUGREG_LEVELS[recipe.augreg]
    varied = rand_augment(crop_batch(images, recipe, generator), level, generator)
    pixels = scale_pixels(varied, recipe)
    targets = F.one_hot(labels, n_classes).to(pixels.dtype)  # (n, k)
    if level.mixup:
        return mixup(pixels, targets, level.mixup, generator)
    return pixels, targets


def scale_pixels(images: Tensor, recipe: Recipe) -> Tensor:
    """Bring pixels from 0 to 255 into the network's range.

    Parameters
    ----------
    images
        uint8, shape (n, 3, h, w).
    recipe
        Its mean and std count.

    Returns
    -------
    Tensor
        float32, the same shape, channels last in memory.
    """
    mean = torch.tensor(recipe.mean, device=images.device)[:, None, None] * 255.0
    std = torch.tensor(recipe.std, device=images.device)[:, None, None] * 255.0
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)
