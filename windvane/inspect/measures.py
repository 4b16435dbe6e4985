"""Measures of similarity between layers, by one interface.

A measure makes a sketch of each layer as soon as it has run, and compares sketches. What is true of many batches is

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
from windvane.inspect.gram import CONSTANT_FLAW, Gram, centred, centred_gram, pairs, rbf, squared_distances, u_centred

Kernel = Literal["linear", "rbf"]
Floats = NDArray[np.float64]

PAIRS_AT_ONCE = 2**15  # of images, when layers are multiplied
SAME = 1e-6  # by which distances differ through rounding alone


@dataclass(frozen=True)
class Sketch:
    """What a measure keeps of a layer.

    Attributes
    ----------
    parts
        Its tensors.
    n_images
        In the batch.
    flaw
        Why the layer cannot be compared; empty else.
    """

    parts: tuple[Tensor, ...]
    n_images: int
    flaw: str


@dataclass(frozen=True)
class Scores:
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
    def least(self) -> int:
        """How many images a batch needs."""

    def sketch(self, activations: Tensor) -> Sketch:
        """Keep of a layer, (n, ...), what comparing it needs."""

    def compare(self, left: Sequence[Sketch], right: Sequence[Sketch]) -> Scores:
        """Compare every layer with every other, for the images of one batch."""


@dataclass(frozen=True)
class KernelAlignment:
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

    least = 4

    def __post_init__(self) -> None:
        if self.kernel not in ("linear", "rbf"):
            raise unknown("kernel", self.kernel, ["linear", "rbf"])
        if not self.bandwidth > 0:
            raise InputError(f"bandwidth={self.bandwidth} is not positive. Allowed: a number above 0.")

    @property
    def title(self) -> str:
        """What it is called."""
        return f"CKA ({self.kernel}{', unbiased' if self.unbiased else ', biased'})"

    def sketch(self, activations: Tensor) -> Sketch:
        """Keep the centred Gram matrix, each pair of images once."""
        gram = checked_gram(activations, self.least)
        n_images = len(gram.matrix)
        matrix = rbf(gram.matrix, self.bandwidth) if self.kernel == "rbf" and not gram.flaw else gram.matrix
        if self.unbiased:
            vector = pairs(u_centred(matrix), diagonal=False) / (n_images * (n_images - 3)) ** 0.5
        else:
            vector = pairs(centred(matrix), diagonal=True) / (n_images - 1)
        return Sketch((vector,), n_images, gram.flaw)

    def compare(self, left: Sequence[Sketch], right: Sequence[Sketch]) -> Scores:
        """Take HSIC of every layer with every other and with itself."""
        return _vector_scores(left, right)


@dataclass(frozen=True)
class Dissimilarities:
    """Representational similarity analysis, RSA: whether two layers find the same images alike.

    Attributes
    ----------
    by
        "spearman": correlation of the ranks of the distances between images; "cosine": cosine of the distances, which
        is close to 1 for all layers, as distances are positive.
    """

    by: Literal["spearman", "cosine"] = "spearman"

    least = 4

    def __post_init__(self) -> None:
        if self.by not in ("spearman", "cosine"):
            raise unknown("by", self.by, ["spearman", "cosine"])

    @property
    def title(self) -> str:
        """What it is called."""
        return f"RSA ({self.by} of distances)"

    def sketch(self, activations: Tensor) -> Sketch:
        """Keep the Euclidean distances between images, or their ranks."""
        from scipy.stats import rankdata

        gram = checked_gram(activations, self.least)
        distances = pairs(squared_distances(gram.matrix).sqrt(), diagonal=False)
        if self.by == "spearman":
            ranks = torch.as_tensor(rankdata(distances.cpu().numpy()), device=distances.device)
            flaw = gram.flaw or (CONSTANT_FLAW if distances.max() - distances.min() <= SAME * distances.max() else "")
            distances = (ranks - ranks.mean()) * (not flaw)
        else:
            flaw = gram.flaw
        size = float(distances.norm()) or 1.0
        return Sketch((distances / size,), len(gram.matrix), flaw)

    def compare(self, left: Sequence[Sketch], right: Sequence[Sketch]) -> Scores:
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
        As in `centred_gram`.

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
    return centred_gram(activations, exact=exact)


def _vector_scores(left: Sequence[Sketch], right: Sequence[Sketch]) -> Scores:
    """Multiply every vector with every other, and each with itself: one matrix product for all layers."""
    first = [sketch.parts[0] for sketch in left]
    second = first if right is left else [sketch.parts[0].to(first[0].device) for sketch in right]
    cross = first[0].new_zeros((len(first), len(second)))
    for start in range(0, len(first[0]), PAIRS_AT_ONCE):
        rows = torch.stack([vector[start : start + PAIRS_AT_ONCE] for vector in first])
        columns = rows if right is left else torch.stack([vector[start : start + PAIRS_AT_ONCE] for vector in second])
        cross += rows @ columns.T
    of_left = torch.stack([vector @ vector for vector in first])
    of_right = of_left if right is left else torch.stack([vector @ vector for vector in second])
    return Scores(cross.cpu().numpy(), of_left.cpu().numpy(), of_right.cpu().numpy())
