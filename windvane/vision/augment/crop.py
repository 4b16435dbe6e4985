"""Crops and horizontal flips of whole uint8 batches (n, c, h, w) on their device, drawn for each image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from windvane.vision.augment.operations import GRAY
from windvane.vision.recipe import Recipe

_SHIFT_DIVISOR = 8  # a shift is by at most this fraction of the image size
_ASPECT_RATIOS = (3 / 4, 4 / 3)  # smallest and largest width / height of a crop


def crop_batch(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Crop and flip each image of a batch as the recipe says."""
    if recipe.crop == "random_shift":
        images = random_shift(images, max(1, images.shape[-1] // _SHIFT_DIVISOR), generator)
    elif recipe.crop == "random_resized_crop":
        images = random_resized_crop(images, recipe.min_crop_area, generator)
    return random_horizontal_flip(images, generator) if recipe.horizontal_flip else images


def random_shift(images: Tensor, max_shift: int, generator: torch.Generator) -> Tensor:
    """Move each image by up to `max_shift` pixels along both axes; the uncovered border is gray."""
    n, _, height, width = images.shape
    padded = F.pad(images, (max_shift, max_shift, max_shift, max_shift), value=GRAY)  # (n, c, h + 2m, w + 2m)
    starts = torch.randint(2 * max_shift + 1, (2, n), generator=generator, device=generator.device).to(images.device)
    rows = starts[0, :, None] + torch.arange(height, device=images.device)  # (n, h)
    columns = starts[1, :, None] + torch.arange(width, device=images.device)  # (n, w)
    each = torch.arange(n, device=images.device)
    moved = padded[each[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
    return moved.permute(0, 3, 1, 2).contiguous()  # (n, c, h, w)


def random_resized_crop(images: Tensor, min_area: float, generator: torch.Generator) -> Tensor:
    """Crop each image to a random box of `sample_crop_size` and resize it to the size of the image; bilinear."""
    n = len(images)
    draws = torch.rand(4, n, generator=generator, device=generator.device).to(images.device)
    heights, widths = sample_crop_size(draws[0], draws[1], min_area)
    # In the coordinates of grid_sample an image reaches from -1 to 1.
    shift_y, shift_x = (1.0 - heights) * (2.0 * draws[2] - 1.0), (1.0 - widths) * (2.0 * draws[3] - 1.0)
    zero = torch.zeros_like(heights)
    maps = torch.stack([widths, zero, shift_x, zero, heights, shift_y], dim=1).view(n, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)  # (n, h, w, 2)
    crops = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return crops.round_().clamp_(0, 255).to(torch.uint8)


def sample_crop_size(areas: Tensor, aspects: Tensor, min_area: float) -> tuple[Tensor, Tensor]:
    """Turn uniform draws into heights and widths of crops, as fractions of the image, at most 1."""
    # The area is uniform between `min_area` and 1, the aspect ratio log-uniform between 3/4 and 4/3.
    area = min_area + (1.0 - min_area) * areas
    low, high = (math.log(ratio) for ratio in _ASPECT_RATIOS)
    root = torch.exp(0.5 * (low + (high - low) * aspects))
    return (area.sqrt() / root).clamp(max=1.0), (area.sqrt() * root).clamp(max=1.0)


def random_horizontal_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image left to right with probability 0.5."""
    flipped = torch.rand(len(images), generator=generator, device=generator.device).to(images.device) < 0.5
    return torch.where(flipped[:, None, None, None], images.flip(-1), images)
