"""What all pictures of networks share: figures without global state, axes by block, one scale for similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from windvane.errors import InputError
from windvane.inspect.similarity.measures import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = "viridis"  # even steps for every kind of sight, and in grey
UNDEFINED = "#bdbdbd"
MOST_BLOCKS = 26  # named on an axis
ENOUGH_BLOCKS = 6  # where the next division would be into single layers
LONGEST = 18  # letters of a label


@dataclass(frozen=True)
class Block:
    """Layers that belong together and follow each other: ``start`` to before ``stop``."""

    name: str
    start: int
    stop: int

    @property
    def middle(self) -> float:
        """Where its label stands."""
        return (self.start + self.stop - 1) / 2


def blocks_of(layers: Sequence[str]) -> list[Block]:
    """Divide layers into blocks by their names: as deep as an axis can show.

    Parameters
    ----------
    layers
        Names in the order of execution, as in ``blocks.0.attn``.

    Returns
    -------
    list of Block
        In order, each layer in one of them.
    """
    divided = _divided(layers, 1)
    for depth in range(2, 1 + max((name.count(".") + 1 for name in layers), default=1)):
        deeper = _divided(layers, depth)
        if len(deeper) > MOST_BLOCKS or (len(deeper) == len(layers) and len(divided) >= ENOUGH_BLOCKS):
            break
        divided = deeper
    return divided


def _divided(layers: Sequence[str], depth: int) -> list[Block]:
    blocks: list[Block] = []
    for name, run in groupby(layers, lambda layer: ".".join(layer.split(".")[:depth])):
        start = blocks[-1].stop if blocks else 0
        blocks.append(Block(name, start, start + len(list(run))))
    return blocks


def axes_for(ax: Axes | None, width: float = 6.0, height: float = 4.0) -> tuple[Figure, Axes]:
    """Take axes, or make a figure of its own that no global list keeps.

    Parameters
    ----------
    ax
        Given axes, or None.
    width, height
        Of a new figure, in inches.

    Returns
    -------
    tuple
        The figure and the axes.
    """
    from matplotlib.figure import Figure

    if ax is not None:
        given = ax.get_figure(root=True)
        if given is None:
            raise InputError("ax belongs to no figure any more. Allowed: axes of a figure, or None.")
        return given, ax
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def heat_map(
    values: Floats, rows: Sequence[str], columns: Sequence[str], ax: Axes | None = None
) -> tuple[Figure, Axes]:
    """Draw similarities of layers, from 0 to 1, the first layers at the lower left.

    Parameters
    ----------
    values
        (rows, columns); what is NaN is grey.
    rows, columns
        Names of layers; the axes name their blocks.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    tuple
        The figure and the axes, which have no titles yet.
    """
    import matplotlib as mpl
    import numpy as np

    figure, ax = axes_for(ax, 6.4, 5.6)
    colours = mpl.colormaps[COLOURS].with_extremes(bad=UNDEFINED)
    image = ax.imshow(
        np.ma.masked_invalid(values),
        cmap=colours,
        vmin=0,
        vmax=1,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
    )
    mark_blocks(ax, "y", rows)
    mark_blocks(ax, "x", columns)
    below = "min" if np.nanmin(values, initial=0.0) < -0.005 else "neither"
    figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03, extend=below)
    return figure, ax


def mark_blocks(ax: Axes, axis: Literal["x", "y"], layers: Sequence[str]) -> None:
    """Name the blocks of layers along an axis on which layer i stands at i.

    Parameters
    ----------
    ax
        The axes.
    axis
        "x" or "y".
    layers
        Names in the order of execution.
    """
    blocks, least = blocks_of(layers), len(layers) / MOST_BLOCKS
    labelled: list[Block] = []
    for block in sorted(blocks, key=lambda one: one.start - one.stop):  # the largest first
        if all(abs(block.middle - other.middle) >= least for other in labelled):
            labelled.append(block)
    place, spine = (ax.xaxis, ax.set_xlim) if axis == "x" else (ax.yaxis, ax.set_ylim)
    spine(-0.5, len(layers) - 0.5)
    place.set_ticks([block.middle for block in labelled], [_short(block.name) for block in labelled])
    place.set_ticks([block.start - 0.5 for block in blocks[1:]], minor=True)
    ax.tick_params(axis=axis, which="major", length=0, labelsize=7, labelrotation=90 if axis == "x" else 0)
    ax.tick_params(axis=axis, which="minor", length=4, width=0.5)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"
