"""Whether local heads see what a convolutional network sees early.

Raghu et al. (2021), figure 4: the heads of one layer are ordered from the most local to the most global and cut into
groups; CKA compares what each group gives with early layers of another network. In large vision transformers it falls
as the heads look farther.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from windvane.errors import InputError
from windvane.inspect.activations import iter_activations
from windvane.inspect.analyses.attention import attention_distance, head_outputs
from windvane.inspect.batches import paired_batches
from windvane.inspect.hooks import batch_length
from windvane.inspect.images import image_batches
from windvane.inspect.panels import CYCLE, MARKERS
from windvane.inspect.plots import axes_for
from windvane.inspect.similarity.accumulator import SimilarityAccumulator
from windvane.inspect.similarity.measures import CKAMeasure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeadSimilarity:
    """How alike groups of heads are to layers of another network.

    Attributes
    ----------
    layer
        Whose heads.
    heads
        Of each group, from the most local group to the most global one.
    distance
        (groups,): mean attention distance of the heads of each group in pixels.
    other_layers
        Of the other network, in order of execution.
    similarity
        (groups, other layers): unbiased linear CKA.
    n_images
        Compared over.
    """

    layer: str
    heads: tuple[tuple[int, ...], ...]
    distance: Floats
    other_layers: tuple[str, ...]
    similarity: Floats
    n_images: int

    def to_frame(self) -> pd.DataFrame:
        """Lay it out as a table.

        Returns
        -------
        DataFrame
            A row per group and layer of the other network: group, distance (pixels), other_layer, similarity.
        """
        import pandas as pd

        group, other = (index.ravel() for index in np.indices(self.similarity.shape))
        return pd.DataFrame(
            {
                "group": group,
                "distance": self.distance[group],
                "other_layer": np.array(self.other_layers, dtype=object)[other],
                "similarity": self.similarity.ravel(),
            }
        )

    def plot(self, ax: Axes | None = None) -> Figure:
        """Draw similarity by distance, a line per layer of the other network.

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
        for i, name in enumerate(self.other_layers):
            colour, marker = CYCLE[i % len(CYCLE)], MARKERS[i // len(CYCLE) % len(MARKERS)]
            ax.plot(self.distance, self.similarity[:, i], f"-{marker}", color=colour, label=name)
        ax.set(
            xlabel="mean attention distance of the heads (pixels)",
            ylabel="CKA with the other network",
            ylim=(0, 1),
            title=f"Heads of {self.layer}, from local to global",
        )
        ax.legend(fontsize="small")
        return figure


@dataclass(frozen=True)
class HeadGroups:
    """Which heads are compared.

    Attributes
    ----------
    layer
        Module that computes attention; the first of several that match.
    n_groups
        Neighbours by distance are put together into so many groups; each head is one where it is None.
    n_prefix
        Tokens without a place; asked of the network, or found from the size of the images, where it is None.
    """

    layer: str = "*"
    n_groups: int | None = None
    n_prefix: int | None = None


def head_similarity(
    models: tuple[nn.Module, nn.Module],
    data: Any,
    other_layers: str | Sequence[str] = "block",
    groups: HeadGroups = HeadGroups(),
    *,
    batch_size: int = 128,
    n_images: int | None = None,
) -> HeadSimilarity:
    """Compare the heads of a network, from local to global, with the layers of another.

    Parameters
    ----------
    models
        The network with attention, and the other one.
    data
        Images, or batches of 4 or more of them; gone through twice. A tuple with the same images for each network
        where they want different sizes.
    other_layers
        Of the other network, as in `layer_names`.
    groups
        Which heads are compared.
    batch_size
        Images at a time; HSIC is averaged over batches.
    n_images
        The first ones; all where it is None.

    Returns
    -------
    HeadSimilarity
        Per group of heads and layer.

    Raises
    ------
    InputError
        No such layer, or more groups than heads.
    """
    model, other = models
    own = data[0] if isinstance(data, tuple) else data
    found = attention_distance(
        model, own, groups.layer, batch_size=batch_size, n_images=n_images, n_prefix=groups.n_prefix
    )
    layer, distance = found.layers[0], found.distances[0]
    n_groups = len(distance) if groups.n_groups is None else groups.n_groups
    if not 1 <= n_groups <= len(distance):
        raise InputError(f"n_groups={n_groups} is not possible. Allowed: 1 to {len(distance)}, the heads of {layer}.")
    members = np.array_split(np.argsort(distance), n_groups)
    measure = CKAMeasure()
    alignment = SimilarityAccumulator(measure)
    for given, beside in paired_batches(data, 2, batch_size, n_images):
        ((batch, _),) = image_batches(model, [given], batch_length(given))
        heads = head_outputs(model, batch, layer)[layer]  # (n, heads, tokens, channels)
        (right,) = next(
            iter_activations([other], [beside], other_layers, batch_size=batch_length(beside), reduce=measure.summarize)
        )
        alignment.add({str(i): measure.summarize(heads[:, list(group)]) for i, group in enumerate(members)}, right)
    return HeadSimilarity(
        layer,
        tuple(tuple(group.tolist()) for group in members),
        np.array([distance[group].mean() for group in members]),
        alignment.layers[1] if alignment.layers else (),
        alignment.matrix().values,
        alignment.n_images,
    )
