"""A network without the skip connections of one block, and how far it falls into two groups of layers.

Trained without the skips of block i, a vision transformer has two groups of layers, those before the block and those
from it on, similar within and dissimilar across (Raghu et al. 2021, figure 9).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from torch import Tensor, nn

from windvane.errors import InputError, check_choice, unknown_name_error
from windvane.inspect.plots import heat_map
from windvane.inspect.result import Axes, Figure
from windvane.inspect.similarity.comparison import Comparison
from windvane.torch_utils import check_module

Removed = Literal["attention", "mlp"]
Branch = Callable[..., Tensor]

RESIDUAL_BLOCKS = ("timm.BasicBlock", "timm.Bottleneck", "torchvision.BasicBlock", "torchvision.Bottleneck")


def _timm_attention(block: Any, x: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    attended = block.attn(block.norm1(x), attn_mask=mask, is_causal=is_causal)
    branch: Tensor = block.drop_path1(block.ls1(attended))
    return branch


def _torchvision_attention(block: Any, x: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    normed = block.ln_1(x)
    branch: Tensor = block.dropout(block.self_attention(normed, normed, normed, need_weights=False)[0])
    return branch


_TRANSFORMERS: tuple[Branch, Branch] = (
    lambda block, x, mask, _: block.dropout(block.attention(block.layernorm_before(x), mask)[0]),
    lambda block, x: block.dropout(block.mlp(block.layernorm_after(x))),
)

# What each sublayer of a block (library and class) adds to the tokens (n, tokens, channels).
BRANCHES: dict[str, tuple[Branch, Branch]] = {
    "timm.Block": (_timm_attention, lambda block, x: block.drop_path2(block.ls2(block.mlp(block.norm2(x))))),
    "torchvision.EncoderBlock": (_torchvision_attention, lambda block, x: block.mlp(block.ln_2(x))),
    "transformers.ViTLayer": _TRANSFORMERS,
    "transformers.DeiTLayer": _TRANSFORMERS,
}


class BlockWithoutSkip(nn.Module):
    """A transformer block with the same weights, whose sublayers replace the tokens instead of adding to them."""

    def __init__(self, block: nn.Module, removed: Sequence[Removed]) -> None:
        super().__init__()
        for name, child in block.named_children():
            self.add_module(name, child)
        self.stands_for = type(block)  # so that it is found among its siblings
        self.removed = tuple(removed)

    def forward(
        self,
        x: Tensor,
        attention_mask: Tensor | None = None,
        *,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Apply both sublayers to tokens (n, tokens, channels); the mask has two names, of two libraries."""
        attention, mlp = BRANCHES[_kind(self.stands_for)]
        branch = attention(self, x, attention_mask if attn_mask is None else attn_mask, is_causal)
        x = branch if "attention" in self.removed else x + branch
        branch = mlp(self, x)
        return branch if "mlp" in self.removed else x + branch


class NoShortcut(nn.Module):
    """Stands in the place of a residual block's shortcut, with its weights, and adds zero."""

    def __init__(self, shortcut: nn.Module | None) -> None:
        super().__init__()
        for name, child in () if shortcut is None else shortcut.named_children():
            self.add_module(name, child)

    def forward(self, x: Tensor) -> Tensor:
        """Return one zero."""
        return x.new_zeros(())


def without_skip(model: nn.Module, block: str, removed: Sequence[Removed] | None = None) -> nn.Module:
    """Copy a network without the skip connections of one block, to train it (Raghu et al. 2021, figure 9).

    Parameters
    ----------
    model
        A vision transformer of timm, torchvision or Hugging Face transformers (ViT, DeiT), or a ResNet of timm or
        torchvision; it stays as it is.
    block
        Name of the block, such as ``"blocks.5"`` or ``"layer2.1"``.
    removed
        Which of "attention" and "mlp" lose their skip; None for both, and for the one skip of a residual block.

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
    check_module(model)
    blocks = {name: _kind(type(module)) for name, module in model.named_modules()}
    blocks = {name: kind for name, kind in blocks.items() if kind in BRANCHES or kind in RESIDUAL_BLOCKS}
    if not blocks:
        raise InputError(
            f"model: {type(model).__name__} has no block whose skips can be removed. Allowed: vision transformers of "
            "timm, torchvision and transformers, ResNets of timm and torchvision."
        )
    check_choice("block", block, blocks)
    changed = copy.deepcopy(model)
    found: Any = changed.get_submodule(block)
    if blocks[block] in RESIDUAL_BLOCKS:
        if removed is not None:
            raise InputError(f"removed={removed!r}: {block} is a residual block with one skip. Allowed: None.")
        found.downsample = NoShortcut(found.downsample)
        found.removed = ("convolution",)
        return changed
    for sublayer in removed or ():
        check_choice("removed", sublayer, ("attention", "mlp"))
    without = BlockWithoutSkip(found, ("attention", "mlp") if removed is None else removed)
    without._forward_hooks = found._forward_hooks  # a classifier layer may read the block
    changed.set_submodule(block, without)
    return changed


def _kind(block: type) -> str:
    """Library and name of a class."""
    return f"{block.__module__.partition('.')[0]}.{block.__name__}"


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
