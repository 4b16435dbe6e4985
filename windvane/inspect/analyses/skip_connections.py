"""What skip connections carry: their share in every sum.

A sublayer adds a branch f to the skip z. The ratio ||z|| / ||f|| of every token says which of them the sum follows
(Raghu et al. 2021, figure 8). The branch is computed as the sum minus the skip, so only the place of the addition must
be known: in transformer blocks of timm, torchvision, Hugging Face and torch, and in residual blocks of convolutional
networks, where a token is the vector of the channels at one position.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import pandas as pd
import torch
from torch import Tensor, nn

from windvane.errors import InputError, check_choice
from windvane.inspect.batches import Size, image_batches, image_size
from windvane.inspect.hooks import observe, tensors_in
from windvane.inspect.plots import BLUE, GREY, VERMILION, figure_and_axes, label_blocks
from windvane.inspect.result import Axes, Figure, Floats
from windvane.inspect.tokens import has_class_token, prefix_counts, token_grid
from windvane.torch_utils import unwrap_model

Kind = Literal["attention", "mixing", "mlp", "convolution"]

ATTENTION = ("attn", "attention", "self_attention", "self_attn")  # names that libraries give it within a block
MIXING = "mlp_tokens"  # in place of attention in an MLP-Mixer
SECOND_NORM = ("norm2", "layernorm_after", "ln_2")  # takes the sum of the attention
# Blocks in which norms end the branches, so that the MLP takes the sum: x + norm(mlp(x)).
POST_NORM_BLOCKS = (
    "ResPostBlock",
    "SwinTransformerV2Block",  # timm
    "SwinTransformerBlockV2",  # torchvision
    "EvaBlockPostNorm",
    "Swinv2Layer",
)
MLP = ("mlp", "intermediate")
LAST_ACTIVATION = ("act3", "act2", "act", "relu", "activation")  # takes the sum of a convolutional block
ADDS_LAST = ("NormFreeBlock",)  # convolutional blocks whose activations all come before the sum
SKIP_FLAGS = ("has_skip", "use_res_connect")  # of inverted residuals in timm and torchvision, which add last
TOKEN_LABELS = {"spatial": "spatial tokens", "cls": "class token", "register": "register token"}  # in the figure


@dataclass(frozen=True)
class ModuleTensor:
    """A tensor that a module takes or returns."""

    module: str
    side: Literal["input", "output"]


@dataclass(frozen=True)
class Sublayer:
    """One addition of a branch to a skip."""

    block: str  # module that holds both
    kind: Kind  # of the branch
    skip: ModuleTensor
    total: ModuleTensor  # the sum

    @property
    def name(self) -> str:
        """Block and kind."""
        return f"{self.block}.{self.kind}"


@dataclass(frozen=True)
class SkipRatios:
    """Share of the skip in every residual sum.

    Examples
    --------
    ::

        ratios = skip_ratios(vit, images)
        ratios.to_frame().groupby(["kind", "tokens"])["ratio"].median()
        ratios.plot(measure="cosine")
    """

    sublayers: tuple[Sublayer, ...]  # the additions, in the order of the network
    # Of each (tokens,): mean over images of ||skip|| / ||branch||; infinite for a zero branch.
    ratio: tuple[Floats, ...]
    # Of each (tokens,): mean over images of the cosine of sum and branch; NaN for a zero branch.
    cosine: tuple[Floats, ...]
    n_prefix: tuple[int, ...]  # of each: so many tokens come first and have no position
    n_images: int
    prefix: Literal["cls", "register"] = "cls"  # the first of them; "register" if the network has no class token

    def to_frame(self) -> pd.DataFrame:
        """One row for each sublayer and sort of token.

        Columns: block, depth, kind, tokens ("cls", "register" or "spatial"), ratio, cosine.
        """
        rows = []
        parts = zip(self.sublayers, self.ratio, self.cosine, self.n_prefix, strict=True)
        for depth, (sublayer, ratio, cosine, n_prefix) in enumerate(parts):
            first: list[tuple[str, slice]] = [(self.prefix, slice(0, 1))] if n_prefix else []
            for tokens, where in [*first, ("spatial", slice(n_prefix, None))]:
                if len(ratio[where]):  # class attention continues with the class token alone
                    means = float(ratio[where].mean()), float(cosine[where].mean())
                    rows.append((sublayer.block, depth, sublayer.kind, tokens, *means))
        return pd.DataFrame(rows, columns=["block", "depth", "kind", "tokens", "ratio", "cosine"])

    def plot(self, ax: Axes | None = None, *, measure: Literal["ratio", "cosine"] = "ratio") -> Figure:
        """Draw the ratio, or the cosine, through the network; class token and spatial tokens apart.

        Parameters
        ----------
        ax
            Axes to draw on; None makes a new figure.
        measure
            "ratio" on a logarithmic axis, or "cosine".

        Returns
        -------
        matplotlib.figure.Figure
            The figure of the axes.
        """
        check_choice("measure", measure, ("ratio", "cosine"))
        figure, ax = figure_and_axes(ax)
        frame = self.to_frame()
        for tokens, color in (("spatial", BLUE), (self.prefix, VERMILION)):
            of_sort = frame[frame["tokens"] == tokens]
            for kind, style in (("attention", "o-"), ("mixing", "D-"), ("mlp", "s--"), ("convolution", "^-")):
                rows = of_sort[of_sort["kind"] == kind]
                if len(rows):
                    ax.plot(rows["depth"], rows[measure], style, color=color, label=f"{TOKEN_LABELS[tokens]}, {kind}")
        if measure == "ratio":
            ax.set_yscale("log")
            ax.axhline(1.0, color=GREY, linewidth=0.8)
            ax.set(ylabel="||skip|| / ||branch||", title="What the skip connections carry")
        else:
            ax.set_ylim(-1.02, 1.02)
            ax.set(ylabel="cosine of sum and branch", title="Where the branches point")
        label_blocks(ax, "x", [sublayer.block for sublayer in self.sublayers])
        ax.legend(fontsize="small")
        return figure


def skip_ratios(
    model: nn.Module, data: Any, *, batch_size: int = 64, n_images: int | None = None, n_prefix: int | None = None
) -> SkipRatios:
    """Measure the share of the skip in every residual sum.

    Parameters
    ----------
    model
        A network with transformer blocks or residual blocks. It runs in evaluation mode.
    data
        Images, or batches of them.
    batch_size, n_images, n_prefix
        As in `attention_distance`.

    Returns
    -------
    SkipRatios
        For each sublayer and token. Sublayers that add to a part of their input, as class attention does, are left out.

    Examples
    --------
    ::

        skip_ratios(vit, images).plot()
    """
    model = unwrap_model(model)
    sublayers = find_sublayers(model)
    norms, n_seen, size = _Norms(model, sublayers), 0, (0, 0)
    for batch, images in image_batches(model, data, batch_size, n_images):
        observe(model, batch, on_enter=norms.on_enter, on_exit=norms.on_exit)
        n_seen, size = n_seen + len(images), image_size(images)
    ran = tuple(sublayer for sublayer in sublayers if sublayer.name in norms.sums)
    if not ran:
        raise InputError(f"the blocks of {type(model).__name__} add to a part of their input, or did not run.")
    means = [(norms.sums[sublayer.name] / norms.n_rows[sublayer.name]).numpy() for sublayer in ran]
    counts = prefix_counts(model, n_prefix)
    prefixes = tuple(
        0 if sublayer.name in norms.of_maps else _count_prefix(mean.shape[1], size, counts)
        for sublayer, mean in zip(ran, means, strict=True)
    )
    prefix: Literal["cls", "register"] = "cls" if has_class_token(model) else "register"
    return SkipRatios(ran, tuple(mean[0] for mean in means), tuple(mean[1] for mean in means), prefixes, n_seen, prefix)


def _count_prefix(n_tokens: int, size: Size, counts: Sequence[int]) -> int:
    # Class attention continues with the class token alone.
    return 1 if n_tokens == 1 else token_grid(n_tokens, size, counts).n_prefix


class _Norms:
    """Sums ratio and cosine of every token of every sublayer over images, as the network runs."""

    def __init__(self, model: nn.Module, sublayers: Sequence[Sublayer]) -> None:
        self.sums: dict[str, Tensor] = {}  # by sublayer (2, tokens) float64: ratio, cosine
        self.of_maps: set[str] = set()  # sublayers that add maps, in which every token has a position
        self.n_rows: Counter[str] = Counter()  # images, or windows and folded patches of them
        self._by_block: dict[str, list[Sublayer]] = {}
        for sublayer in sublayers:
            self._by_block.setdefault(sublayer.block, []).append(sublayer)
        self._wanted = {point for sublayer in sublayers for point in (sublayer.skip, sublayer.total)}
        self._tensors: dict[ModuleTensor, Tensor] = {}
        self._widths = {sublayer.block: _channels_of(model.get_submodule(sublayer.block)) for sublayer in sublayers}

    def on_enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._keep(ModuleTensor(path, "input"), args)

    def on_exit(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._keep(ModuleTensor(path, "output"), output)
        for sublayer in self._by_block.get(path, ()):
            skip, total = self._tensors.get(sublayer.skip), self._tensors.get(sublayer.total)
            # Class attention adds to a part of its input; a part of a block may not have run.
            if skip is None or total is None or skip.numel() != total.numel():
                continue
            if total.ndim == 4:
                self.of_maps.add(sublayer.name)
            sums = _ratio_and_cosine(skip.reshape(total.shape), total, self._channel_axis(sublayer, total))
            self.sums[sublayer.name] = self.sums.get(sublayer.name, 0) + sums
            self.n_rows[sublayer.name] += len(total)
        for sublayer in self._by_block.get(path, ()):
            self._tensors.pop(sublayer.skip, None)
            self._tensors.pop(sublayer.total, None)

    def _channel_axis(self, sublayer: Sublayer, total: Tensor) -> int:
        """Channels come last in tokens, but first in the maps of convolutions and of some transformers."""
        if sublayer.kind == "convolution":
            return 1
        width = self._widths[sublayer.block]
        return 1 if total.ndim == 4 and width == total.shape[1] != total.shape[-1] else -1

    def _keep(self, point: ModuleTensor, value: Any) -> None:
        if point in self._wanted:
            tensor = next((tensor for _, tensor in tensors_in(value)), None)
            if tensor is not None:
                self._tensors[point] = tensor.detach().clone()  # later layers may write into it


def _channels_of(block: nn.Module) -> int | None:
    """Number of channels of a transformer block: of the weights of its second norm."""
    norm = next((child for name, child in block.named_children() if name in SECOND_NORM), None)
    weight = getattr(norm, "weight", None)
    return len(weight) if isinstance(weight, Tensor) and weight.ndim == 1 else None


def _ratio_and_cosine(skip: Tensor, total: Tensor, channels: int) -> Tensor:
    """Sums over images, (2, tokens)."""
    skip, total = (one.movedim(channels, -1).flatten(1, -2).double() for one in (skip, total))  # (n, tokens, channels)
    branch = total - skip
    ratio = skip.norm(dim=-1) / branch.norm(dim=-1)  # infinite for a zero branch
    cosine = (total * branch).sum(-1) / (total.norm(dim=-1) * branch.norm(dim=-1))
    return torch.stack([ratio.sum(0), cosine.sum(0)]).cpu()


def find_sublayers(model: nn.Module) -> tuple[Sublayer, ...]:
    """Where a network adds a branch to a skip, in the order of its modules."""
    found = [
        sublayer
        for name, module in model.named_modules()
        for sublayer in _sublayers_of(name, module)
        if sublayer.kind not in getattr(module, "removed", ())  # by `without_skip`
    ]
    if not found:
        raise InputError(
            f"model: {type(model).__name__} has no known skip connection. Allowed: transformer blocks (timm, "
            "torchvision, Hugging Face, torch) and residual blocks of convolutional networks."
        )
    return tuple(found)


def _sublayers_of(name: str, module: nn.Module) -> list[Sublayer]:
    """The additions in a module, if it is a block of a known form."""
    block_input, block_output = ModuleTensor(name, "input"), ModuleTensor(name, "output")
    children = dict(module.named_children())

    def input_of(child: str) -> ModuleTensor:
        return ModuleTensor(f"{name}.{child}", "input")

    if "norm3" in children and "local_mp" in children:  # XCiT
        points = (block_input, input_of("norm3"), input_of("norm2"), block_output)
        kinds: tuple[Kind, ...] = ("attention", "mixing", "mlp")
        return [Sublayer(name, kind, *ends) for kind, ends in zip(kinds, pairwise(points), strict=True)]
    if "conv2" in children and hasattr(module, "downsample"):
        skip = block_input if module.downsample is None else ModuleTensor(f"{name}.downsample", "output")
        return [Sublayer(name, "convolution", skip, _sum_of_convolutions(name, module, children))]
    if {"f", "activation"} <= children.keys() and hasattr(module, "proj"):  # RegNet of torchvision
        skip = ModuleTensor(f"{name}.proj", "output") if "proj" in children else block_input
        return [Sublayer(name, "convolution", skip, _sum_of_convolutions(name, module, children))]
    # A third branch, or a convolution between the two, which would be taken for a part of the first.
    if "norm3" in children or "cpe2" in children:
        return []
    second_norm = next((child for child in SECOND_NORM if child in children), None)
    if second_norm is not None and any(child in children for child in (*ATTENTION, MIXING)):
        if not getattr(module, "norm_first", True):
            return [
                Sublayer(name, "attention", block_input, input_of("norm1")),
                Sublayer(name, "mlp", ModuleTensor(f"{name}.norm1", "output"), input_of("norm2")),
            ]
        post_norm = type(module).__name__ in POST_NORM_BLOCKS
        middle = input_of(next(child for child in MLP if child in children) if post_norm else second_norm)
        first: Kind = "mixing" if MIXING in children else "attention"
        return [Sublayer(name, first, block_input, middle), Sublayer(name, "mlp", middle, block_output)]
    if "conv_dw" in children and "shortcut" in children:  # ConvNeXt
        return [Sublayer(name, "convolution", ModuleTensor(f"{name}.shortcut", "output"), block_output)]
    if {"block", "stochastic_depth"} <= children.keys() and hasattr(module, "layer_scale"):  # that of torchvision
        return [Sublayer(name, "convolution", block_input, block_output)]
    if any(getattr(module, flag, False) is True for flag in SKIP_FLAGS):
        return [Sublayer(name, "convolution", block_input, block_output)]
    return []


def _sum_of_convolutions(name: str, block: nn.Module, children: Mapping[str, nn.Module]) -> ModuleTensor:
    """Where a convolutional block has its sum: before the last activation, or at its end."""
    last = next((child for child in LAST_ACTIVATION if child in children), None)
    if last is None or type(block).__name__ in ADDS_LAST:
        return ModuleTensor(name, "output")
    return ModuleTensor(f"{name}.{last}", "input")
