"""Measures of similarity between layers, by one interface.

A measure makes a summarize of each layer as soon as it has run, and compares summaries. What is true of many batches is

    sum(cross) / sqrt(sum(left) * sum(right))

over the batches: for CKA the minibatch estimator of Nguyen et al. 2021 (average HSIC first, then divide); for a measure
that is 1 for a layer and itself the mean over batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from windvane.errors import InputError, unknown
from windvane.inspect.similarity.gram import (
    CONSTANT,
    Gram,
    centered,
    centered_gram,
    pairs,
    rbf,
    squared_distances,
    u_centered,
)

Kernel = Literal["linear", "rbf"]
Floats = NDArray[np.float64]

PAIRS_AT_ONCE = 2**15  # of images, when layers are multiplied
SAME = 1e-6  # by which distances differ through rounding alone


@dataclass(frozen=True)
class LayerSummary:
    """What a measure keeps of a layer.

    Attributes
    ----------
    parts
        Its tensors.
    n_images
        In the batch.
    undefined_reason
        Why the layer cannot be compared; empty else.
    """

    parts: tuple[Tensor, ...]
    n_images: int
    undefined_reason: str


@dataclass(frozen=True)
class SimilaritySums:
    """Of one batch: layers of one network against those of another.

    Attributes
    ----------
    cross
        (layers of the first, layers of the second).
    left, right
        Each layer with itself; 0 where a layer cannot be compared.
    """

    cross: Floats
    left: Floats
    right: Floats


class Measure(Protocol):
    """A measure of similarity between layers."""

    @property
    def title(self) -> str:
        """What it is called in pictures."""

    @property
    def min_batch_size(self) -> int:
        """How many images a batch needs."""

    def summarize(self, activations: Tensor) -> LayerSummary:
        """Keep of a layer, (n, ...), what comparing it needs."""

    def compare(self, left: Sequence[LayerSummary], right: Sequence[LayerSummary]) -> SimilaritySums:
        """Compare every layer with every other, for the images of one batch."""


@dataclass(frozen=True)
class CKAMeasure:
    """Centred kernel alignment, CKA.

    Attributes
    ----------
    kernel
        "linear" or "rbf".
    unbiased
        HSIC1 of Song et al. 2012, which is zero on average for layers that have nothing in common; else the plain HSIC,
        which grows with the number of features.
    bandwidth
        Of the rbf kernel, in units of the median distance between images.

    Notes
    -----
    Kornblith et al., Similarity of Neural Network Representations Revisited, 2019. Invariant to rotations, reflections
    and one scale for all features, not to other linear maps.
    """

    kernel: Kernel = "linear"
    unbiased: bool = True
    bandwidth: float = 1.0

    min_batch_size = 4

    def __post_init__(self) -> None:
        if self.kernel not in ("linear", "rbf"):
            raise unknown("kernel", self.kernel, ["linear", "rbf"])
        if not self.bandwidth > 0:
            raise InputError(f"bandwidth={self.bandwidth} is not positive. Allowed: a number above 0.")

    @property
    def title(self) -> str:
        """What it is called."""
        return f"CKA ({self.kernel}{', unbiased' if self.unbiased else ', biased'})"

    def summarize(self, activations: Tensor) -> LayerSummary:
        """Keep the centered Gram matrix, each pair of images once."""
        gram = checked_gram(activations, self.min_batch_size)
        n_images = len(gram.matrix)
        matrix = rbf(gram.matrix, self.bandwidth) if self.kernel == "rbf" and not gram.undefined_reason else gram.matrix
        if self.unbiased:
            vector = pairs(u_centered(matrix), diagonal=False) / (n_images * (n_images - 3)) ** 0.5
        else:
            vector = pairs(centered(matrix), diagonal=True) / (n_images - 1)
        return LayerSummary((vector,), n_images, gram.undefined_reason)

    def compare(self, left: Sequence[LayerSummary], right: Sequence[LayerSummary]) -> SimilaritySums:
        """Take HSIC of every layer with every other and with itself."""
        return _vector_scores(left, right)


@dataclass(frozen=True)
class RSAMeasure:
    """Representational similarity analysis, RSA: whether two layers find the same images alike.

    Attributes
    ----------
    by
        "spearman": correlation of the ranks of the distances between images; "cosine": cosine of the distances, which
        is close to 1 for all layers, as distances are positive.
    """

    by: Literal["spearman", "cosine"] = "spearman"

    min_batch_size = 4

    def __post_init__(self) -> None:
        if self.by not in ("spearman", "cosine"):
            raise unknown("by", self.by, ["spearman", "cosine"])

    @property
    def title(self) -> str:
        """What it is called."""
        return f"RSA ({self.by} of distances)"

    def summarize(self, activations: Tensor) -> LayerSummary:
        """Keep the Euclidean distances between images, or their ranks."""
        from scipy.stats import rankdata

        gram = checked_gram(activations, self.min_batch_size)
        distances = pairs(squared_distances(gram.matrix).sqrt(), diagonal=False)
        if self.by == "spearman":
            ranks = torch.as_tensor(rankdata(distances.cpu().numpy()), device=distances.device)
            undefined_reason = gram.undefined_reason or (
                CONSTANT if distances.max() - distances.min() <= SAME * distances.max() else ""
            )
            distances = (ranks - ranks.mean()) * (not undefined_reason)
        else:
            undefined_reason = gram.undefined_reason
        size = float(distances.norm()) or 1.0
        return LayerSummary((distances / size,), len(gram.matrix), undefined_reason)

    def compare(self, left: Sequence[LayerSummary], right: Sequence[LayerSummary]) -> SimilaritySums:
        """Correlate every layer with every other."""
        return _vector_scores(left, right)


def checked_gram(activations: Tensor, least: int, *, exact: bool = False) -> Gram:
    """Make the Gram matrix of a batch that is large enough.

    Parameters
    ----------
    activations
        (n, ...).
    least
        Images that are needed.
    exact
        As in `centered_gram`.

    Returns
    -------
    Gram
        (n, n).

    Raises
    ------
    InputError
        Where there are fewer images.
    """
    n_images = activations.shape[0] if activations.ndim else 0
    if n_images < least:
        raise InputError(f"batch_size: a batch of {n_images} images cannot be compared. Allowed: at least {least}.")
    return centered_gram(activations, exact=exact)


def _vector_scores(left: Sequence[LayerSummary], right: Sequence[LayerSummary]) -> SimilaritySums:
    """Multiply every vector with every other, and each with itself: one matrix product for all layers."""
    first = [summary.parts[0] for summary in left]
    second = first if right is left else [summary.parts[0].to(first[0].device) for summary in right]
    cross = first[0].new_zeros((len(first), len(second)))
    for start in range(0, len(first[0]), PAIRS_AT_ONCE):
        rows = torch.stack([vector[start : start + PAIRS_AT_ONCE] for vector in first])
        columns = rows if right is left else torch.stack([vector[start : start + PAIRS_AT_ONCE] for vector in second])
        cross += rows @ columns.T
    of_left = torch.stack([vector @ vector for vector in first])
    of_right = of_left if right is left else torch.stack([vector @ vector for vector in second])
    return SimilaritySums(cross.cpu().numpy(), of_left.cpu().numpy(), of_right.cpu().numpy())
