"""What every result of an analysis can do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@runtime_checkable
class Result(Protocol):
    """A result that can be seen and taken on."""

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw it.

        Parameters
        ----------
        ax
            Where to draw; None makes a figure.

        Returns
        -------
        matplotlib.figure.Figure
            The figure.
        """

    def to_frame(self) -> pd.DataFrame:
        """Give its numbers as a table.

        Returns
        -------
        pandas.DataFrame
            One row for each number or layer.
        """
