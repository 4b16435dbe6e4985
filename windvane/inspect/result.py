"""What the result of every analysis can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
else:  # stand-ins whose names signatures show: matplotlib is imported where something is drawn
    Axes, Figure = type("Axes", (), {}), type("Figure", (), {})

Floats = NDArray[np.float64]


@runtime_checkable
class Result(Protocol):
    """The result of an analysis: a picture and a table.

    Examples
    --------
    ::

        distances = attention_distance(vit, images)
        distances.plot().savefig("distance.png")
        distances.to_frame().groupby("layer")["distance"].mean()
    """

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the result.

        Parameters
        ----------
        ax
            Axes to draw on; None makes a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            The figure of the axes.
        """

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers as a table.

        Returns
        -------
        pandas.DataFrame
            One row for each number or layer.
        """


def long_frame(index: Mapping[str, Sequence[object]], values: Mapping[str, Floats]) -> pd.DataFrame:
    """Return one row for each combination of the index, the last name fastest; `values` have that shape."""
    rows = pd.MultiIndex.from_product(list(index.values()), names=list(index))
    return pd.DataFrame({name: array.ravel() for name, array in values.items()}, rows).reset_index()
