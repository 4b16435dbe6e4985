"""What the center of a layer sees: effective receptive fields.

How strongly the features of the central unit depend on every pixel, as Luo et al. (2016) and Raghu et al. (2021, figure
6) have it: here the root of the mean square of the derivatives, over features, input channels and images. One
backward pass per layer is enough for all features: their sum with random signs has a derivative whose expected square
is the sum of the squares, and every image draws its own signs.

What a layer sees with the residual is the field of a sum ("residual"); without it, that of a branch ("attention",
"mlp"), whose own input still holds the residuals of the blocks before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from windvane.inspect.hooks import LayerOutput, explained, observe, slice_batch
from windvane.inspect.images import image_batches, images_in, size_of
from windvane.inspect.panels import mosaic
from windvane.inspect.places import spatial_layers
from windvane.inspect.tokens import TokenGrid, as_tokens, check_by_image, prefix_counts

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

MOST_IMAGES = 32  # the field hardly changes with more


@dataclass(frozen=True)
class ReceptiveFields:
    """Effective receptive fields of the central unit of layers.

    Attributes
    ----------
    layers
        Their names, in order of execution.
    maps
        (layers, height, width): root mean square derivative of the features by each pixel.
    grids
        Where the units of each layer lie; the field is that of ``grid.center``.
    n_images
        Averaged over.
    """

    layers: tuple[str, ...]
    maps: Floats
    grids: tuple[TokenGrid, ...]
    n_images: int

    @property
    def shares(self) -> Floats:
        """(layers, height, width): the maps divided by their sums; nan where a layer depends on no pixel."""
        sums = self.maps.sum((1, 2), keepdims=True)
        shares: Floats = np.divide(self.maps, sums, out=np.full_like(self.maps, np.nan), where=sums > 0)
        return shares

    @property
    def sigma(self) -> Floats:
        """(layers,): standard deviation along one axis about the unit, in pixels: sigma of the Gaussian that fits."""
        rows, columns = self.maps.shape[1:]
        y, x = np.arange(rows)[:, None] + 0.5, np.arange(columns)[None, :] + 0.5  # centers of pixels
        units = [grid.positions()[grid.center].tolist() for grid in self.grids]
        squares = np.stack([(y - unit[0]) ** 2 + (x - unit[1]) ** 2 for unit in units])  # (layers, height, width)
        width: Floats = np.sqrt((self.shares * squares).sum((1, 2)) / 2)
        return width

    @property
    def half_area(self) -> Floats:
        """(layers,): share of the image that holds half of the field; near 0.5 where every pixel counts alike."""
        ordered = -np.sort(-self.shares.reshape(len(self.maps), -1), axis=1)  # nan last
        reached = np.cumsum(ordered, axis=1)
        pixels = (reached < 0.5 - 1e-12).sum(1) + 1
        return np.where(np.isnan(ordered[:, 0]), np.nan, pixels / ordered.shape[1])

    def center_concentration(self, pixels: float) -> Floats:
        """Measure the spike at the center.

        Parameters
        ----------
        pixels
            Side of the square about the unit, the patch of a vision transformer for one.

        Returns
        -------
        ndarray
            (layers,): share of the field within the square, over its share of the image; 1 where every pixel counts
            alike.
        """
        height, width = self.maps.shape[1:]
        y, x = np.arange(height)[:, None] + 0.5, np.arange(width)[None, :] + 0.5
        shares = []
        for share, grid in zip(self.shares, self.grids, strict=True):
            unit = grid.positions()[grid.center].tolist()
            near = (np.abs(y - unit[0]) <= pixels / 2) & (np.abs(x - unit[1]) <= pixels / 2)
            shares.append(share[near].sum() / near.mean())
        return np.array(shares)

    def to_frame(self) -> pd.DataFrame:
        """Lay it out as a table.

        Returns
        -------
        DataFrame
            A row per layer: layer, depth, sigma (pixels), half_area (share of the image).
        """
        import pandas as pd

        depth = np.arange(len(self.layers))
        return pd.DataFrame({"layer": self.layers, "depth": depth, "sigma": self.sigma, "half_area": self.half_area})

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the fields, each from nothing to its own peak; the root shows what is faint.

        Parameters
        ----------
        ax
            Where to draw; a new figure where it is None.

        Returns
        -------
        Figure
            That holds the picture.
        """
        peaks = self.maps.max((1, 2), keepdims=True)
        titles = [f"{name}\n{width:.1f} px" for name, width in zip(self.layers, self.sigma, strict=True)]
        panels = np.divide(self.maps, peaks, out=np.zeros_like(self.maps), where=peaks > 0)
        return mosaic(panels**0.5, titles, ax, title="Effective receptive fields", label="√(sensitivity / peak)")


class _Centers:
    """The features of the central unit of layers, with their graph."""

    def __init__(self, names: Sequence[str], images: Tensor, counts: Sequence[int]) -> None:
        self.features: dict[str, Tensor] = {}  # (n, channels)
        self.grids: dict[str, TokenGrid] = {}
        self._names, self._counts = set(names), counts
        self._n_images, self._image_size = len(images), size_of(images)

    def visit(self, place: LayerOutput, tensor: Tensor) -> None:
        if place.name in self._names:
            check_by_image(tensor, self._n_images, place.name)
            tokens, grid = as_tokens(tensor, self._image_size, self._counts)
            self.features[place.name] = tokens[:, grid.n_prefix + grid.center].clone()  # later layers may write into it
            self.grids[place.name] = grid


def receptive_fields(
    model: nn.Module,
    data: Any,
    layers: str | Sequence[str] = "residual",
    *,
    n_images: int | None = None,
    n_prefix: int | None = None,
    seed: int = 0,
) -> ReceptiveFields:
    """Measure the effective receptive field of the central unit of each layer.

    Parameters
    ----------
    model
        A network whose layers keep places. Read in evaluation mode.
    data
        Images, or batches of them; one batch is taken.
    layers
        As in `layer_names`: "residual" gives fields with the residual, "attention" those without. Those that keep no
        places are left out.
    n_images
        The first ones, in one batch; 32 or all that the data or its first batch has where it is None.
    n_prefix
        Tokens without a place; asked of the network, or found from the size of the images, where it is None.
    seed
        Of the signs.

    Returns
    -------
    ReceptiveFields
        Per layer.

    Raises
    ------
    InputError
        No layer matches or keeps places, or the images do not fit into memory.
    """
    counts = prefix_counts(model, n_prefix)
    batch, _ = next(iter(image_batches(model, data, n_images or MOST_IMAGES, n_images)))
    batch = slice_batch(batch, 0, n_images or MOST_IMAGES)
    images = images_in(batch)
    names = spatial_layers(model, batch, layers, counts)
    watched = images.clone().requires_grad_(True)
    centers = _Centers(names, images, counts)
    given = watched if isinstance(batch, Tensor) else {k: watched if one is images else one for k, one in batch.items()}
    observe(model, given, centers.visit, gradients=True)
    draw = torch.Generator().manual_seed(seed)
    maps = []
    for name in names:
        features = centers.features[name]
        signs = torch.randint(0, 2, features.shape, generator=draw).to(features) * 2 - 1
        with explained(model, given):
            (slope,) = torch.autograd.grad((features * signs).sum(), watched, retain_graph=True)  # as the images
        maps.append((slope.double().square().mean((0, 1)) / features.shape[1]).sqrt().cpu().numpy())
    return ReceptiveFields(names, np.stack(maps), tuple(centers.grids[name] for name in names), len(images))
