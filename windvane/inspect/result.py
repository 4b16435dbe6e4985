"""What the result of every analysis can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
