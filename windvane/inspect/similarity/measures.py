"""Measures of similarity between layers, behind one protocol: CKA and RSA.

A measure summarizes each layer as soon as it has run, and compares summaries. The similarity over many batches is

    sum(cross) / sqrt(sum(left) * sum(right))

summed over the batches. For CKA this is the minibatch estimator of Nguyen et al. 2021 (average HSIC, then divide); for
a measure that is 1 for a layer and itself it is the mean over batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from windvane.errors import check_choice, check_usable
from windvane.inspect.result import Floats
from windvane.inspect.similarity.gram import (
    CONSTANT,
    center,
    centered_gram,
    pair_vector,
    rbf,
    squared_distances,
    u_center,
)

Kernel = Literal["linear", "rbf"]

PAIRS_AT_ONCE = 2**15  # of images, when layers are multiplied
SAME_DISTANCE = 1e-6  # relative; less is rounding


@dataclass(frozen=True)
class LayerSummary:
    """What a measure keeps of a layer for one batch."""

    parts: tuple[Tensor, ...]
    n_images: int
    undefined_reason: str  # why the layer cannot be compared; empty if it can


@dataclass(frozen=True)
class SimilaritySums:
    """Unnormalized similarities of one batch."""

    cross: Floats  # (layers of the first network, layers of the second)
    left: Floats  # each layer of the first with itself; 0 if it cannot be compared
    right: Floats  # each layer of the second with itself


class Measure(Protocol):
    """A measure of similarity between layers."""

    @property
    def title(self) -> str:
        """Name in figures."""

    def summarize(self, activations: Tensor) -> LayerSummary:
        """Keep of a layer (n, ...) what comparing it needs."""

    def compare(self, left: Sequence[LayerSummary], right: Sequence[LayerSummary]) -> SimilaritySums:
        """Compare every layer with every other for the images of one batch."""


class _InnerProducts:
    """Compares layers by the inner products of one vector of each."""

    def compare(self, left: Sequence[LayerSummary], right: Sequence[LayerSummary]) -> SimilaritySums:
        """Multiply the vectors of all layers, in one matrix product."""
        first = [summary.parts[0] for summary in left]
        second = first if right is left else [summary.parts[0].to(first[0].device) for summary in right]
        cross = first[0].new_zeros((len(first), len(second)))
        for start in range(0, len(first[0]), PAIRS_AT_ONCE):
            rows = torch.stack([vector[start : start + PAIRS_AT_ONCE] for vector in first])
            columns = rows if right is left else torch.stack([one[start : start + PAIRS_AT_ONCE] for one in second])
            cross += rows @ columns.T
        of_left = torch.stack([vector @ vector for vector in first])
        of_right = of_left if right is left else torch.stack([vector @ vector for vector in second])
        return SimilaritySums(cross.cpu().numpy(), of_left.cpu().numpy(), of_right.cpu().numpy())


@dataclass(frozen=True)
class CKAMeasure(_InnerProducts):
    """Centered kernel alignment (CKA) with a chosen kernel and estimator.

    Invariant to rotations, reflections and one scale for all features, not to other linear maps. Kornblith et al.,
    Similarity of Neural Network Representations Revisited, 2019.

    Examples
    --------
    ::

        compare(vit, resnet, images, measure=CKAMeasure("rbf", bandwidth=0.5))
    """

    kernel: Kernel = "linear"  # or "rbf"
    # HSIC1 of Song et al. 2012, which is zero on average for independent layers; the biased HSIC grows with the
    # features.
    unbiased: bool = True
    bandwidth: float = 1.0  # of the RBF kernel, in units of the median distance between images

    def __post_init__(self) -> None:
        check_choice("kernel", self.kernel, ("linear", "rbf"))
        check_usable("bandwidth", self.bandwidth, self.bandwidth > 0, "a number above 0")

    @property
    def title(self) -> str:
        """Name in figures."""
        return f"CKA ({self.kernel}{', unbiased' if self.unbiased else ', biased'})"

    def summarize(self, activations: Tensor) -> LayerSummary:
        """Keep the centered Gram matrix of (n, ...), each pair of images once."""
        gram = centered_gram(activations)
        n_images, matrix = len(gram.matrix), gram.matrix
        if self.kernel == "rbf" and not gram.undefined_reason:
            matrix = rbf(matrix, self.bandwidth)
        if self.unbiased:
            vector = pair_vector(u_center(matrix), diagonal=False) / (n_images * (n_images - 3)) ** 0.5
        else:
            vector = pair_vector(center(matrix), diagonal=True) / (n_images - 1)
        return LayerSummary((vector,), n_images, gram.undefined_reason)


@dataclass(frozen=True)
class RSAMeasure(_InnerProducts):
    """Representational similarity analysis (RSA): whether two layers have the same distances between images.

    Kriegeskorte et al., Representational similarity analysis, 2008.

    Examples
    --------
    ::

        compare(vit, resnet, images, measure=RSAMeasure("cosine"))
    """

    # "spearman": correlation of the ranks of the distances; "cosine": cosine of the distances, which is close to 1 for
    # all layers, as distances are positive.
    by: Literal["spearman", "cosine"] = "spearman"

    def __post_init__(self) -> None:
        check_choice("by", self.by, ("spearman", "cosine"))

    @property
    def title(self) -> str:
        """Name in figures."""
        return f"RSA ({self.by} of distances)"

    def summarize(self, activations: Tensor) -> LayerSummary:
        """Keep the Euclidean distances between the images of (n, ...), or their ranks."""
        from scipy.stats import rankdata

        gram = centered_gram(activations)
        reason = gram.undefined_reason
        distances = pair_vector(squared_distances(gram.matrix).sqrt(), diagonal=False)
        if self.by == "spearman":
            if not reason and distances.max() - distances.min() <= SAME_DISTANCE * distances.max():
                reason = CONSTANT
            ranks = torch.as_tensor(rankdata(distances.cpu().numpy()), device=distances.device)
            distances = (ranks - ranks.mean()) * (not reason)
        size = float(distances.norm()) or 1.0
        return LayerSummary((distances / size,), len(gram.matrix), reason)
