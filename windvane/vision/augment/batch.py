"""One training batch: crops and RandAugment on bytes, normalization, then Mixup; everything on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from windvane.vision.augment.augreg import AUGREG_LEVELS
from windvane.vision.augment.crop import crop_batch
from windvane.vision.augment.mixup import mixup
from windvane.vision.augment.randaugment import rand_augment
from windvane.vision.recipe import Recipe


def augment_batch(
    images: Tensor, labels: Tensor, n_classes: int, recipe: Recipe, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return float32 pixels (n, 3, s, s) and targets (n, k), whose rows sum to 1, of uint8 images and labels (n,)."""
    # A generator of the CPU spares a GPU the wait for what was drawn.
    level = AUGREG_LEVELS[recipe.augreg]
    augmented = rand_augment(crop_batch(images, recipe, generator), level, generator)
    pixels = normalize(augmented, recipe)
    targets = F.one_hot(labels, n_classes).to(pixels.dtype)  # (n, k)
    if level.mixup_alpha:
        return mixup(pixels, targets, level.mixup_alpha, generator)
    return pixels, targets


def normalize(images: Tensor, recipe: Recipe) -> Tensor:
    """Return float32 pixels, normalized as in the recipe and channels last in memory, of uint8 images (n, 3, h, w)."""
    mean, std = (torch.tensor(one, device=images.device)[:, None, None] * 255.0 for one in recipe.normalization)
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)
