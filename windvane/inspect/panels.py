"""Colours that everyone tells apart, and many small maps in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from windvane.inspect.plots import COLOURS, axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito: told apart with every kind of colour vision.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "x")

GAP = 0.12  # between two maps, in widths of a map; the titles have more


def mosaic(
    maps: NDArray[np.float64], titles: Sequence[str], ax: Axes | None, *, title: str, label: str, across: int = 6
) -> Figure:
    """Draw maps beside each other with one scale of colours from 0 to 1.

    Parameters
    ----------
    maps
        (maps, rows, columns) from 0 to 1.
    titles
        One above each.
    ax
        Where to draw; None makes a figure.
    title, label
        Above all, and beside the scale.
    across
        At most so many in a row.

    Returns
    -------
    Figure
        That holds the picture.
    """
    n, rows, columns = maps.shape
    across = min(n, across)
    down = -(-n // across)
    height = rows / columns  # of a map, in widths of a map
    head = 0.16 * max(text.count("\n") + 1 for text in titles)
    step = height + head + GAP / 2
    figure, ax = axes_for(ax, 1.4 + 1.3 * across * (1 + GAP), 0.6 + 1.3 * down * step)
    picture: Any = None
    for i, (one, text) in enumerate(zip(maps, titles, strict=True)):
        left, top = (i % across) * (1 + GAP), (i // across) * step
        extent = (left, left + 1, top + height, top)
        picture = ax.imshow(one, cmap=COLOURS, vmin=0, vmax=1, extent=extent, interpolation="nearest")
        ax.text(left + 0.5, top - 0.03, text, ha="center", va="bottom", fontsize="x-small")
    ax.set(xlim=(-GAP / 2, across * (1 + GAP)), ylim=(down * step - head, -head - GAP / 2))
    ax.set_aspect("equal")
    ax.axis("off")
    ax.set_title(title)
    figure.colorbar(picture, ax=ax, label=label, shrink=0.8)
    return figure
