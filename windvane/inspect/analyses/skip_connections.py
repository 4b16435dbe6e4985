"""What skip connections carry: their share in every sum.

A sublayer adds a branch f to the skip z. The ratio ||z|| / ||f|| of every token tells which of them the sum follows
(Raghu et al. 2021, figure 8). The branch is read as the sum minus the skip, so that no network need be known beyond
where it adds: timm, torchvision, Hugging Face and torch transformer blocks, and residual blocks of convolutional
networks, where a token is the vector of the channels at one place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from windvane.errors import InputError, unknown
from windvane.inspect.hooks import observe, unwrap
from windvane.inspect.images import image_batches, size_of
from windvane.inspect.panels import BLUE, GREY, ORANGE
from windvane.inspect.plots import axes_for, mark_blocks
from windvane.inspect.tokens import has_class_token, prefix_counts, token_grid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Kind = Literal["attention", "mixing", "mlp", "convolution"]

ATTENTION = ("attn", "attention", "self_attention", "self_attn")  # how libraries call it within a block
MIXING = "mlp_tokens"  # what stands in its place in an MLP-Mixer
SECOND_NORM = ("norm2", "layernorm_after", "ln_2")  # reads the sum of the attention
# Blocks whose norms close the branches, so that the MLP reads the sum: x + norm(mlp(x)).
CLOSING_NORM = ("ResPostBlock", "SwinTransformerV2Block", "EvaBlockPostNorm", "Swinv2Layer")
MLP = ("mlp", "intermediate")
LAST_ACTIVATION = ("act3", "act2", "relu")  # reads the sum of a convolutional block
SAYS_SKIP = ("has_skip", "use_res_connect")  # of inverted residuals in timm and torchvision, which add last


@dataclass(frozen=True)
class Point:
    """A tensor on its way: what a module takes or gives."""

    module: str
    side: Literal["input", "output"]


@dataclass(frozen=True)
class Sublayer:
    """One addition of a branch to a skip.

    Attributes
    ----------
    block
        Module that holds both.
    kind
        What the branch is.
    skip, total
        Where the skip passes, and the sum of both.
    """

    block: str
    kind: Kind
    skip: Point
    total: Point

    @property
    def name(self) -> str:
        """Block and kind."""
        return f"{self.block}.{self.kind}"


def sublayers(model: nn.Module) -> tuple[Sublayer, ...]:
    """Find where a network adds a branch to a skip.

    Parameters
    ----------
    model
        Any network.

    Returns
    -------
    tuple[Sublayer, ...]
        In the order of the modules.

    Raises
    ------
    InputError
        The network has no block of a known form.
    """
    found = [part for name, module in model.named_modules() for part in _of_block(name, module)]
    if not found:
        raise InputError(
            f"no skip connection of a known form was found in {type(model).__name__}: transformer blocks (timm, "
            "torchvision, Hugging Face, torch) and residual blocks of convolutional networks are known."
        )
    return tuple(found)


def _of_block(name: str, module: nn.Module) -> list[Sublayer]:
    enters, leaves = Point(name, "input"), Point(name, "output")
    children = dict(module.named_children())
    second = next((child for child in SECOND_NORM if child in children), None)
    if "norm3" in children and "local_mp" in children:  # XCiT
        local, mlp = Point(f"{name}.norm3", "input"), Point(f"{name}.norm2", "input")
        kinds: tuple[Kind, ...] = ("attention", "mixing", "mlp")
        ends = pairwise((enters, local, mlp, leaves))
        return [Sublayer(name, kind, *points) for kind, points in zip(kinds, ends, strict=True)]
    if "conv2" in children and hasattr(module, "downsample"):
        skip = enters if module.downsample is None else Point(f"{name}.downsample", "output")
        last = next((child for child in LAST_ACTIVATION if child in children), None)
        total = leaves if last is None else Point(f"{name}.{last}", "input")
        return [Sublayer(name, "convolution", skip, total)]
    if "norm3" in children:  # a third branch, which would be taken for a part of the first
        return []
    if second is not None and any(child in children for child in (*ATTENTION, MIXING)):
        if getattr(module, "norm_first", True):
            closing = type(module).__name__ in CLOSING_NORM
            reads_sum = next(child for child in MLP if child in children) if closing else second
            middle = Point(f"{name}.{reads_sum}", "input")
            first_kind: Kind = "mixing" if MIXING in children else "attention"
            both = [Sublayer(name, first_kind, enters, middle), Sublayer(name, "mlp", middle, leaves)]
            return [part for part in both if part.kind not in getattr(module, "removed", ())]
        first = f"{name}.norm1"
        return [
            Sublayer(name, "attention", enters, Point(first, "input")),
            Sublayer(name, "mlp", Point(first, "output"), Point(f"{name}.norm2", "input")),
        ]
    if "conv_dw" in children and "shortcut" in children:  # ConvNeXt
        return [Sublayer(name, "convolution", Point(f"{name}.shortcut", "output"), leaves)]
    if any(getattr(module, said, False) is True for said in SAYS_SKIP):
        return [Sublayer(name, "convolution", enters, leaves)]
    return []


@dataclass(frozen=True)
class SkipRatios:
    """How much of every sum is the skip.

    Attributes
    ----------
    sublayers
        The additions, in the order of the network.
    ratio
        Of each sublayer (tokens,): mean over images of ||skip|| / ||branch||; infinite where the branch adds nothing.
    cosine
        Of each sublayer (tokens,): mean over images of the cosine between the sum and the branch; nan where it adds
        nothing.
    n_prefix
        Of each sublayer: so many tokens come first and have no place.
    n_images
        Averaged over.
    prefix
        What the first of them is: "cls", or "register" where the network has no class token.
    """

    sublayers: tuple[Sublayer, ...]
    ratio: tuple[Floats, ...]
    cosine: tuple[Floats, ...]
    n_prefix: tuple[int, ...]
    n_images: int
    prefix: Literal["cls", "register"] = "cls"

    def to_frame(self) -> pd.DataFrame:
        """Lay it out as a table.

        Returns
        -------
        DataFrame
            A row per sublayer and sort of token: block, depth, kind, tokens ("cls", "register" or "spatial"), ratio,
            cosine.
        """
        import pandas as pd

        rows = []
        parts = zip(self.sublayers, self.ratio, self.cosine, self.n_prefix, strict=True)
        for depth, (part, ratio, cosine, n_prefix) in enumerate(parts):
            sorts: list[tuple[str, slice]] = [("spatial", slice(n_prefix, None))]
            if n_prefix:
                sorts.insert(0, (self.prefix, slice(0, 1)))
            for tokens, where in sorts:
                if not len(ratio[where]):  # class attention goes on with the class token alone
                    continue
                means = float(ratio[where].mean()), float(cosine[where].mean())
                rows.append((part.block, depth, part.kind, tokens, *means))
        return pd.DataFrame(rows, columns=["block", "depth", "kind", "tokens", "ratio", "cosine"])

    def plot(self, ax: Axes | None = None, *, measure: Literal["ratio", "cosine"] = "ratio") -> Figure:
        """Draw the ratio, or the cosine, through the network: class token and places apart.

        Parameters
        ----------
        ax
            Where to draw; a new figure where it is None.
        measure
            "ratio" on a logarithmic axis, or "cosine".

        Returns
        -------
        Figure
            That holds the picture.

        Raises
        ------
        InputError
            An unknown measure.
        """
        if measure not in {"ratio", "cosine"}:
            raise unknown("measure", measure, ("ratio", "cosine"))
        figure, ax = axes_for(ax)
        frame = self.to_frame()
        for tokens, colour in (("spatial", BLUE), (self.prefix, ORANGE)):
            of_sort = frame[frame["tokens"] == tokens]
            for kind, marker in (("attention", "o"), ("mixing", "D"), ("mlp", "s"), ("convolution", "^")):
                rows = of_sort[of_sort["kind"] == kind]
                label = f"{tokens if tokens == 'spatial' else f'{tokens} token'}, {kind}"
                if len(rows):
                    style = "-" if kind != "mlp" else "--"
                    ax.plot(rows["depth"], rows[measure], marker + style, color=colour, label=label)
        if measure == "ratio":
            ax.set_yscale("log")
            ax.axhline(1.0, color=GREY, linewidth=0.8)
        else:
            ax.set_ylim(-1.02, 1.02)
        mark_blocks(ax, "x", [part.block for part in self.sublayers])
        names = {"ratio": "||skip|| / ||branch||", "cosine": "cosine of sum and branch"}
        titles = {"ratio": "What the skip connections carry", "cosine": "Where the branches point"}
        ax.set(ylabel=names[measure], title=titles[measure])
        ax.legend(fontsize="small")
        return figure


class _Norms:
    """Sums over images what every token of every sublayer says, as the network runs."""

    def __init__(self, parts: Sequence[Sublayer]) -> None:
        self.parts = parts
        self.sums: dict[str, Tensor] = {}  # (2, tokens) float64: ratio, cosine
        self.rows: Counter[str] = Counter()  # images, or windows and folded patches of them
        self._passing: dict[Point, Tensor] = {}

    def points(self) -> set[Point]:
        return {point for part in self.parts for point in (part.skip, part.total)}

    def keep(self, point: Point, module: nn.Module, given: Any, output: Any = None) -> None:
        tensor = given if point.side == "input" else output
        while isinstance(tensor, tuple):
            tensor = tensor[0]
        self._passing[point] = tensor.detach().clone()  # what follows may work in place

    def close(self, block: str, module: nn.Module, given: Any, output: Any) -> None:
        mine = [part for part in self.parts if part.block == block]
        for part in mine:
            skip, total = self._passing[part.skip], self._passing[part.total]
            if skip.numel() == total.numel():  # else it adds to a part of what it takes, as class attention does
                found = _ratio_and_cosine(skip.reshape(total.shape), total, 1 if part.kind == "convolution" else -1)
                self.sums[part.name] = self.sums.get(part.name, 0) + found
                self.rows[part.name] += len(total)
        for part in mine:
            self._passing.pop(part.skip, None)
            self._passing.pop(part.total, None)


def _ratio_and_cosine(skip: Tensor, total: Tensor, channels: int) -> Tensor:
    skip, total = (
        part.movedim(channels, -1).flatten(1, -2).double() for part in (skip, total)
    )  # (n, tokens, channels)
    branch = total - skip
    ratio = skip.norm(dim=-1) / branch.norm(dim=-1)  # infinite where the branch adds nothing
    cosine = (total * branch).sum(-1) / (total.norm(dim=-1) * branch.norm(dim=-1))
    return torch.stack([ratio.sum(0), cosine.sum(0)]).cpu()  # (2, tokens)


@contextmanager
def _listening(model: nn.Module, norms: _Norms) -> Iterator[None]:
    with ExitStack() as stack:
        for point in norms.points():
            module, listen = model.get_submodule(point.module), partial(norms.keep, point)
            before = point.side == "input"
            handle = module.register_forward_pre_hook(listen) if before else module.register_forward_hook(listen)
            stack.callback(handle.remove)
        for block in {part.block for part in norms.parts}:  # after the hooks above, which run first
            close = partial(norms.close, block)
            stack.callback(model.get_submodule(block).register_forward_hook(close).remove)
        yield


def skip_ratios(
    model: nn.Module,
    data: Any,
    *,
    batch_size: int = 64,
    n_images: int | None = None,
    n_prefix: int | None = None,
) -> SkipRatios:
    """Measure how much of every sum is the skip.

    Parameters
    ----------
    model
        A network with transformer blocks or residual blocks. Read in evaluation mode.
    data
        Images, or batches of them.
    batch_size
        Images at a time.
    n_images
        At most so many images; all where it is None.
    n_prefix
        Tokens without a place; asked of the network, or found from the size of the images, where it is None.

    Returns
    -------
    SkipRatios
        Per sublayer and token.

    Raises
    ------
    InputError
        The network has no block of a known form, or its tokens do not tile the images.

    Notes
    -----
    Sublayers that add to a part of what they take, as class attention does, are left out.
    """
    model = unwrap(model)
    parts = sublayers(model)
    norms, seen, size = _Norms(parts), 0, (0, 0)
    with _listening(model, norms):
        for batch, images in image_batches(model, data, batch_size, n_images):
            observe(model, batch, lambda place, tensor: None)
            seen, size = seen + len(images), size_of(images)
    ran = tuple(part for part in parts if part.name in norms.sums)
    if not ran:
        raise InputError(f"the blocks of {type(model).__name__} add to a part of what they take, or did not run.")
    means = [(norms.sums[part.name] / norms.rows[part.name]).numpy() for part in ran]
    counts = prefix_counts(model, n_prefix)
    prefixes = tuple(
        0 if part.kind == "convolution" else _n_prefix(mean.shape[1], size, counts)
        for part, mean in zip(ran, means, strict=True)
    )
    prefix: Literal["cls", "register"] = "cls" if has_class_token(model) else "register"
    return SkipRatios(ran, tuple(mean[0] for mean in means), tuple(mean[1] for mean in means), prefixes, seen, prefix)


def _n_prefix(n_tokens: int, image_size: tuple[int, int], counts: Sequence[int]) -> int:
    return 1 if n_tokens == 1 else token_grid(n_tokens, image_size, counts).n_prefix
