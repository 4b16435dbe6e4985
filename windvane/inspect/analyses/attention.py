"""Where attention looks: the weights of every head, and how far it looks in pixels.

Fused attention never forms its weights. Here the fused kernels are switched off while one batch runs, so that torch
itself computes softmax(q k' / sqrt(d) + mask) from the same q, k and mask, and that softmax is read as it passes.
Networks need not be changed or known: timm, torchvision, Hugging Face, `torch.nn.MultiheadAttention`, relative
positions, rotations and normalised queries all end in it.

Mean attention distance is that of Raghu et al. (2021), figure 3: for a query patch, the distance to every patch
weighted by attention, then the mean over queries and images. Tokens without a place (class, distillation, registers)
are left out as queries and as keys, and the weights over patches are scaled to sum to one; what the patches gave to
the others is told as `prefix_attention`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from windvane.errors import InputError, unknown
from windvane.inspect.hooks import OUTPUT, Batch, batch_length, observe, tensors_in, unwrap
from windvane.inspect.images import image_batches, size_of
from windvane.inspect.panels import BLUE, GREY
from windvane.inspect.plots import axes_for, mark_blocks
from windvane.inspect.tokens import TokenGrid, prefix_counts, token_grid

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

SOFTMAX = (torch.ops.aten._softmax.default, torch.ops.aten._safe_softmax.default)
LOCAL = 0.5  # a head is local if it looks less far than this share of what uniform attention does


Keep = Callable[[str, Tensor], None]


class _Reader(TorchDispatchMode):
    """Reads every softmax over square maps of tokens, and what the heads give, with the module that it happens in."""

    def __init__(self, n_images: int, wanted: Sequence[str], weights: Keep | None, outputs: Keep | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[str] = Counter()
        self.names: list[str] = []
        self.n_refused = 0
        self._n_images, self._wanted = n_images, wanted
        self._keep_weights, self._keep_outputs = weights, outputs
        self._inside: list[tuple[str, set[int]]] = []  # modules, and how many tokens their input may hold
        self._awaits_output: tuple[str, int] | None = None  # name, heads

    def enter(self, name: str, module: nn.Module, args: Any) -> None:
        given = next((one.shape for _, one in tensors_in(args)), ())
        self._inside.append(
            (name, {*given[:-1], math.prod(given[1:-1]), math.prod(given[2:])} if name and given else set())
        )

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self._inside.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in SOFTMAX:
            self._read_weights(result)
        elif func is torch.ops.aten.bmm.default and self._awaits_output is not None:
            (name, heads), self._awaits_output = self._awaits_output, None
            if self._keep_outputs is not None:
                self._keep_outputs(name, result.unflatten(0, (self._n_images, heads)))
        return result

    def _read_weights(self, weights: Tensor) -> None:
        if weights.ndim not in {3, 4}:
            return
        images = weights.shape[0] == self._n_images if weights.ndim == 4 else weights.shape[0] % self._n_images == 0
        path, n_tokens = self._inside[-1]
        among_tokens = weights.shape[-1] == weights.shape[-2] > 1 and (not n_tokens or weights.shape[-1] in n_tokens)
        if not (images and among_tokens):  # windows, queries of another network, channels
            self.n_refused += 1
            return
        path = path or OUTPUT
        self.calls[path] += 1
        name = path if self.calls[path] == 1 else f"{path}#{self.calls[path]}"
        self.names.append(name)
        if any(fnmatchcase(name, pattern) for pattern in self._wanted):
            weights = weights if weights.ndim == 4 else weights.unflatten(0, (self._n_images, -1))
            self._awaits_output = name, weights.shape[1]
            if self._keep_weights is not None:
                self._keep_weights(name, weights)


@contextmanager
def _listening(model: nn.Module, reader: _Reader) -> Iterator[None]:
    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(partial(reader.enter, name)).remove)
            stack.callback(module.register_forward_hook(reader.leave).remove)
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(reader)
        yield


def _read(
    model: nn.Module,
    images: Batch,
    layers: str | Sequence[str],
    *,
    weights: Keep | None = None,
    outputs: Keep | None = None,
) -> None:
    """Show the maps of all heads, layer by layer, and what the heads give; nothing is kept but by what sees it."""
    model, wanted = unwrap(model), [layers] if isinstance(layers, str) else list(layers)
    reader = _Reader(batch_length(images), wanted, weights, outputs)
    with _listening(model, reader):
        observe(model, images, lambda place, tensor: None)
    if not reader.names:
        why = "it attends within windows or to other things than its own tokens" if reader.n_refused else "it has none"
        raise InputError(f"no self-attention over the tokens of an image was found in {type(model).__name__}: {why}.")
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in reader.names):
            raise unknown("layers", pattern, reader.names)


def attention_maps(model: nn.Module, images: Batch, layers: str | Sequence[str] = "*") -> dict[str, Tensor]:
    """Read the attention of every head, fused or not.

    Parameters
    ----------
    model
        Any network with self-attention over the tokens of an image. Read in evaluation mode.
    images
        (n, channels, height, width) on the device of the network, or its arguments by name.
    layers
        Names of modules that compute attention, with wildcards: ``"blocks.*.attn"``.

    Returns
    -------
    dict[str, Tensor]
        Module to weights (n, heads, queries, keys), in order of execution; rows sum to one. A module that is called
        again has ``#2`` behind its name.

    Raises
    ------
    InputError
        The network has no such attention, or no layer of this name.
    """
    found: dict[str, Tensor] = {}
    _read(model, images, layers, weights=found.__setitem__)
    return found


def head_outputs(model: nn.Module, images: Batch, layers: str | Sequence[str] = "*") -> dict[str, Tensor]:
    """Read what every head gives, before the heads are mixed.

    Parameters
    ----------
    model
        Any network with self-attention over the tokens of an image. Read in evaluation mode.
    images
        (n, channels, height, width) on the device of the network, or its arguments by name.
    layers
        Names of modules that compute attention, with wildcards.

    Returns
    -------
    dict[str, Tensor]
        Module to (n, heads, tokens, channels of a head), in order of execution.

    Raises
    ------
    InputError
        The network has no such attention, or no layer of this name.
    """
    found: dict[str, Tensor] = {}
    _read(model, images, layers, outputs=found.__setitem__)
    return found


@dataclass(frozen=True)
class AttentionDistance:
    """How far the heads of a network look.

    Attributes
    ----------
    layers
        Modules that compute attention, in order of execution.
    distances
        Of each layer (heads,): mean attention distance in pixels.
    prefix_attention
        Of each layer (heads,): the share of the patches' attention that goes to tokens without a place.
    grid
        Where the tokens lie.
    n_images
        Averaged over.
    """

    layers: tuple[str, ...]
    distances: tuple[Floats, ...]
    prefix_attention: tuple[Floats, ...]
    grid: TokenGrid
    n_images: int

    @property
    def uniform_distance(self) -> float:
        """Distance of a head that attends to all patches alike, in pixels."""
        return float(self.grid.distances().mean())

    def local_heads(self, below: float = LOCAL) -> tuple[NDArray[np.bool_], ...]:
        """Tell local heads from global ones.

        Parameters
        ----------
        below
            A head is local if its distance is below this share of `uniform_distance`.

        Returns
        -------
        tuple[ndarray, ...]
            Of each layer (heads,): whether the head is local.
        """
        return tuple(distance < below * self.uniform_distance for distance in self.distances)

    def to_frame(self) -> pd.DataFrame:
        """Lay it out as a table.

        Returns
        -------
        DataFrame
            A row per layer and head: layer, depth, head, distance, prefix_attention, local.
        """
        import pandas as pd

        parts = zip(self.layers, self.distances, self.prefix_attention, self.local_heads(), strict=True)
        frames = [
            pd.DataFrame(
                {
                    "layer": layer,
                    "depth": depth,
                    "head": np.arange(len(distance)),
                    "distance": distance,
                    "prefix_attention": share,
                    "local": local,
                }
            )
            for depth, (layer, distance, share, local) in enumerate(parts)
        ]
        return pd.concat(frames, ignore_index=True)

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the distance of every head by layer, beside that of uniform attention.

        Parameters
        ----------
        ax
            Where to draw; a new figure where it is None.

        Returns
        -------
        Figure
            That holds the picture.
        """
        figure, ax = axes_for(ax)
        frame = self.to_frame()
        ax.plot(frame["depth"], frame["distance"], "o", color=BLUE, alpha=0.8, label="a head")
        means = [float(distance.mean()) for distance in self.distances]
        ax.plot(range(len(means)), means, "-", color=BLUE, alpha=0.5, label="mean of the heads")
        ax.axhline(self.uniform_distance, color=GREY, linestyle="--", label="uniform attention")
        ax.axhline(LOCAL * self.uniform_distance, color=GREY, linestyle=":", label="local below")
        mark_blocks(ax, "x", self.layers)
        ax.set(
            ylabel="mean attention distance (pixels)",
            ylim=(0, 1.1 * max(frame["distance"].max(), self.uniform_distance)),
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
        Names of modules that compute attention, with wildcards.
    batch_size
        Images at a time; the maps of one layer are in memory together.
    n_images
        At most so many images; all where it is None.
    n_prefix
        Tokens without a place; asked of the network, or found from the size of the images, where it is None.

    Returns
    -------
    AttentionDistance
        Per layer and head, in pixels of the input.

    Raises
    ------
    InputError
        The network has no such attention, or its tokens do not tile the images.
    """
    sums = _Sums(prefix_counts(model, n_prefix))
    seen = 0
    for batch, images in image_batches(model, data, batch_size, n_images):
        sums.image_size = size_of(images)
        _read(model, batch, layers, weights=sums.add)
        seen += len(images)
    assert sums.grid is not None
    means = [tuple((part / seen).numpy() for part in parts) for parts in sums.parts.values()]
    layers_, distances, shares = tuple(sums.parts), tuple(mean[0] for mean in means), tuple(mean[1] for mean in means)
    return AttentionDistance(layers_, distances, shares, sums.grid, seen)


class _Sums:
    """Adds up what every head says, as the network runs."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.parts: dict[str, Tensor] = {}  # (2, heads): distance, share of tokens without a place
        self.grid: TokenGrid | None = None
        self.image_size = (0, 0)
        self._counts = counts

    def add(self, name: str, weights: Tensor) -> None:
        grid = token_grid(weights.shape[-1], self.image_size, self._counts)
        if self.grid is not None and self.grid != grid:
            raise InputError(
                f"layers: {name} has {grid.rows} x {grid.columns} places, those before {self.grid.rows} x "
                f"{self.grid.columns}. Allowed: layers, and images, of one grid, as in "
                f"layers={next(iter(self.parts))!r}."
            )
        self.grid = grid
        self.parts[name] = self.parts.get(name, 0) + _distances(weights, grid).sum(1).cpu()


def _distances(weights: Tensor, grid: TokenGrid) -> Tensor:
    """Mean distance in pixels and share of the tokens without a place: (2, n, heads) float64."""
    among = weights[:, :, grid.n_prefix :, grid.n_prefix :]  # (n, heads, patches, patches)
    mass = among.sum(-1, dtype=torch.float64)  # (n, heads, patches)
    reach = (among * grid.distances().to(weights)).sum(-1, dtype=torch.float64)
    tiny = torch.finfo(torch.float64).tiny
    return torch.stack([(reach / mass.clamp_min(tiny)).mean(-1), 1 - mass.mean(-1)])
