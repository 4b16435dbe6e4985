"""Which tokens of a layer stand for which part of the image.

A layer that keeps places speaks in one of two ways: tokens (n, tokens, channels), of which the first ones (class,
distillation and register tokens) have no place, or a map (n, channels, rows, columns). Here both become tokens with
a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from windvane.errors import InputError, unknown

SQUARE = 1.25  # between the sides of a patch at most, where maps of odd sizes are rounded
ANY_COUNT = tuple(range(17))  # tokens without a place that are looked for

Pooling = Literal["cls", "mean", "center"] | int
POOLINGS = ("cls", "mean", "center")


@dataclass(frozen=True)
class TokenGrid:
    """The tokens of one layer: first those without a place, then the image row by row.

    Attributes
    ----------
    n_prefix
        Number of tokens without a place.
    rows, columns
        Of the grid of the others.
    patch_height, patch_width
        Distance of two neighbours in pixels of the input.
    """

    n_prefix: int
    rows: int
    columns: int
    patch_height: float
    patch_width: float

    @property
    def n_patches(self) -> int:
        """Number of tokens with a place."""
        return self.rows * self.columns

    @property
    def center(self) -> int:
        """Position of the central token, or of the one below and right of the center where rows or columns are even."""
        return (self.rows // 2) * self.columns + self.columns // 2

    def positions(self) -> Tensor:
        """Find the center of every place.

        Returns
        -------
        Tensor
            (places, 2) float64: y and x in pixels from the upper left corner of the image.
        """
        y = (torch.arange(self.rows, dtype=torch.float64) + 0.5) * self.patch_height
        x = (torch.arange(self.columns, dtype=torch.float64) + 0.5) * self.patch_width
        return torch.cartesian_prod(y, x)

    def distances(self) -> Tensor:
        """Measure how far any two places lie apart.

        Returns
        -------
        Tensor
            (places, places) float64: Euclidean distances of the centers in pixels.
        """
        at = self.positions()
        return torch.cdist(at, at, compute_mode="donot_use_mm_for_euclid_dist")


def prefix_counts(model: nn.Module, given: int | None = None) -> tuple[int, ...]:
    """Tell how many tokens of a layer may have no place.

    Parameters
    ----------
    model
        Any network; one of timm says how many it has, though not all of its layers need have them.
    given
        What is known.

    Returns
    -------
    tuple of int
        To be tried in turn: what was given; or what the network says, then all numbers up to 16.
    """
    said = getattr(model, "num_prefix_tokens", None)
    if given is not None:
        return (given,)
    return (said, *ANY_COUNT) if isinstance(said, int) else ANY_COUNT


def has_class_token(model: nn.Module) -> bool:
    """Tell whether the first token without a place is a class token, or a register.

    Parameters
    ----------
    model
        Any network; those that do not say are taken to have one.

    Returns
    -------
    bool
        False for networks of timm with registers alone, which pool over places.
    """
    if getattr(model, "has_class_token", True) is False:
        return False
    return getattr(model, "cls_token", model) is not None


def token_grid(n_tokens: int, image_size: tuple[int, int], counts: Sequence[int] = ANY_COUNT) -> TokenGrid:
    """Lay the tokens of a layer out over the image.

    Parameters
    ----------
    n_tokens
        Tokens of the layer, all of them.
    image_size
        Height and width of the input in pixels.
    counts
        How many tokens may have no place: the first number with which the others tile the image counts.

    Returns
    -------
    TokenGrid
        Its patches are square.

    Raises
    ------
    InputError
        The tokens do not tile the image.
    """
    height, width = image_size
    for prefix in counts:
        places = n_tokens - prefix
        rows = round(math.sqrt(max(places, 0) * height / width))
        columns = places // max(rows, 1)
        if places > 1 and rows * columns == places and rows * width == columns * height:
            return TokenGrid(prefix, rows, columns, height / rows, width / columns)
    given = f"{counts[0]} tokens without a place" if len(counts) == 1 else f"up to {max(counts)} left out"
    raise InputError(
        f"{n_tokens} tokens ({given}) do not tile an image of {height} x {width} pixels in square patches: "
        "give n_prefix, the number of class, distillation and register tokens, or images of another size."
    )


def as_tokens(
    output: Tensor, image_size: tuple[int, int], counts: Sequence[int] = ANY_COUNT
) -> tuple[Tensor, TokenGrid]:
    """See what a layer gives as tokens, whether it is a transformer or a convolutional network.

    Parameters
    ----------
    output
        (n, tokens, channels), or a map (n, channels, rows, columns), or (n, rows, columns, channels) where only so the
        map has the shape of the images.
    image_size
        Height and width of the input in pixels.
    counts
        As in `token_grid`. In maps every unit has a place.

    Returns
    -------
    tuple[Tensor, TokenGrid]
        (n, tokens, channels) and where the tokens lie.

    Raises
    ------
    InputError
        The layer keeps no places, or they do not tile the image.
    """
    if output.ndim == 4:
        if not _fits(output.shape[2:], image_size) and _fits(output.shape[1:3], image_size):
            output = output.permute(0, 3, 1, 2)
        rows, columns = output.shape[2:]
        grid = TokenGrid(0, rows, columns, image_size[0] / rows, image_size[1] / columns)
        return output.flatten(2).transpose(1, 2), grid
    if output.ndim == 3:
        return output, token_grid(output.shape[1], image_size, counts)
    raise InputError(
        f"a layer gives {tuple(output.shape)}; tokens (n, tokens, channels) or a map (n, channels, rows, columns) are "
        "needed: choose layers before the network pools."
    )


def _fits(shape: Sequence[int], image_size: tuple[int, int]) -> bool:
    """Whether rows and columns over the images make patches that are nearly square."""
    return 1 / SQUARE < image_size[0] * shape[1] / (shape[0] * image_size[1]) < SQUARE


def check_by_image(output: Tensor, n_images: int, layer: str) -> None:
    """Refuse a layer in which several rows belong to one image.

    Parameters
    ----------
    output
        (n, ...)
    n_images
        In the batch.
    layer
        Its name.

    Raises
    ------
    InputError
        The layer has more rows than images: windows, or folded patches.
    """
    if len(output) != n_images:
        raise InputError(
            f"layer {layer!r} gives {tuple(output.shape)} for {n_images} images: it sees windows or folded patches. "
            "Allowed: layers with a row for each image."
        )


def pool_tokens(tokens: Tensor, grid: TokenGrid, pooling: Pooling) -> Tensor:
    """Make one vector of the tokens of each image.

    Parameters
    ----------
    tokens
        (n, tokens, channels)
    grid
        Where they lie.
    pooling
        "cls" is the first token, "mean" the mean over those with a place, "center" the central one of them; a
        number the one at this place, counted row by row from 0.

    Returns
    -------
    Tensor
        (n, features)

    Raises
    ------
    InputError
        An unknown pooling, a place outside the grid, or the class token of a network that has none.
    """
    spatial = tokens[:, grid.n_prefix :]  # (n, places, channels)
    if pooling == "cls":
        if not grid.n_prefix:
            raise InputError("pooling='cls' needs a network with a class token; this one has tokens of places only.")
        return tokens[:, 0]
    if pooling == "mean":
        return spatial.mean(1)
    if pooling == "center":
        return spatial[:, grid.center]
    if isinstance(pooling, int):
        if not 0 <= pooling < grid.n_patches:
            raise InputError(f"pooling={pooling} is no place. Allowed: 0 to {grid.n_patches - 1}.")
        return spatial[:, pooling]
    raise unknown("pooling", pooling, POOLINGS)
