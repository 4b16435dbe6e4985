"""Measures of how well one layer can be mapped onto another: SVCCA, PWCCA and Procrustes.

They need an eigendecomposition for each layer and singular values for each pair of layers, so they suit some tens of
layers and some hundreds of images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from windvane.errors import check_usable, warn_user
from windvane.inspect.similarity.gram import centered_gram, flatten_features
from windvane.inspect.similarity.measures import LayerSummary, SimilaritySums

CHANCE_WARNING = 0.5  # warns where unrelated layers reach this correlation
RANK_TOLERANCE = 1e-12  # of the largest eigenvalue: smaller ones are rounding


@dataclass(frozen=True)
class CCAMeasure:
    """Canonical correlation after singular value decomposition: SVCCA, or PWCCA with weights.

    Invariant to every invertible linear map of the leading directions. Two layers that together keep as many directions
    as there are images correlate by chance, so use many images. PWCCA is not symmetric. Raghu et al., SVCCA, 2017;
    Morcos et al., Insights on representational similarity in neural networks with canonical correlation, 2018, section
    2.2.

    Examples
    --------
    ::

        compare(vit, resnet, images, "block", CCAMeasure(explained_variance=0.9))
    """

    explained_variance: float = 0.99  # fraction of the variance in the leading directions that are kept
    # PWCCA: correlations are weighted by how much of the first layer's features they carry; otherwise all alike
    # (SVCCA).
    weighted: bool = False

    def __post_init__(self) -> None:
        explained = self.explained_variance
        check_usable("explained_variance", explained, 0 < explained <= 1, "a number above 0, up to 1")

    @property
    def title(self) -> str:
        """Name in figures."""
        return "PWCCA" if self.weighted else "SVCCA"

    def summarize(self, activations: Tensor) -> LayerSummary:
        """Keep the leading directions in the space of images; for the weights also the features along them."""
        values, vectors, undefined_reason = _spectrum(activations)
        explained = values.cumsum(0) / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
        n_directions = min(len(values), 1 + int((explained < self.explained_variance).sum()))
        directions = vectors[:, :n_directions]  # (n, k)
        parts: tuple[Tensor, ...] = (directions,)
        if self.weighted:
            features = flatten_features(activations)
            # Directions sum to zero over the images, so the features need no centering.
            parts = (directions, directions.T.to(features.dtype) @ features)  # (n, k), (k, p)
        return LayerSummary(parts, len(directions), undefined_reason)

    def compare(self, left: Sequence[LayerSummary], right: Sequence[LayerSummary]) -> SimilaritySums:
        """Mean canonical correlation of every pair; warns where unrelated layers reach a high one by chance."""
        shapes = [one.parts[0].shape for one in (*left, *right) if not one.undefined_reason]
        n_images, n_directions = (max((shape[axis] for shape in shapes), default=0) for axis in (0, 1))
        chance = math.sqrt(n_directions / max(1, n_images - 1))
        if chance > CHANCE_WARNING:
            warn_user(
                f"{self.title}: layers keep up to {n_directions} directions of batches of {n_images} images, so "
                f"unrelated layers reach about {chance:.1f}. Use batches of many more images, or keep less of the "
                "variance.",
            )
        return _pairwise(left, right, self._mean_correlation)

    def _mean_correlation(self, left: LayerSummary, right: LayerSummary) -> float:
        rotation, correlations, _ = torch.linalg.svd(left.parts[0].T @ right.parts[0], full_matrices=False)
        if not self.weighted:
            return float(correlations.mean())
        weights = (rotation.T.to(left.parts[1].dtype) @ left.parts[1]).abs().sum(1).double()
        return float((weights * correlations).sum() / weights.sum())


@dataclass(frozen=True)
class ProcrustesMeasure:
    """Cosine of the angle that is left between two layers after the best rotation.

    The nuclear norm of X'Y for centered X and Y of unit Frobenius norm; its arc cosine is a metric. Williams et al.,
    Generalized Shape Metrics on Neural Representations, 2021.

    Examples
    --------
    ::

        compare(vit, resnet, images, "block", ProcrustesMeasure())
    """

    title = "Procrustes"

    def summarize(self, activations: Tensor) -> LayerSummary:
        """Keep a square root of the Gram matrix."""
        values, vectors, undefined_reason = _spectrum(activations)
        factor = vectors * (values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)).sqrt()  # (n, r)
        return LayerSummary((factor,), len(factor), undefined_reason)

    def compare(self, left: Sequence[LayerSummary], right: Sequence[LayerSummary]) -> SimilaritySums:
        """Nuclear norm of every pair."""
        return _pairwise(left, right, lambda a, b: float(torch.linalg.svdvals(a.parts[0].T @ b.parts[0]).sum()))


def _spectrum(activations: Tensor) -> tuple[Tensor, Tensor, str]:
    """Eigenvalues (r,) and eigenvectors (n, r) of the Gram matrix, the largest first; why a layer is undefined."""
    gram = centered_gram(activations, exact=True)
    values, vectors = torch.linalg.eigh(gram.matrix)
    values, vectors = values.flip(0), vectors.flip(1)
    rank = max(1, int((values > RANK_TOLERANCE * values[0]).sum()))
    return values[:rank].clamp_min(0.0), vectors[:, :rank], gram.undefined_reason


def _pairwise(
    left: Sequence[LayerSummary],
    right: Sequence[LayerSummary],
    similarity: Callable[[LayerSummary, LayerSummary], float],
) -> SimilaritySums:
    cross = [[0.0 if a.undefined_reason or b.undefined_reason else similarity(a, b) for b in right] for a in left]
    of_left, of_right = ([0.0 if one.undefined_reason else 1.0 for one in side] for side in (left, right))
    return SimilaritySums(np.array(cross), np.array(of_left), np.array(of_right))
