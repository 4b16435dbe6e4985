"""Whether local heads compute what a convolutional network computes early (Raghu et al. 2021, figure 4).

The heads of one layer are ordered from the most local to the most global and split into groups; CKA compares the
outputs of each group with early layers of another network. In large vision transformers it falls as the heads look
farther.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from windvane.errors import InputError
from windvane.inspect.activations import iter_activations
from windvane.inspect.analyses.attention import head_outputs
from windvane.inspect.analyses.attention_distance import attention_distance
from windvane.inspect.batches import device_of, leave_out_small, paired_batches
from windvane.inspect.plots import LINE_COLORS, MARKERS, figure_and_axes
from windvane.inspect.result import Axes, Figure, Floats, long_frame
from windvane.inspect.similarity.accumulator import SimilarityAccumulator
from windvane.inspect.similarity.measures import CKAMeasure
from windvane.torch_utils import to_device


@dataclass(frozen=True)
class HeadSimilarity:
    """Similarity of groups of heads to layers of another network.

    Examples
    --------
    ::

        heads = head_similarity((vit, resnet), images, "layer1.*")
        heads.similarity[0] - heads.similarity[-1]  # the most local group against the most global one
    """

    layer: str  # whose heads
    heads: tuple[tuple[int, ...], ...]  # of each group, from the most local to the most global
    distance: Floats  # (groups,): mean attention distance of the heads in pixels
    other_layers: tuple[str, ...]  # of the other network, in the order of execution
    similarity: Floats  # (groups, other layers): unbiased linear CKA
    n_images: int

    def to_frame(self) -> pd.DataFrame:
        """One row for each group and layer of the other network: group, distance (pixels), other_layer, similarity."""
        groups = range(len(self.distance))
        frame = long_frame({"group": groups, "other_layer": self.other_layers}, {"similarity": self.similarity})
        frame.insert(1, "distance", np.repeat(self.distance, len(self.other_layers)))
        return frame

    def plot(self, ax: Axes | None = None) -> Figure:
        """Similarity by distance, one line for each layer of the other network."""
        figure, ax = figure_and_axes(ax)
        for i, name in enumerate(self.other_layers):
            color, marker = LINE_COLORS[i % len(LINE_COLORS)], MARKERS[i // len(LINE_COLORS) % len(MARKERS)]
            ax.plot(self.distance, self.similarity[:, i], f"-{marker}", color=color, label=name)
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
    """Which heads are compared, and in which groups.

    Examples
    --------
    >>> HeadGroups("blocks.0.attn", n_groups=4).n_groups
    4
    """

    layer: str = "*"  # glob over modules that compute attention; the first match is used
    n_groups: int | None = None  # neighbors by distance form so many groups; None: each head is one
    n_prefix: int | None = None  # tokens without a position; None asks the network or the size of the images


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
        Images, or batches of them, read twice; or a tuple with the same images for each network. Batches of fewer than
        four are left out of the similarity, with a warning.
    other_layers
        Of the other network, as in `layer_names`.
    groups
        Which heads are compared.
    batch_size, n_images
        Images at a time; HSIC is averaged over batches. The first `n_images` are used; None uses all.

    Returns
    -------
    HeadSimilarity
        For each group of heads and layer of the other network.

    Examples
    --------
    ::

        head_similarity((vit, resnet), images, "layer1.*", HeadGroups(n_groups=4)).plot()
    """
    if not isinstance(models, tuple | list) or len(models) != 2:
        raise InputError(f"models is of type {type(models).__name__}. Allowed: a tuple of two networks.")
    model, other = models
    own_data = data[0] if isinstance(data, tuple) else data
    measured = attention_distance(
        model, own_data, groups.layer, batch_size=batch_size, n_images=n_images, n_prefix=groups.n_prefix
    )
    layer, distance = measured.layers[0], measured.distances[0]
    n_groups = len(distance) if groups.n_groups is None else groups.n_groups
    if not 1 <= n_groups <= len(distance):
        raise InputError(f"n_groups={n_groups} is not possible. Allowed: 1 to {len(distance)}, the heads of {layer}.")
    members = np.array_split(np.argsort(distance), n_groups)
    measure = CKAMeasure()
    accumulator = SimilarityAccumulator(measure)
    batches, other_batches = tee(leave_out_small(paired_batches(data, 2, batch_size, n_images)))
    images_of_other = (batch for _, batch in other_batches)
    others = iter_activations([other], images_of_other, (other_layers,), reduce=measure.summarize)
    for (batch, _), (of_other,) in zip(batches, others, strict=True):
        heads = head_outputs(model, to_device(batch, device_of(model)), layer)[layer]  # (n, heads, tokens, channels)
        of_groups = {str(i): measure.summarize(heads[:, list(group)]) for i, group in enumerate(members)}
        accumulator.add(of_groups, of_other)
    return HeadSimilarity(
        layer,
        tuple(tuple(group.tolist()) for group in members),
        np.array([distance[group].mean() for group in members]),
        accumulator.layers[1],
        accumulator.matrix().values,
        accumulator.n_images,
    )
