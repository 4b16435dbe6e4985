"""Figures of the inspection, without matplotlib's global state: axes by block, heat maps, grids of small images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import numpy as np

from windvane.errors import InputError
from windvane.inspect.result import Axes, Figure, Floats
from windvane.pages.svg_charts import OKABE_ITO

BLUE, VERMILION, GREEN = OKABE_ITO[:3]
GREY = "#666666"
LINE_COLORS = OKABE_ITO[:6]
MARKERS = ("o", "s", "^", "D", "v", "x")

COLORMAP = "viridis"  # perceptually uniform, also in grey and with every kind of colour vision
UNDEFINED_COLOR = "#bdbdbd"
MAX_BLOCKS = 26  # named on an axis
ENOUGH_BLOCKS = 6  # so many are not divided into single layers
MAX_LABEL = 18  # characters
GRID_GAP = 0.12  # between two images of a grid, in widths of an image; more below titles


def figure_and_axes(ax: Axes | None, width: float = 6.0, height: float = 4.0) -> tuple[Figure, Axes]:
    """The given axes with their figure, or a new figure (size in inches) that no global list keeps."""
    import matplotlib.axes
    from matplotlib.figure import Figure

    if ax is not None:
        if not isinstance(ax, matplotlib.axes.Axes):
            raise InputError(f"ax is of type {type(ax).__name__}. Allowed: axes of a figure, or None.")
        figure = ax.get_figure(root=True)
        if figure is None:
            raise InputError("ax has been removed from its figure. Allowed: axes of a figure, or None.")
        return figure, ax
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def heat_map(
    values: Floats, rows: Sequence[str], columns: Sequence[str], ax: Axes | None = None
) -> tuple[Figure, Axes]:
    """Draw similarities of layers from 0 to 1, the first layers at the lower left, NaN in grey."""
    import matplotlib as mpl

    figure, ax = figure_and_axes(ax, 6.4, 5.6)
    colormap = mpl.colormaps[COLORMAP].with_extremes(bad=UNDEFINED_COLOR)
    style: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}
    image = ax.imshow(np.ma.masked_invalid(values), cmap=colormap, vmin=0, vmax=1, **style)
    label_blocks(ax, "y", rows)
    label_blocks(ax, "x", columns)
    extend = "min" if np.nanmin(values, initial=0.0) < -0.005 else "neither"
    figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03, extend=extend)
    return figure, ax


def image_grid(
    images: Floats, titles: Sequence[str], ax: Axes | None, *, title: str, label: str, max_columns: int = 6
) -> Figure:
    """Draw (n, rows, columns) images from 0 to 1 beside each other, with one color scale."""
    n_images, rows, columns = images.shape
    across = min(n_images, max_columns)
    down = -(-n_images // across)
    height = rows / columns  # of an image, in widths of an image
    head = 0.16 * max(text.count("\n") + 1 for text in titles)
    step = height + head + GRID_GAP / 2
    figure, ax = figure_and_axes(ax, 1.4 + 1.3 * across * (1 + GRID_GAP), 0.6 + 1.3 * down * step)
    picture: Any = None
    for i, (image, text) in enumerate(zip(images, titles, strict=True)):
        left, top = (i % across) * (1 + GRID_GAP), (i // across) * step
        extent = (left, left + 1, top + height, top)
        picture = ax.imshow(image, cmap=COLORMAP, vmin=0, vmax=1, extent=extent, interpolation="nearest")
        ax.text(left + 0.5, top - 0.03, text, ha="center", va="bottom", fontsize="x-small")
    ax.set(xlim=(-GRID_GAP / 2, across * (1 + GRID_GAP)), ylim=(down * step - head, -head - GRID_GAP / 2))
    ax.set_aspect("equal")
    ax.axis("off")
    ax.set_title(title)
    figure.colorbar(picture, ax=ax, label=label, shrink=0.8)
    return figure


def relative_to_peaks(maps: Floats) -> Floats:
    """Divide each of the maps (n, rows, columns) by its largest value; zero where that is not above zero."""
    peaks = maps.max((1, 2), keepdims=True)
    relative: Floats = np.divide(maps, peaks, out=np.zeros_like(maps), where=peaks > 0)
    return relative


def label_blocks(ax: Axes, axis: Literal["x", "y"], layers: Sequence[str]) -> None:
    """Label the blocks of layers along an axis on which layer i stands at i."""
    blocks, min_distance = blocks_of(layers), len(layers) / MAX_BLOCKS
    labelled: list[Block] = []
    for block in sorted(blocks, key=lambda one: one.start - one.stop):  # the largest first
        if all(abs(block.middle - other.middle) >= min_distance for other in labelled):
            labelled.append(block)
    ticks, set_limits = (ax.xaxis, ax.set_xlim) if axis == "x" else (ax.yaxis, ax.set_ylim)
    set_limits(-0.5, len(layers) - 0.5)
    names = [f"…{one.name[1 - MAX_LABEL :]}" if len(one.name) > MAX_LABEL else one.name for one in labelled]
    ticks.set_ticks([block.middle for block in labelled], names)
    ticks.set_ticks([block.start - 0.5 for block in blocks[1:]], minor=True)
    ax.tick_params(axis=axis, which="major", length=0, labelsize=7, labelrotation=90 if axis == "x" else 0)
    ax.tick_params(axis=axis, which="minor", length=4, width=0.5)


@dataclass(frozen=True)
class Block:
    """Consecutive layers of one block."""

    name: str
    start: int  # index of the first layer
    stop: int  # behind the last one

    @property
    def middle(self) -> float:
        """Position of its label."""
        return (self.start + self.stop - 1) / 2


def blocks_of(layers: Sequence[str]) -> list[Block]:
    """Group layers by the beginnings of their names, as in ``blocks.0``, as finely as an axis can show."""
    blocks = _grouped(layers, 1)
    for depth in range(2, 1 + max((name.count(".") + 1 for name in layers), default=1)):
        finer = _grouped(layers, depth)
        if len(finer) > MAX_BLOCKS or (len(finer) == len(layers) and len(blocks) >= ENOUGH_BLOCKS):
            break
        blocks = finer
    return blocks


def _grouped(layers: Sequence[str], depth: int) -> list[Block]:
    blocks: list[Block] = []
    for name, group in groupby(layers, lambda layer: ".".join(layer.split(".")[:depth])):
        start = blocks[-1].stop if blocks else 0
        blocks.append(Block(name, start, start + len(list(group))))
    return blocks
