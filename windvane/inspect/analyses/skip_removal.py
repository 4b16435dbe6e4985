"""A network without the skip connections of one block, and how far it falls into two groups of layers.

Trained without the skips of block i, a vision transformer has two groups of layers, those before the block and those
from it on, similar within and dissimilar across (Raghu et al. 2021, figure 9).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from windvane.errors import InputError, unknown_name_error
from windvane.inspect.plots import heat_map
from windvane.inspect.similarity.comparison import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Removed = Literal["attention", "mlp"]


class BlockWithoutSkip(nn.Module):
    """A block of timm with the same weights, whose sublayers replace the tokens instead of adding to them."""

    stands_for = Block  # so that it is found among its siblings

    norm1: nn.Module
    attn: nn.Module
    ls1: nn.Module
    drop_path1: nn.Module
    norm2: nn.Module
    mlp: nn.Module
    ls2: nn.Module
    drop_path2: nn.Module

    def __init__(self, block: Block, removed: Sequence[Removed]) -> None:
        super().__init__()
        for name, child in block.named_children():
            self.add_module(name, child)
        self.removed = tuple(removed)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Apply both sublayers to tokens (n, tokens, channels)."""
        attended = self.attn(self.norm1(x), attn_mask=attn_mask, is_causal=is_causal)
        branch: Tensor = self.drop_path1(self.ls1(attended))
        x = branch if "attention" in self.removed else x + branch
        branch = self.drop_path2(self.ls2(self.mlp(self.norm2(x))))
        return branch if "mlp" in self.removed else x + branch


def without_skip(model: nn.Module, block: str, removed: Sequence[Removed] = ("attention", "mlp")) -> nn.Module:
    """Copy a network without the skip connections of one block, to train it (Raghu et al. 2021, figure 9).

    Parameters
    ----------
    model
        A vision transformer of timm; it stays as it is.
    block
        Name of the block, such as ``"blocks.5"``.
    removed
        Which of "attention" and "mlp" lose their skip.

    Returns
    -------
    torch.nn.Module
        A deep copy with the same names and weights. It is of no use untrained: later blocks expect the skip.

    Examples
    --------
    ::

        model = without_skip(vit, "blocks.5")  # now train it
        partition(compare(model, model, images), "blocks.5").gap
    """
    blocks = [name for name, module in model.named_modules() if type(module) is Block]
    if not blocks:
        raise InputError(f"without_skip needs blocks of timm's vision transformer; {type(model).__name__} has none.")
    if block not in blocks:
        raise unknown_name_error("block", block, blocks)
    for sublayer in removed:
        if sublayer not in {"attention", "mlp"}:
            raise unknown_name_error("removed", sublayer, ("attention", "mlp"))
    changed = copy.deepcopy(model)
    changed.set_submodule(block, BlockWithoutSkip(changed.get_submodule(block), removed))
    return changed


@dataclass(frozen=True)
class Partition:
    """How far the layers before a block and those from it on form two groups.

    Examples
    --------
    ::

        parts = partition(compare(model, model, images), "blocks.5")
        parts.within, parts.across, parts.gap
    """

    comparison: Comparison  # of the network with itself
    block: str  # where the second group begins
    boundary: int  # number of layers before it

    @property
    def within(self) -> tuple[float, float]:
        """Mean similarity of two different layers before the block, and of two from it on; NaN for a single layer."""
        values, cut = self.comparison.values, self.boundary
        return _mean_of_pairs(values[:cut, :cut]), _mean_of_pairs(values[cut:, cut:])

    @property
    def across(self) -> float:
        """Mean similarity of a layer before the block and one from it on."""
        return float(np.nanmean(self.comparison.values[: self.boundary, self.boundary :]))

    @property
    def gap(self) -> float:
        """Mean similarity within the groups minus that across; near 0 where the block divides nothing."""
        return float(np.nanmean(self.within)) - self.across

    def to_frame(self) -> pd.DataFrame:
        """Mean similarity of the pairs of layers before, after and across the block: pairs, similarity."""
        return pd.DataFrame({"pairs": ["before", "after", "across"], "similarity": [*self.within, self.across]})

    def plot(self, ax: Axes | None = None) -> Figure:
        """Heat map of the similarities, with lines where the block begins."""
        figure, ax = heat_map(self.comparison.values, *self.comparison.layers, ax)
        for line in (ax.axhline, ax.axvline):
            line(self.boundary - 0.5, color="white", linewidth=1.2)
            line(self.boundary - 0.5, color="black", linewidth=1.2, linestyle=":")
        ax.set_title(f"before and from {self.block} on: gap {self.gap:.2f}", fontsize=10)
        return figure


def _mean_of_pairs(values: np.ndarray) -> float:
    """Mean over pairs of different layers."""
    pairs = values[~np.eye(len(values), dtype=bool)]
    return float(np.nanmean(pairs)) if np.isfinite(pairs).any() else float("nan")


def partition(comparison: Comparison, block: str) -> Partition:
    """Split the layers of a network at a block.

    Parameters
    ----------
    comparison
        Of a network with itself, from `compare`.
    block
        Name of the block that begins the second group, such as ``"blocks.5"``.

    Returns
    -------
    Partition
        Similarities within and across the groups.

    Examples
    --------
    ::

        partition(compare(model, model, images), "blocks.5").plot()
    """
    layers, others = comparison.layers
    if layers != others:
        raise InputError("comparison is of networks with different layers. Allowed: that of a network with itself.")
    inside = [i for i, name in enumerate(layers) if name == block or name.startswith((f"{block}.", f"{block}#"))]
    if not inside:
        raise unknown_name_error("block", block, layers)
    if inside[0] == 0:
        raise InputError(f"block={block!r} begins with the first layer compared. Allowed: a later block.")
    return Partition(comparison, block, inside[0])
