"""Whether the last layer still knows where things are.

CKA between one token of a layer (n images by channels) and the pixels of one input patch (n images by pixels), for all
tokens and patches (Raghu et al. 2021, figures 10 to 12). A token that kept its place is most alike to its own patch.
Trained with a class token vision transformers keep it, trained with average pooling much less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.hooks import Batch, LayerOutput, observe
from windvane.inspect.images import image_batches, size_of
from windvane.inspect.panels import mosaic
from windvane.inspect.places import spatial_layers
from windvane.inspect.similarity.cka import CKA
from windvane.inspect.tokens import TokenGrid, as_tokens, check_by_image, prefix_counts

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Localization:
    """How alike every token of a layer is to every patch of the input.

    Attributes
    ----------
    layer
        Whose tokens.
    similarity
        (tokens, patches): unbiased linear CKA; both row by row over the image. NaN where a patch or a token is the same
        in all images.
    grid
        Where they lie.
    n_images
        Compared over.
    """

    layer: str
    similarity: Floats
    grid: TokenGrid
    n_images: int

    @property
    def own_patch_similarity(self) -> Floats:
        """(tokens,): similarity of each token to its own patch."""
        return np.diagonal(self.similarity).copy()

    @property
    def contrast(self) -> float:
        """Mean similarity to the own patch minus mean similarity to the others."""
        others = self.similarity[~np.eye(len(self.similarity), dtype=bool)]
        return float(np.nanmean(self.own_patch_similarity) - np.nanmean(others))

    @property
    def peak_distance(self) -> float:
        """Mean distance in pixels from a token to the patch it is most alike to."""
        return float(self.grid.distances().numpy()[np.arange(len(self.similarity)), self._peaks].mean())

    @property
    def hit_rate(self) -> float:
        """Share of the tokens that are most alike to their own patch."""
        return float((self._peaks == np.arange(len(self.similarity))).mean())

    @property
    def _peaks(self) -> NDArray[np.intp]:
        peaks: NDArray[np.intp] = np.nan_to_num(self.similarity, nan=-np.inf).argmax(1)
        return peaks

    def to_frame(self) -> pd.DataFrame:
        """Lay it out as a table.

        Returns
        -------
        DataFrame
            A row per token and patch: token_row, token_column, patch_row, patch_column, distance (pixels), similarity.
        """
        import pandas as pd

        token, patch = (index.ravel() for index in np.indices(self.similarity.shape))
        columns = self.grid.columns
        return pd.DataFrame(
            {
                "token_row": token // columns,
                "token_column": token % columns,
                "patch_row": patch // columns,
                "patch_column": patch % columns,
                "distance": self.grid.distances().numpy().ravel(),
                "similarity": self.similarity.ravel(),
            }
        )

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the similarity of nine tokens, from corner to corner, to all patches.

        Parameters
        ----------
        ax
            Where to draw; a new figure where it is None.

        Returns
        -------
        Figure
            That holds the picture.
        """
        rows, columns = (sorted({0, n // 2, n - 1}) for n in (self.grid.rows, self.grid.columns))
        chosen = [(row, column) for row in rows for column in columns]
        panels = self.similarity.reshape(-1, self.grid.rows, self.grid.columns)
        panels = np.stack([panels[row * self.grid.columns + column] for row, column in chosen])
        titles = [f"token {row + 1}, {column + 1}" for row, column in chosen]
        title = f"{self.layer}: tokens beside input patches"
        return mosaic(panels.clip(0, 1), titles, ax, title=title, label="CKA with the patch", across=len(columns))


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
        A network whose layers keep places; a place of a map is a token, too.
    data
        Images, or batches of them; some hundreds are needed for a quiet picture.
    layer
        Name of one layer; the last block that keeps places where it is None.
    batch_size
        Images at a time, 4 or more; HSIC is averaged over batches.
    n_images
        The first ones; all where it is None.
    n_prefix
        Tokens without a place; asked of the network, or found from the size of the images, where it is None.

    Returns
    -------
    Localization
        Unbiased linear CKA of tokens with patches.

    Raises
    ------
    InputError
        The layer keeps no places, or its grid does not divide the images.
    """
    counts = prefix_counts(model, n_prefix)
    alignment, grid, name = CKA(), None, ""
    for batch, images in image_batches(model, data, batch_size, n_images):
        name = name or spatial_layers(model, batch, "block" if layer is None else layer, counts, fewest=2)[-1]
        output = _output(model, batch, name)
        check_by_image(output, len(images), name)
        tokens, grid = as_tokens(output, size_of(images), counts)
        patches = _patches(images, grid)
        left = {str(place): tokens[:, grid.n_prefix + place] for place in range(grid.n_patches)}
        alignment.update(left, {str(place): patches[:, place] for place in range(grid.n_patches)})
    assert grid is not None  # data without images raises
    return Localization(name, alignment.matrix().values, grid, alignment.n_images)


def _output(model: nn.Module, batch: Batch, name: str) -> Tensor:
    kept: list[Tensor] = []

    def visit(place: LayerOutput, tensor: Tensor) -> None:
        if place.name == name:
            kept.append(tensor.clone())  # later layers may write into it

    observe(model, batch, visit)
    return kept[0]


def _patches(images: Tensor, grid: TokenGrid) -> Tensor:
    """Cut images at the grid: (n, places, pixels of a patch in all channels)."""
    height, width = size_of(images)
    if height % grid.rows or width % grid.columns:
        raise InputError(
            f"images of {height} x {width} pixels do not divide into {grid.rows} x {grid.columns} patches. "
            f"Allowed: heights in steps of {grid.rows} and widths in steps of {grid.columns}."
        )
    n_images, channels = images.shape[:2]
    cut = images.reshape(n_images, channels, grid.rows, height // grid.rows, grid.columns, width // grid.columns)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (n, rows * columns, c * y * x)
