"""What changes where: the same layers in several states of one network.

States are those before and after fine-tuning, or after training on 3, 10, 30 and 100 % of the data (Raghu et al. 2021,
figures 16 and 21): CKA of every layer with itself in the reference, block by block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from windvane.errors import InputError
from windvane.inspect.activations import iter_activations
from windvane.inspect.panels import CYCLE, MARKERS
from windvane.inspect.plots import axes_for, mark_blocks
from windvane.inspect.similarity.accumulator import SimilarityAccumulator
from windvane.inspect.similarity.measures import CKAMeasure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Drift:
    """How alike the layers of networks are to the same layers of a reference.

    Attributes
    ----------
    networks
        What the others are called.
    layers
        In order of execution.
    similarity
        (networks, layers): unbiased linear CKA.
    ci_low, ci_high
        Ends of its 95 % interval over batches; nan where there was one batch.
    n_images
        Compared over.
    """

    networks: tuple[str, ...]
    layers: tuple[str, ...]
    similarity: Floats
    ci_low: Floats
    ci_high: Floats
    n_images: int

    def to_frame(self) -> pd.DataFrame:
        """Lay it out as a table.

        Returns
        -------
        DataFrame
            A row per network and layer: network, layer, depth, similarity, ci_low, ci_high.
        """
        import pandas as pd

        network, depth = np.indices(self.similarity.shape)
        return pd.DataFrame(
            {
                "network": np.array(self.networks, dtype=object)[network.ravel()],
                "layer": np.array(self.layers, dtype=object)[depth.ravel()],
                "depth": depth.ravel(),
                "similarity": self.similarity.ravel(),
                "ci_low": self.ci_low.ravel(),
                "ci_high": self.ci_high.ravel(),
            }
        )

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw similarity through the network, a line per network, with the intervals.

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
        depth = np.arange(len(self.layers))
        for i, name in enumerate(self.networks):
            colour, marker = CYCLE[i % len(CYCLE)], MARKERS[i % len(MARKERS)]
            ax.plot(depth, self.similarity[i], f"-{marker}", color=colour, label=name)
            ax.fill_between(depth, self.ci_low[i], self.ci_high[i], color=colour, alpha=0.15, linewidth=0)
        mark_blocks(ax, "x", self.layers)
        ax.set(ylabel="CKA with the reference", ylim=(0, 1.02), title="What changes where")
        ax.legend(fontsize="small")
        return figure


def drift(
    reference: nn.Module,
    others: Mapping[str, nn.Module],
    data: Any,
    layers: str | Sequence[str] = "block",
    *,
    batch_size: int = 256,
    n_images: int | None = None,
) -> Drift:
    """Compare networks with a reference, layer by layer.

    Parameters
    ----------
    reference
        A network: before fine-tuning, or trained on all of the data.
    others
        The same network in other states, by name.
    data
        Images, or batches of them; of 4 images or more each.
    layers
        As in `layer_names`; the same ones in all networks.
    batch_size
        Images at a time; HSIC is averaged over batches.
    n_images
        The first ones; all where it is None.

    Returns
    -------
    Drift
        Per network and layer.

    Raises
    ------
    InputError
        There are no other networks, or they have other layers.
    """
    if not others:
        raise InputError("others is empty. Allowed: one network or more, by name.")
    measure = CKAMeasure()
    alignments = {name: SimilarityAccumulator(measure) for name in others}
    found: tuple[str, ...] = ()
    models = [reference, *others.values()]
    # Sketches, not activations: five networks of large images would fill any memory.
    for first, *rest in iter_activations(
        models, data, layers, batch_size=batch_size, n_images=n_images, reduce=measure.summarize
    ):
        found = tuple(first)
        for (name, alignment), other in zip(alignments.items(), rest, strict=True):
            if tuple(other) != found:
                raise InputError(f"others[{name!r}] has the layers {list(other)}, but the reference {list(found)}.")
            alignment.add(first, other)
    maps = [alignment.matrix() for alignment in alignments.values()]
    similarity = np.stack([np.diagonal(one.values) for one in maps])
    ci_low, ci_high = (
        np.stack([np.diagonal(one.ci_low) for one in maps]),
        np.stack([np.diagonal(one.ci_high) for one in maps]),
    )
    return Drift(tuple(others), found, similarity, ci_low, ci_high, next(iter(alignments.values())).n_images)
