"""The similarity of two networks layer by layer: matrix, words, figure and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from windvane.inspect.plots import heat_map
from windvane.inspect.result import Axes, Figure, Floats, long_frame
from windvane.inspect.similarity.accumulator import SimilarityAccumulator, SimilarityMatrix, average_repeats


@dataclass(frozen=True)
class Comparison:
    """Similarity of every layer of a network with every layer of another.

    Examples
    --------
    ::

        comparison = compare(vit, resnet, images)
        comparison.describe()  # ["60 of 120 layers of resnet50 lie below a quarter of ...", ...]
        comparison.matches()["similarity"].mean()
        comparison.plot().savefig("similarity.png")
    """

    names: tuple[str, str]  # of the networks; twice the same for a network with itself
    layers: tuple[tuple[str, ...], tuple[str, ...]]  # of both, in the order of execution
    matrix: SimilarityMatrix  # (layers of the first, layers of the second), with 95 % intervals
    measure: str
    n_images: int  # in all repeats together
    n_batches: int
    undefined: tuple[Mapping[str, str], Mapping[str, str]]  # layers that cannot be compared: "constant", "not finite"

    @classmethod
    def from_accumulators(cls, repeats: Sequence[SimilarityAccumulator], names: tuple[str, str]) -> Comparison:
        """Comparison of the layers of an accumulator, or the mean over several of the same layers."""
        matrix, first = average_repeats([one.matrix() for one in repeats]), repeats[0]
        n_images, n_batches = sum(one.n_images for one in repeats), sum(one.n_batches for one in repeats)
        return cls(names, first.layers, matrix, first.measure.title, n_images, n_batches, first.undefined())

    @property
    def values(self) -> Floats:
        """Similarities, (layers of the first, layers of the second); NaN where undefined."""
        return self.matrix.values

    @property
    def is_self_comparison(self) -> bool:
        """Whether a network is compared with itself."""
        return self.names[0] == self.names[1] and self.layers[0] == self.layers[1]

    def renamed(self, first: str, second: str) -> Comparison:
        """Return the same comparison with other names of the networks."""
        return replace(self, names=(first, second))

    def transpose(self) -> Comparison:
        """Return the comparison with the two networks exchanged."""
        matrix = SimilarityMatrix(self.matrix.values.T, self.matrix.ci_low.T, self.matrix.ci_high.T)
        names, layers, undefined = self.names[::-1], self.layers[::-1], self.undefined[::-1]
        return replace(self, names=names, layers=layers, undefined=undefined, matrix=matrix)

    def to_frame(self) -> pd.DataFrame:
        """One row for each pair of layers: first, second, similarity, ci_low, ci_high."""
        matrix, (first, second) = self.matrix, self.layers
        values = {"similarity": matrix.values, "ci_low": matrix.ci_low, "ci_high": matrix.ci_high}
        return long_frame({"first": first, "second": second}, values)

    def matches(self) -> pd.DataFrame:
        """Find for each layer of the second network the most similar layer of the first.

        Returns
        -------
        pandas.DataFrame
            By layer of the second network: match (layer of the first), depth (of the match, 0 to 1), similarity, ci_low
            and ci_high. Layers that cannot be compared are left out.
        """
        defined = np.flatnonzero(np.isfinite(self.values).any(0))
        best = np.nanargmax(self.values[:, defined], 0)
        return pd.DataFrame(
            {
                "match": np.array(self.layers[0], object)[best],
                "depth": best / len(self.layers[0]),
                "similarity": self.matrix.values[best, defined],
                "ci_low": self.matrix.ci_low[best, defined],
                "ci_high": self.matrix.ci_high[best, defined],
            },
            index=pd.Index(np.array(self.layers[1], object)[defined], name="layer"),
        )

    def count_matched_below(self, fraction: float) -> int:
        """Count the layers of the second network whose match lies in the lower part of the first.

        Parameters
        ----------
        fraction
            Of the depth of the first network, 0 to 1.

        Returns
        -------
        int
            Number of layers.
        """
        return int((self.matches()["depth"] < fraction).sum())

    def describe(self) -> list[str]:
        """Summarize the comparison in sentences."""
        sentences = self._within() if self.is_self_comparison else [*self._across(), *self.transpose()._across()]
        for name, undefined in dict(zip(self.names, self.undefined, strict=True)).items():
            if undefined:
                listed = ", ".join(f"{layer} ({reason})" for layer, reason in list(undefined.items())[:5])
                more = " and others" if len(undefined) > 5 else ""
                sentences.append(f"{len(undefined)} layers of {name} cannot be compared: {listed}{more}.")
        return sentences

    def _across(self) -> list[str]:
        (first, second), matches = self.names, self.matches()
        if matches.empty:
            return []
        quarter, half = self.count_matched_below(0.25), self.count_matched_below(0.5)
        thirds = np.array_split(matches["similarity"].to_numpy(), 3)
        return [
            f"{quarter} of {len(matches)} layers of {second} lie below a quarter of {first}, {half} below half, placed "
            "by their most similar layer.",
            f"A layer in the first third of {second} and its match have a similarity of {thirds[0].mean():.2f} on "
            f"average, one in the last third {thirds[-1].mean():.2f}.",
        ]

    def _within(self) -> list[str]:
        third = max(1, len(self.layers[0]) // 3)
        ends = self.values[:third, -third:]
        neighbors = np.diagonal(self.values, 1)
        if not np.isfinite(ends).any() or not np.isfinite(neighbors).any():
            return []
        return [
            f"Layers in the first third of {self.names[0]} and layers in its last third have a similarity of "
            f"{np.nanmean(ends):.2f} on average; a layer and the next one {np.nanmean(neighbors):.2f}."
        ]

    def plot(self, ax: Axes | None = None) -> Figure:
        """Heat map of the similarities from 0 to 1, layers by block, the first at the lower left."""
        figure, ax = heat_map(self.values, *self.layers, ax)
        ax.set_ylabel(self.names[0])
        ax.set_xlabel(self.names[1])
        ax.set_title(f"{self.measure}, {self.n_images:,} images", fontsize=10)
        return figure
