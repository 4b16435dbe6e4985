"""Which layers changed: the same layers in several states of one network.

States are, for example, those before and after fine-tuning, or after training on 3, 10, 30 and 100 % of the data (Raghu
et al. 2021, figures 16 and 21).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from windvane.errors import InputError
from windvane.inspect.activations import read_steps
from windvane.inspect.batches import leave_out_small, paired_batches
from windvane.inspect.plots import LINE_COLORS, MARKERS, figure_and_axes, label_blocks
from windvane.inspect.result import Axes, Figure, Floats, long_frame
from windvane.inspect.similarity.accumulator import SimilarityAccumulator
from windvane.inspect.similarity.measures import CKAMeasure


@dataclass(frozen=True)
class Drift:
    """Similarity of the layers of networks to the same layers of a reference.

    Examples
    --------
    ::

        drift(before, {"after": after}, images).to_frame().sort_values("similarity").head()
    """

    networks: tuple[str, ...]  # names of the others
    layers: tuple[str, ...]  # in the order of execution
    similarity: Floats  # (networks, layers): unbiased linear CKA
    ci_low: Floats  # 95 % interval over batches; NaN if there was one batch
    ci_high: Floats
    n_images: int

    def to_frame(self) -> pd.DataFrame:
        """One row for each network and layer: network, layer, depth, similarity, ci_low, ci_high."""
        values = {"similarity": self.similarity, "ci_low": self.ci_low, "ci_high": self.ci_high}
        frame = long_frame({"network": self.networks, "layer": self.layers}, values)
        frame.insert(2, "depth", np.tile(np.arange(len(self.layers)), len(self.networks)))
        return frame

    def plot(self, ax: Axes | None = None) -> Figure:
        """Similarity through the network, one line with its interval for each network."""
        figure, ax = figure_and_axes(ax)
        depth = np.arange(len(self.layers))
        for i, name in enumerate(self.networks):
            color, marker = LINE_COLORS[i % len(LINE_COLORS)], MARKERS[i % len(MARKERS)]
            ax.plot(depth, self.similarity[i], f"-{marker}", color=color, label=name)
            ax.fill_between(depth, self.ci_low[i], self.ci_high[i], color=color, alpha=0.15, linewidth=0)
        label_blocks(ax, "x", self.layers)
        ax.set(ylabel="CKA with the reference", ylim=(0, 1.02), title="Which layers changed")
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
    """Compare states of a network with a reference, each layer with itself.

    Parameters
    ----------
    reference
        For example the network before fine-tuning.
    others
        The same network in other states, by name.
    data
        Images, or batches of them; batches of fewer than four are left out, with a warning.
    layers
        As in `layer_names`; the same ones in all networks.
    batch_size, n_images
        Images at a time; HSIC is averaged over batches. The first `n_images` are used; None uses all.

    Returns
    -------
    Drift
        For each network and layer.

    Examples
    --------
    ::

        drift(before, {"after 1 epoch": early, "after 10": late}, images).plot()
    """
    if not isinstance(others, Mapping) or not others:
        came = "is empty" if isinstance(others, Mapping) else f"is {type(others).__name__}"
        raise InputError(f'others {came}. Allowed: one network or more by name, as in {{"after": network}}.')
    measure = CKAMeasure()
    accumulators = {name: SimilarityAccumulator(measure) for name in others}
    networks = [reference, *others.values()]
    steps = leave_out_small(paired_batches(data, len(networks), batch_size, n_images))
    # Summaries, not activations: those of five networks for large images would fill any memory.
    summaries = read_steps(networks, steps, (layers,) * len(networks), measure.summarize, halve_to=None)
    for first, *rest in summaries:
        for (name, accumulator), other in zip(accumulators.items(), rest, strict=True):
            if tuple(other) != tuple(first):
                raise InputError(f"others[{name!r}] has the layers {list(other)}, but the reference {list(first)}.")
            accumulator.add(first, other)
    matrices = [accumulator.matrix() for accumulator in accumulators.values()]
    similarity, ci_low, ci_high = (
        np.stack([np.diagonal(getattr(one, field)) for one in matrices]) for field in ("values", "ci_low", "ci_high")
    )
    one = next(iter(accumulators.values()))
    return Drift(tuple(others), one.layers[0], similarity, ci_low, ci_high, one.n_images)
