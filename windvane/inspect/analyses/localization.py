"""Whether the tokens of the last layer still stand for their part of the image (Raghu et al. 2021, figures 10 to 12).

CKA between one token of a layer (n images by channels) and the pixels of one input patch (n images by pixels), for all
tokens and patches. A token that kept its position is most similar to its own patch. Vision transformers that are
trained with a class token keep it, those with average pooling much less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.batches import Batch, image_batches, image_size, leave_out_small
from windvane.inspect.hooks import LayerOutput, observe
from windvane.inspect.layer_selection import spatial_layers
from windvane.inspect.plots import image_grid
from windvane.inspect.result import Axes, Figure, Floats, long_frame
from windvane.inspect.similarity.cka import CKA
from windvane.inspect.tokens import TokenGrid, as_tokens, prefix_counts


@dataclass(frozen=True)
class Localization:
    """Similarity of every token of a layer to every patch of the input.

    Examples
    --------
    ::

        tokens = localization(vit, images)
        tokens.hit_rate, tokens.contrast
    """

    layer: str
    # (tokens, patches), both row by row over the image: unbiased linear CKA; NaN where a token or a patch is the same
    # in all images.
    similarity: Floats
    grid: TokenGrid
    n_images: int

    @property
    def own_patch_similarity(self) -> Floats:
        """Similarity of each token to its own patch, (tokens,)."""
        return np.diagonal(self.similarity).copy()

    @property
    def contrast(self) -> float:
        """Mean similarity to the own patch minus mean similarity to the others."""
        others = self.similarity[~np.eye(len(self.similarity), dtype=bool)]
        return float(np.nanmean(self.own_patch_similarity) - np.nanmean(others))

    @property
    def peak_distance(self) -> float:
        """Mean distance in pixels from a token to its most similar patch."""
        tokens, peaks = self._peaks()
        return float(self.grid.distances().numpy()[tokens, peaks].mean()) if len(tokens) else float("nan")

    @property
    def hit_rate(self) -> float:
        """Fraction of the tokens whose most similar patch is their own."""
        tokens, peaks = self._peaks()
        return float((peaks == tokens).mean()) if len(tokens) else float("nan")

    def _peaks(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The tokens that resemble any patch, and the most similar patch of each; others are the same in all images."""
        tokens = np.flatnonzero(~np.isnan(self.similarity).all(1))
        return tokens, np.nan_to_num(self.similarity[tokens], nan=-np.inf).argmax(1)

    def to_frame(self) -> pd.DataFrame:
        """One row for each token and patch.

        Columns: token_row, token_column, patch_row, patch_column, distance (in pixels), similarity.
        """
        rows, columns = range(self.grid.rows), range(self.grid.columns)
        index = {"token_row": rows, "token_column": columns, "patch_row": rows, "patch_column": columns}
        return long_frame(index, {"distance": self.grid.distances().numpy(), "similarity": self.similarity})

    def plot(self, ax: Axes | None = None) -> Figure:
        """Similarity of nine tokens, from corner to corner, to all patches."""
        rows, columns = (sorted({0, n // 2, n - 1}) for n in (self.grid.rows, self.grid.columns))
        chosen = [(row, column) for row in rows for column in columns]
        maps = self.similarity.reshape(-1, self.grid.rows, self.grid.columns)
        maps = np.stack([maps[row * self.grid.columns + column] for row, column in chosen]).clip(0, 1)
        titles = [f"token {row + 1}, {column + 1}" for row, column in chosen]
        title = f"{self.layer}: tokens and input patches"
        return image_grid(maps, titles, ax, title=title, label="CKA with the patch", max_columns=len(columns))


def localization(
    model: nn.Module,
    data: Any,
    layer: str | None = None,
    *,
    batch_size: int = 256,
    n_images: int | None = None,
    n_prefix: int | None = None,
) -> Localization:
    """Compare every token of a layer with every patch of the input.

    Parameters
    ----------
    model
        A network with spatial layers; a position of a feature map counts as a token.
    data
        Images, or batches of them; some hundreds are needed for a clear picture.
    layer
        Name of one layer; None uses the last spatial block.
    batch_size, n_images, n_prefix
        As in `attention_distance`; HSIC is averaged over batches, and those of fewer than four images are left out,
        with a warning.

    Returns
    -------
    Localization
        Unbiased linear CKA of tokens with patches.

    Examples
    --------
    ::

        localization(vit, images, "blocks.11").plot()
    """
    counts = prefix_counts(model, n_prefix)
    accumulator, grid, name = CKA(), None, ""
    for batch, images in leave_out_small(image_batches(model, data, batch_size, n_images)):
        if not name:
            *_, name = spatial_layers(model, batch, "block" if layer is None else layer, counts, min_patches=2)
        output = _layer_output(model, batch, name)
        tokens, grid = as_tokens(output, image_size(images), counts)
        patches = _cut_patches(images, grid)
        of_tokens = {str(i): tokens[:, grid.n_prefix + i] for i in range(grid.n_patches)}
        accumulator.update(of_tokens, {str(i): patches[:, i] for i in range(grid.n_patches)})
    assert grid is not None  # data without enough images raises
    return Localization(name, accumulator.matrix().values, grid, accumulator.n_images)


def _layer_output(model: nn.Module, batch: Batch, name: str) -> Tensor:
    found: list[Tensor] = []

    def on_output(output: LayerOutput, tensor: Tensor) -> None:
        if output.name == name:
            found.append(tensor.clone())  # later layers may write into it

    observe(model, batch, on_output)
    return found[0]


def _cut_patches(images: Tensor, grid: TokenGrid) -> Tensor:
    """Pixels of the patches of a grid: (n, patches, channels * height * width of a patch)."""
    height, width = image_size(images)
    if height % grid.rows or width % grid.columns:
        raise InputError(
            f"images of {height} x {width} pixels do not divide into {grid.rows} x {grid.columns} patches. "
            f"Allowed: heights in steps of {grid.rows} and widths in steps of {grid.columns}."
        )
    size = (height // grid.rows, width // grid.columns)
    return F.unfold(images, size, stride=size).transpose(1, 2).contiguous()  # (n, patches, c * y * x)
