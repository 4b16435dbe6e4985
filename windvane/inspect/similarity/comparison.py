"""How alike two networks are, layer by layer: the map, what it says in words, pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from windvane.inspect.plots import heat_map
from windvane.inspect.similarity.accumulator import SimilarityAccumulator, SimilarityMatrix
from windvane.inspect.similarity.measures import Floats

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Comparison:
    """Similarity of every layer of a network with every layer of another.

    Attributes
    ----------
    names
        Of both networks; the same one twice for a network with itself.
    layers
        Of both, in the order of execution.
    matrix
        Values with 95 % intervals, (layers of the first, layers of the second).
    measure
        What was measured.
    n_images, n_batches
        How many were looked at, in all repeats together.
    undefined
        For both networks the layers that cannot be compared, and why: "constant", "not finite".
    """

    names: tuple[str, str]
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    matrix: SimilarityMatrix
    measure: str
    n_images: int
    n_batches: int
    undefined: tuple[Mapping[str, str], Mapping[str, str]]

    @classmethod
    def of(cls, accumulator: SimilarityAccumulator, matrix: SimilarityMatrix, names: tuple[str, str]) -> Comparison:
        """Take the results out of a accumulator."""
        layers = accumulator.layers or ((), ())
        return cls(
            names,
            layers,
            matrix,
            accumulator.measure.title,
            accumulator.n_images,
            accumulator.n_batches,
            accumulator.undefined(),
        )

    @property
    def values(self) -> Floats:
        """Similarities, (layers of the first, layers of the second); NaN where undefined."""
        return self.matrix.values

    @property
    def is_self_comparison(self) -> bool:
        """Whether a network is compared with itself."""
        return self.names[0] == self.names[1] and self.layers[0] == self.layers[1]

    def renamed(self, first: str, second: str) -> Comparison:
        """Call the networks otherwise."""
        return replace(self, names=(first, second))

    def to_frame(self) -> pd.DataFrame:
        """List every pair of layers.

        Returns
        -------
        pandas.DataFrame
            A row for each: layers, similarity and the ends of its 95 % interval.
        """
        import pandas as pd

        first, second = self.layers
        return pd.DataFrame(
            {
                "first": np.repeat(np.array(first, object), len(second)),
                "second": np.tile(np.array(second, object), len(first)),
                "similarity": self.matrix.values.ravel(),
                "ci_low": self.matrix.ci_low.ravel(),
                "ci_high": self.matrix.ci_high.ravel(),
            }
        )

    def matches(self) -> pd.DataFrame:
        """Find for each layer of the second network the layer of the first that is most like it.

        Returns
        -------
        pandas.DataFrame
            By layer of the second network: the layer of the first, how deep it lies there (0 to 1), similarity and the
            ends of its 95 % interval. Layers that cannot be compared are left out.
        """
        import pandas as pd

        known = np.flatnonzero(np.isfinite(self.values).any(0))
        best = np.nanargmax(self.values[:, known], 0)
        return pd.DataFrame(
            {
                "match": np.array(self.layers[0], object)[best],
                "depth": _depths(len(self.layers[0]))[best],
                "similarity": self.matrix.values[best, known],
                "ci_low": self.matrix.ci_low[best, known],
                "ci_high": self.matrix.ci_high[best, known],
            },
            index=pd.Index(np.array(self.layers[1], object)[known], name="layer"),
        )

    def count_matched_below(self, fraction: float) -> int:
        """Count the layers of the second network that lie in the lower part of the first.

        Parameters
        ----------
        fraction
            Of the depth of the first network, 0 to 1.

        Returns
        -------
        int
            Layers whose match lies there.
        """
        return int((self.matches()["depth"] < fraction).sum())

    def transpose(self) -> Comparison:
        """Exchange the two networks."""
        turned = SimilarityMatrix(self.matrix.values.T, self.matrix.ci_low.T, self.matrix.ci_high.T)
        exchanged = (self.names[::-1], self.layers[::-1], self.undefined[::-1])
        return replace(self, names=exchanged[0], layers=exchanged[1], undefined=exchanged[2], matrix=turned)

    def describe(self) -> list[str]:
        """Say in words what the map shows.

        Returns
        -------
        list of str
            Sentences.
        """
        sentences = self._of_itself() if self.is_self_comparison else [*self._placed(), *self.transpose()._placed()]
        for name, undefined in dict(zip(self.names, self.undefined, strict=True)).items():
            if undefined:
                some = ", ".join(f"{layer} ({reason})" for layer, reason in list(undefined.items())[:5])
                more = " and others" if len(undefined) > 5 else ""
                sentences.append(f"{len(undefined)} layers of {name} cannot be compared: {some}{more}.")
        return sentences

    def _placed(self) -> list[str]:
        (first, second), matches = self.names, self.matches()
        if matches.empty:
            return []
        quarter, half = self.count_matched_below(0.25), self.count_matched_below(0.5)
        thirds = np.array_split(matches["similarity"].to_numpy(), 3)
        return [
            f"{quarter} of {len(matches)} layers of {second} lie below a quarter of {first}, {half} below half: that "
            "is where the layer lies that each is most like.",
            f"A layer in the first third of {second} and its match have a similarity of {thirds[0].mean():.2f} on "
            f"average, one in the last third {thirds[-1].mean():.2f}.",
        ]

    def _of_itself(self) -> list[str]:
        third = max(1, len(self.layers[0]) // 3)
        ends = self.values[:third, -third:]
        steps = np.diagonal(self.values, 1)
        if not np.isfinite(ends).any() or not np.isfinite(steps).any():
            return []
        return [
            f"Layers in the first third of {self.names[0]} and layers in its last third have a similarity of "
            f"{np.nanmean(ends):.2f} on average; a layer and the next one {np.nanmean(steps):.2f}."
        ]

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw the map: layers by block, the first at the lower left, similarity from 0 to 1.

        Parameters
        ----------
        ax
            Where to draw; None makes a figure.

        Returns
        -------
        matplotlib.figure.Figure
            The figure.
        """
        figure, ax = heat_map(self.values, *self.layers, ax)
        ax.set_ylabel(self.names[0])
        ax.set_xlabel(self.names[1])
        ax.set_title(f"{self.measure}, {self.n_images:,} images", fontsize=10)
        return figure


def _depths(n_layers: int) -> Floats:
    """How deep each layer lies: the share of layers before it."""
    return np.arange(n_layers) / n_layers
