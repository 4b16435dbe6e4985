"""Measures that ask how well one layer can be turned into another: Procrustes, SVCCA and PWCCA.

They need an eigendecomposition of the Gram matrix of each layer and singular values for each pair of layers, so they
are for some tens of layers and some hundreds of images.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from windvane.errors import InputError
from windvane.inspect.similarity.gram import flat
from windvane.inspect.similarity.measures import LayerSummary, SimilaritySums, checked_gram

BY_CHANCE = 0.5  # a canonical correlation that unrelated layers reach, from which it is said
RANK = 1e-12  # of the largest eigenvalue: what is smaller is rounding


@dataclass(frozen=True)
class ProcrustesMeasure:
    """How much of one layer is left after the best rotation onto another: cosine of the angle between them.

    Notes
    -----
    The nuclear norm of X'Y for centered X and Y of unit Frobenius norm; its arc cosine is a metric. Williams et al.,
    Generalized Shape Metrics on Neural Representations, 2021.
    """

    title = "Procrustes"
    min_batch_size = 4

    def summarize(self, activations: Tensor) -> LayerSummary:
        """Keep a square root of the Gram matrix."""
        gram = checked_gram(activations, self.min_batch_size, exact=True)
        values, vectors = _spectrum(gram.matrix)
        factor = vectors * (values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)).sqrt()  # (n, r)
        return LayerSummary((factor,), len(factor), gram.undefined_reason)

    def compare(self, left: Sequence[LayerSummary], right: Sequence[LayerSummary]) -> SimilaritySums:
        """Take the nuclear norm for every pair."""
        return _pairwise(left, right, lambda a, b: float(torch.linalg.svdvals(a.parts[0].T @ b.parts[0]).sum()))


@dataclass(frozen=True)
class CCAMeasure:
    """Canonical correlation after singular value decomposition: SVCCA, or PWCCA with weights.

    Attributes
    ----------
    explained_variance
        Part of the variance that the leading directions of each layer hold; the others are left out.
    weighted
        Whether correlations count by how much of the first layer's features they carry (PWCCA); else all the same.

    Notes
    -----
    Raghu et al., SVCCA, 2017; Morcos et al., Insights on representational similarity in neural networks with canonical
    correlation, 2018, section 2.2. Invariant to every invertible linear map of what is kept. Two layers that together
    keep as many directions as there are images correlate by chance: take many images. PWCCA is not symmetric.
    """

    explained_variance: float = 0.99
    weighted: bool = False

    min_batch_size = 4

    def __post_init__(self) -> None:
        if not 0 < self.explained_variance <= 1:
            raise InputError(
                f"explained_variance={self.explained_variance} is no part of the variance. Allowed: above 0, up to 1."
            )

    @property
    def title(self) -> str:
        """What it is called."""
        return "PWCCA" if self.weighted else "SVCCA"

    def summarize(self, activations: Tensor) -> LayerSummary:
        """Keep the leading directions in the space of images; for the weights also the features along them."""
        gram = checked_gram(activations, self.min_batch_size, exact=True)
        values, vectors = _spectrum(gram.matrix)
        share = values.cumsum(0) / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
        n_kept = min(len(values), 1 + int((share < self.explained_variance).sum()))
        directions = vectors[:, :n_kept]  # (n, k)
        if not self.weighted:
            return LayerSummary((directions,), len(directions), gram.undefined_reason)
        features = flat(activations)
        # Directions sum to zero over the images, so the features need no centring.
        return LayerSummary(
            (directions, directions.T.to(features.dtype) @ features), len(directions), gram.undefined_reason
        )  # (n, k), (k, p)

    def compare(self, left: Sequence[LayerSummary], right: Sequence[LayerSummary]) -> SimilaritySums:
        """Take the mean of the canonical correlations for every pair; warns where it means little."""
        shapes = [one.parts[0].shape for one in (*left, *right) if not one.undefined_reason]
        n_images, n_kept = (max((shape[axis] for shape in shapes), default=0) for axis in (0, 1))
        chance = math.sqrt(n_kept / max(1, n_images - 1))
        if chance > BY_CHANCE:
            warnings.warn(
                f"{self.title}: of batches of {n_images} images a layer keeps up to {n_kept} directions, so unrelated "
                f"layers reach about {chance:.1f}. Take batches of many more images, or keep less of the variance.",
                stacklevel=2,
            )
        return _pairwise(left, right, self._correlation)

    def _correlation(self, left: LayerSummary, right: LayerSummary) -> float:
        turns, correlations, _ = torch.linalg.svd(left.parts[0].T @ right.parts[0], full_matrices=False)
        if not self.weighted:
            return float(correlations.mean())
        carried = (turns.T.to(left.parts[1].dtype) @ left.parts[1]).abs().sum(1).double()
        return float((carried * correlations).sum() / carried.sum())


def _spectrum(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (r,) and eigenvectors (n, r) of a Gram matrix, the largest first, without what is rounding."""
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0), vectors.flip(1)
    rank = max(1, int((values > RANK * values[0]).sum()))
    return values[:rank].clamp_min(0.0), vectors[:, :rank]


def _pairwise(
    left: Sequence[LayerSummary],
    right: Sequence[LayerSummary],
    similarity: Callable[[LayerSummary, LayerSummary], float],
) -> SimilaritySums:
    cross = [[0.0 if a.undefined_reason or b.undefined_reason else similarity(a, b) for b in right] for a in left]
    sound_left, sound_right = ([0.0 if one.undefined_reason else 1.0 for one in side] for side in (left, right))
    return SimilaritySums(np.array(cross), np.array(sound_left), np.array(sound_right))
