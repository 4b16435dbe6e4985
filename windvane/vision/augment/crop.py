"""Crops and horizontal flips of whole batches on their device, with a draw for each image."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from windvane.vision.augment.operations import GREY
from windvane.vision.recipe import Recipe

_SHIFT_PART = 8  # a shift is by up to this part of the side
_ASPECT = (3 / 4, 4 / 3)  # least and most width / height of a crop


def crop_batch(images: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Crop and random_horizontal_flip each image of a batch as the recipe says.

    Parameters
    ----------
    images
        uint8, shape (n, c, s, s).
    recipe
        Its crop, smallest crop and flip count.
    generator
        Of the CPU or the images' device.

    Returns
    -------
    Tensor
        uint8, the same shape.
    """
    if recipe.crop == "random_shift":
        images = random_shift(images, max(1, images.shape[-1] // _SHIFT_PART), generator)
    elif recipe.crop == "random_resized_crop":
        images = random_resized_crop(images, recipe.min_crop_area, generator)
    return random_horizontal_flip(images, generator) if recipe.horizontal_flip else images


def random_shift(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Move each image by up to `most` pixels along both sides; grey comes in.

    Parameters
    ----------
    images
        uint8, shape (n, c, h, w).
    most
        Pixels.
    generator
        Of the CPU or the images' device.

    Returns
    -------
    Tensor
        The same shape.
    """
    n, _, height, width = images.shape
    padded = F.pad(images, (most, most, most, most), value=GREY)  # (n, c, h + 2m, w + 2m)
    starts = torch.randint(2 * most + 1, (2, n), generator=generator, device=generator.device).to(images.device)
    rows = starts[0, :, None] + torch.arange(height, device=images.device)  # (n, h)
    columns = starts[1, :, None] + torch.arange(width, device=images.device)  # (n, w)
    each = torch.arange(n, device=images.device)
    moved = padded[each[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
    return moved.permute(0, 3, 1, 2).contiguous()  # (n, c, h, w)


def random_resized_crop(images: Tensor, smallest: float, generator: torch.Generator) -> Tensor:
    """Cut a random part out of each image and enlarge it to the whole.

    The part has an area between `smallest` and 1 of the image's and a ratio of its sides between 3/4 and 4/3, cut to
    the image where it is too long; bilinear.

    Parameters
    ----------
    images
        uint8, shape (n, c, h, w).
    smallest
        Share of the area.
    generator
        Of the CPU or the images' device.

    Returns
    -------
    Tensor
        The same shape.
    """
    n = len(images)
    draws = torch.rand(4, n, generator=generator, device=generator.device).to(images.device)
    heights, widths = sample_crop_size(draws[0], draws[1], smallest)
    # In the coordinates of grid_sample an image reaches from -1 to 1.
    shift_y, shift_x = (1.0 - heights) * (2.0 * draws[2] - 1.0), (1.0 - widths) * (2.0 * draws[3] - 1.0)
    zero = torch.zeros_like(heights)
    maps = torch.stack([widths, zero, shift_x, zero, heights, shift_y], dim=1).view(n, 2, 3)
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)  # (n, h, w, 2)
    cut = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.round_().clamp_(0, 255).to(torch.uint8)


def sample_crop_size(areas: Tensor, aspects: Tensor, smallest: float) -> tuple[Tensor, Tensor]:
    """Turn draws between 0 and 1 into heights and widths of parts, as shares of the image's.

    Parameters
    ----------
    areas, aspects
        Draws, of one shape.
    smallest
        Share of the area.

    Returns
    -------
    heights, widths
        Of that shape, at most 1.
    """
    area = smallest + (1.0 - smallest) * areas
    low, high = (math.log(ratio) for ratio in _ASPECT)
    root = torch.exp(0.5 * (low + (high - low) * aspects))
    return (area.sqrt() / root).clamp(max=1.0), (area.sqrt() * root).clamp(max=1.0)


def random_horizontal_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror half of the images of shape (n, c, h, w), left to right."""
    chosen = torch.rand(len(images), generator=generator, device=generator.device).to(images.device) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)
