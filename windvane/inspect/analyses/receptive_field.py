"""Effective receptive fields: how strongly the central unit of a layer depends on every pixel.

After Luo et al. (2016) and Raghu et al. (2021, figure 6); here the root mean square of the derivatives over features,
input channels and images. One backward pass per layer is enough for all features: their sum with random signs has a
derivative whose expected square is the sum of the squares, and every image draws its own signs.

The field of a residual sum ("residual") includes the skip connection; that of a branch ("attention", "mlp") does not,
but its input still holds the skips of the blocks before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from windvane.inspect.batches import image_batches, image_size, image_tensor, slice_batch
from windvane.inspect.hooks import LayerOutput, explain_failure, observe
from windvane.inspect.layer_selection import spatial_layers
from windvane.inspect.plots import image_grid, relative_to_peaks
from windvane.inspect.result import Axes, Figure, Floats
from windvane.inspect.tokens import TokenGrid, as_tokens, prefix_counts
from windvane.torch_utils import map_tensors

MAX_IMAGES = 32  # the field hardly changes with more


@dataclass(frozen=True)
class ReceptiveFields:
    """Effective receptive fields of the central unit of layers.

    Examples
    --------
    ::

        fields = receptive_fields(vit, images)
        fields.to_frame()[["layer", "sigma"]]
        fields.center_concentration(16)
    """

    layers: tuple[str, ...]  # in the order of execution
    maps: Floats  # (layers, height, width): root mean square derivative of the features by each pixel
    grids: tuple[TokenGrid, ...]  # of each layer; the unit is `grid.center`
    n_images: int

    @property
    def shares(self) -> Floats:
        """The maps divided by their sums, (layers, height, width); NaN for a layer that depends on no pixel."""
        sums = self.maps.sum((1, 2), keepdims=True)
        shares: Floats = np.divide(self.maps, sums, out=np.full_like(self.maps, np.nan), where=sums > 0)
        return shares

    @property
    def sigma(self) -> Floats:
        """Sigma in pixels of the Gaussian around the unit that has the same second moment, (layers,)."""
        y, x = self._offsets()
        sigma: Floats = np.sqrt((self.shares * (y**2 + x**2)).sum((1, 2)) / 2)
        return sigma

    @property
    def half_area(self) -> Floats:
        """Fraction of the image that holds half of the field, (layers,); near 0.5 where every pixel counts alike."""
        ordered = -np.sort(-self.shares.reshape(len(self.maps), -1), axis=1)  # NaN last
        cumulative = np.cumsum(ordered, axis=1)
        n_pixels = (cumulative < 0.5 - 1e-12).sum(1) + 1
        return np.where(np.isnan(ordered[:, 0]), np.nan, n_pixels / ordered.shape[1])

    def center_concentration(self, pixels: float) -> Floats:
        """Measure the peak of the field around the unit.

        Parameters
        ----------
        pixels
            Side of a square around the unit, for example the patch size of a vision transformer.

        Returns
        -------
        ndarray
            (layers,): share of the field within the square over its share of the image; 1 where every pixel counts
            alike.
        """
        y, x = self._offsets()
        near = (np.abs(y) <= pixels / 2) & (np.abs(x) <= pixels / 2)  # (layers, height, width)
        return np.array([share[one].sum() / one.mean() for share, one in zip(self.shares, near, strict=True)])

    def _offsets(self) -> tuple[Floats, Floats]:
        """Distances of the centers of pixels from the unit: (layers, height, 1) and (layers, 1, width)."""
        height, width = self.maps.shape[1:]
        units = np.array([grid.positions()[grid.center].tolist() for grid in self.grids])  # (layers, 2)
        y, x = np.arange(height) + 0.5 - units[:, :1], np.arange(width) + 0.5 - units[:, 1:]
        return y[:, :, None], x[:, None, :]

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer: layer, depth, sigma (pixels), half_area (fraction of the image)."""
        depth = np.arange(len(self.layers))
        return pd.DataFrame({"layer": self.layers, "depth": depth, "sigma": self.sigma, "half_area": self.half_area})

    def plot(self, ax: Axes | None = None) -> Figure:
        """The fields, each from zero to its own peak; the square root shows faint parts."""
        titles = [f"{name}\n{sigma:.1f} px" for name, sigma in zip(self.layers, self.sigma, strict=True)]
        images = relative_to_peaks(self.maps) ** 0.5
        return image_grid(images, titles, ax, title="Effective receptive fields", label="√(sensitivity / peak)")


@torch.inference_mode(False)
@torch.enable_grad()
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
        A network with spatial layers. It runs in evaluation mode.
    data
        Images, or batches of them, of which one is used.
    layers
        As in `layer_names`: "residual" gives fields with the skip connection, "attention" those without. Layers that
        are not spatial are left out.
    n_images
        Use the first so many images, in one batch; None uses 32, or all of the data or of its first batch.
    n_prefix
        As in `attention_distance`.
    seed
        Of the random signs.

    Returns
    -------
    ReceptiveFields
        For each layer.

    Examples
    --------
    ::

        receptive_fields(resnet, images, "block").plot()
    """
    counts = prefix_counts(model, n_prefix)
    batch, _ = next(iter(image_batches(model, data, n_images or MAX_IMAGES, n_images)))
    batch = slice_batch(batch, 0, n_images or MAX_IMAGES)
    images = image_tensor(batch)
    grids = spatial_layers(model, batch, layers, counts)
    pixels = images.clone().requires_grad_(True)
    inputs = map_tensors(lambda tensor: pixels if tensor is images else tensor, batch)
    units: dict[str, Tensor] = {}  # features of the central unit of each layer, (n, channels)

    def on_output(output: LayerOutput, tensor: Tensor) -> None:
        if output.name in grids:
            tokens, grid = as_tokens(tensor, image_size(images), counts)
            units[output.name] = tokens[:, grid.n_prefix + grid.center].clone()  # later layers may write into it

    observe(model, inputs, on_output, gradients=True)
    generator = torch.Generator().manual_seed(seed)
    maps = []
    for name in grids:
        features = units[name]
        signs = torch.randint(0, 2, features.shape, generator=generator).to(features) * 2 - 1
        with explain_failure(model, inputs):
            (gradient,) = torch.autograd.grad((features * signs).sum(), pixels, retain_graph=True)  # as the images
        maps.append((gradient.double().square().mean((0, 1)) / features.shape[1]).sqrt().cpu().numpy())
    return ReceptiveFields(tuple(grids), np.stack(maps), tuple(grids.values()), len(images))
