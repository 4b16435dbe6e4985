"""Mean attention distance: how far every head looks, in pixels (Raghu et al. 2021, figure 3).

For a query patch the distance to every patch is weighted by attention, then averaged over queries and images. Tokens
without a position (class, distillation, registers) are left out as queries and as keys, and the weights over patches
are scaled to sum to one; what the patches attend to the others is reported as `prefix_attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.analyses.attention import observe_heads
from windvane.inspect.batches import image_batches, image_size
from windvane.inspect.plots import BLUE, GREY, figure_and_axes, label_blocks
from windvane.inspect.result import Axes, Figure, Floats
from windvane.inspect.tokens import TokenGrid, prefix_counts, token_grid

LOCAL_FRACTION = 0.5  # a head is local if it looks less far than this fraction of uniform attention


@dataclass(frozen=True)
class AttentionDistance:
    """Mean attention distance of the heads of a network.

    Examples
    --------
    ::

        distance = attention_distance(vit, images)
        distance.distances[0] / distance.uniform_distance  # heads of the first layer
        distance.local_heads()[0]
    """

    layers: tuple[str, ...]  # modules that compute attention, in the order of execution
    distances: tuple[Floats, ...]  # of each layer (heads,), in pixels
    prefix_attention: tuple[Floats, ...]  # of each layer (heads,): attention of patches to tokens without a position
    grid: TokenGrid
    n_images: int

    @property
    def uniform_distance(self) -> float:
        """Distance of a head that attends to all patches alike, in pixels."""
        return float(self.grid.distances().mean())

    def local_heads(self, below: float = LOCAL_FRACTION) -> tuple[NDArray[np.bool_], ...]:
        """Tell local heads from global ones.

        Parameters
        ----------
        below
            A head is local if its distance is below this fraction of `uniform_distance`.

        Returns
        -------
        tuple[ndarray, ...]
            Of each layer (heads,).
        """
        return tuple(distance < below * self.uniform_distance for distance in self.distances)

    def to_frame(self) -> pd.DataFrame:
        """One row for each layer and head: layer, depth, head, distance, prefix_attention, local."""
        frames = []
        parts = zip(self.layers, self.distances, self.prefix_attention, self.local_heads(), strict=True)
        for depth, (layer, distance, prefix, local) in enumerate(parts):
            columns = {"head": range(len(distance)), "distance": distance, "prefix_attention": prefix, "local": local}
            frames.append(pd.DataFrame({"layer": layer, "depth": depth, **columns}))
        return pd.concat(frames, ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Distance of every head by layer, beside that of uniform attention."""
        figure, ax = figure_and_axes(ax)
        frame, uniform = self.to_frame(), self.uniform_distance
        ax.plot(frame["depth"], frame["distance"], "o", color=BLUE, alpha=0.8, label="a head")
        means = [float(distance.mean()) for distance in self.distances]
        ax.plot(range(len(means)), means, "-", color=BLUE, alpha=0.5, label="mean of the heads")
        ax.axhline(uniform, color=GREY, linestyle="--", label="uniform attention")
        ax.axhline(LOCAL_FRACTION * uniform, color=GREY, linestyle=":", label="local below")
        label_blocks(ax, "x", self.layers)
        ax.set(
            ylabel="mean attention distance (pixels)",
            ylim=(0, 1.1 * max(frame["distance"].max(), uniform)),
            title="How far the heads look",
        )
        ax.legend(loc="lower right", fontsize="small")
        return figure


def attention_distance(
    model: nn.Module,
    data: Any,
    layers: str | Sequence[str] = "*",
    *,
    batch_size: int = 64,
    n_images: int | None = None,
    n_prefix: int | None = None,
) -> AttentionDistance:
    """Measure the mean attention distance of every head.

    Parameters
    ----------
    model
        Any network with self-attention over the tokens of an image.
    data
        Images, or batches of them.
    layers
        Globs over the names of modules that compute attention.
    batch_size
        Images at a time; the attention weights of one layer are in memory together.
    n_images
        Use the first so many images; None uses all.
    n_prefix
        Number of tokens without a position; None asks the network, or finds it from the size of the images.

    Returns
    -------
    AttentionDistance
        For each layer and head, in pixels of the input.

    Examples
    --------
    ::

        attention_distance(vit, images, "blocks.*").plot()
    """
    counts, size = prefix_counts(model, n_prefix), (0, 0)
    grid: TokenGrid | None = None
    sums: dict[str, Tensor] = {}  # of each layer (2, heads): distance, attention to tokens without a position
    n_seen = 0

    def on_weights(name: str, weights: Tensor) -> None:
        nonlocal grid
        own_grid = token_grid(weights.shape[-1], size, counts)
        if grid is not None and grid != own_grid:
            raise InputError(
                f"layers: {name} has a grid of {own_grid.rows} x {own_grid.columns} patches, earlier ones have "
                f"{grid.rows} x {grid.columns}. Allowed: layers, and images, of one grid, as in "
                f"layers={next(iter(sums))!r}."
            )
        grid = own_grid
        sums[name] = sums.get(name, 0) + _distances(weights, grid).sum(1).cpu()

    for batch, images in image_batches(model, data, batch_size, n_images):
        size = image_size(images)
        observe_heads(model, batch, layers, on_weights=on_weights)
        n_seen += len(images)
    assert grid is not None  # data without images raises
    distances, prefix_attention = zip(*((part / n_seen).numpy() for part in sums.values()), strict=True)
    return AttentionDistance(tuple(sums), distances, prefix_attention, grid, n_seen)


def _distances(weights: Tensor, grid: TokenGrid) -> Tensor:
    """Mean distance in pixels and attention to tokens without a position: (2, n, heads) float64."""
    among = weights[:, :, grid.n_prefix :, grid.n_prefix :]  # (n, heads, patches, patches)
    mass = among.sum(-1, dtype=torch.float64)  # (n, heads, patches)
    reach = (among * grid.distances().to(weights)).sum(-1, dtype=torch.float64)
    tiny = torch.finfo(torch.float64).tiny
    return torch.stack([(reach / mass.clamp_min(tiny)).mean(-1), 1 - mass.mean(-1)])
