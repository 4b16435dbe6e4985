"""Which tokens of a layer stand for which part of the image.

A spatial layer returns tokens (n, tokens, channels), of which the first ones (class, distillation and register tokens)
have no position, or a map (n, channels, rows, columns). Here both become tokens with a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from windvane.errors import InputError, unknown_name_error
from windvane.inspect.batches import Size
from windvane.pages.texts import counted
from windvane.torch_utils import unwrap_model

MAX_ASPECT_RATIO = 1.25  # of a patch, where maps of odd sizes are rounded
PREFIX_COUNTS = tuple(range(17))  # numbers of tokens without a position that are tried

Pooling = Literal["cls", "mean", "center"] | int
POOLINGS = ("cls", "mean", "center")


@dataclass(frozen=True)
class TokenGrid:
    """The tokens of one layer: first those without a position, then the patches of the image row by row.

    Examples
    --------
    >>> grid = TokenGrid(n_prefix=1, rows=14, columns=14, patch_height=16, patch_width=16)
    >>> grid.n_patches, grid.center
    (196, 105)
    """

    n_prefix: int  # tokens without a position
    rows: int
    columns: int
    patch_height: float  # distance of two neighbours in pixels of the input
    patch_width: float

    @property
    def n_patches(self) -> int:
        """Number of tokens with a position."""
        return self.rows * self.columns

    @property
    def center(self) -> int:
        """Index of the central patch; below and right of the center where rows or columns are even."""
        return (self.rows // 2) * self.columns + self.columns // 2

    def positions(self) -> Tensor:
        """Centers of the patches, (patches, 2) float64: y and x in pixels from the upper left corner of the image."""
        y = (torch.arange(self.rows, dtype=torch.float64) + 0.5) * self.patch_height
        x = (torch.arange(self.columns, dtype=torch.float64) + 0.5) * self.patch_width
        return torch.cartesian_prod(y, x)

    def distances(self) -> Tensor:
        """Euclidean distances between the centers of all patches, (patches, patches) float64, in pixels."""
        centers = self.positions()
        return torch.cdist(centers, centers, compute_mode="donot_use_mm_for_euclid_dist")


def prefix_counts(model: nn.Module, n_prefix: int | None = None) -> tuple[int, ...]:
    """Numbers of tokens without a position to try: the given one, or that of a timm model, then 0 to 16."""
    if n_prefix is not None:
        return (n_prefix,)
    declared = getattr(unwrap_model(model), "num_prefix_tokens", None)
    return (declared, *PREFIX_COUNTS) if isinstance(declared, int) else PREFIX_COUNTS


def has_class_token(model: nn.Module) -> bool:
    """Whether the first token without a position is a class token; false for networks of timm with registers alone."""
    network = unwrap_model(model)
    if getattr(network, "has_class_token", True) is False:
        return False
    return getattr(network, "cls_token", network) is not None


def token_grid(n_tokens: int, size: Size, counts: Sequence[int] = PREFIX_COUNTS) -> TokenGrid:
    """Grid of square patches; the first of `counts` with which the other tokens tile the image has no position."""
    height, width = size
    for n_prefix in counts:
        n_patches = n_tokens - n_prefix
        rows = round(math.sqrt(max(n_patches, 0) * height / width))
        columns = n_patches // max(rows, 1)
        if n_patches > 1 and rows * columns == n_patches and rows * width == columns * height:
            return TokenGrid(n_prefix, rows, columns, height / rows, width / columns)
    tried = counted(counts[0], "token") if len(counts) == 1 else f"up to {max(counts)}"
    raise InputError(
        f"{n_tokens} tokens ({tried} without a position) do not tile an image of {height} x {width} pixels in square "
        "patches. Allowed: n_prefix=, the number of class, distillation and register tokens, or images of another size."
    )


def as_tokens(output: Tensor, size: Size, counts: Sequence[int] = PREFIX_COUNTS) -> tuple[Tensor, TokenGrid]:
    """View the output of a spatial layer as tokens (n, tokens, channels), with their grid."""
    # `output` is (n, tokens, channels), a map (n, channels, rows, columns), or (n, rows, columns, channels) where only
    # this reading has the aspect ratio of the images.
    if output.ndim == 4:
        if channels_last(output.shape, size):
            output = output.permute(0, 3, 1, 2)
        rows, columns = output.shape[2:]
        return output.flatten(2).transpose(1, 2), TokenGrid(0, rows, columns, size[0] / rows, size[1] / columns)
    if output.ndim == 3:
        return output, token_grid(output.shape[1], size, counts)
    raise InputError(
        f"a layer returns {tuple(output.shape)}. Allowed: tokens (n, tokens, channels) or a map (n, channels, rows, "
        "columns); choose layers before the network pools."
    )


def channels_last(shape: Sequence[int], size: Size) -> bool:
    """Whether a map can only be read as (n, rows, columns, channels)."""
    return not fits(shape[2:], size) and fits(shape[1:3], size)


def fits(shape: Sequence[int], size: Size) -> bool:
    """Whether rows and columns divide an image into patches that are nearly square."""
    return 1 / MAX_ASPECT_RATIO < size[0] * shape[1] / (shape[0] * size[1]) < MAX_ASPECT_RATIO


def pool_tokens(tokens: Tensor, grid: TokenGrid, pooling: Pooling) -> Tensor:
    """One vector for each image, (n, channels)."""
    # "cls" is the first token, "mean" the mean of the patches, "center" the central one, a number one patch by index.
    patches = tokens[:, grid.n_prefix :]  # (n, patches, channels)
    if pooling == "cls":
        if not grid.n_prefix:
            raise InputError("pooling='cls' needs a network with a class token; all tokens of this one are patches.")
        return tokens[:, 0]
    if pooling == "mean":
        return patches.mean(1)
    if pooling == "center":
        return patches[:, grid.center]
    if isinstance(pooling, int):
        if not 0 <= pooling < grid.n_patches:
            raise InputError(f"pooling={pooling} is not a patch. Allowed: 0 to {grid.n_patches - 1}.")
        return patches[:, pooling]
    raise unknown_name_error("pooling", pooling, POOLINGS)
