"""Centered kernel alignment: of two matrices, and of networks batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from windvane.errors import InputError
from windvane.inspect.batches import MIN_IMAGES
from windvane.inspect.similarity.accumulator import SimilarityAccumulator
from windvane.inspect.similarity.compare import compare_features
from windvane.inspect.similarity.comparison import Comparison
from windvane.inspect.similarity.gram import CONSTANT_TOLERANCE, flatten_features
from windvane.inspect.similarity.measures import CKAMeasure, Kernel


def cka(X: Any, Y: Any, kernel: Kernel = "linear", unbiased: bool = True) -> float:
    """Compute the centered kernel alignment of two sets of features of the same examples.

    Parameters
    ----------
    X, Y
        Tensors or arrays (n, ...), row by row the same examples.
    kernel
        "linear", or "rbf" with the median distance as its bandwidth.
    unbiased
        Use the unbiased estimate of HSIC (HSIC1, needs four examples). The biased one comes near 1 for independent
        features where they are many and examples few.

    Returns
    -------
    float
        1 for the same features up to a rotation and a scale; about 0 for independent ones, and the unbiased estimate
        may be negative; NaN if X or Y is constant.

    Notes
    -----
    Kornblith et al., Similarity of Neural Network Representations Revisited, 2019, eq. 3; for the unbiased estimate
    Nguyen et al., Do Wide and Deep Networks Learn the Same Things?, 2021, eq. 3. Computed in float64, in feature space
    where both have fewer features than examples.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).normal(size=(100, 8))
    >>> round(cka(X, 2 * X), 6)
    1.0
    """
    measure = CKAMeasure(kernel, unbiased)
    X, Y = (_as_features(one, name) for one, name in ((X, "X"), (Y, "Y")))
    if len(X) != len(Y) or len(X) < MIN_IMAGES:
        raise InputError(f"X has {len(X)} examples and Y {len(Y)}. Allowed: the same ones, at least {MIN_IMAGES}.")
    if kernel == "linear" and max(X.shape[1], Y.shape[1]) < len(X):
        return _cka_in_feature_space(X, Y, unbiased)
    return compare_features(X, Y, measure)


def _as_features(values: Any, name: str) -> Tensor:
    tensor = torch.as_tensor(values).detach()
    if tensor.ndim == 0 or tensor.is_complex():
        raise InputError(f"{name} is not a table of numbers. Allowed: a tensor or array (n, ...) of real numbers.")
    features = flatten_features(tensor.double())
    if not torch.isfinite(features).all():
        raise InputError(f"{name} has NaN or infinite numbers. Allowed: finite ones.")
    return features


def _cka_in_feature_space(X: Tensor, Y: Tensor, unbiased: bool) -> float:
    """The same in time n p1 p2 and memory p1 p2, without a matrix of all pairs of examples."""
    mean_squares = [float(one.mean(0).square().sum() * len(one)) for one in (X, Y)]
    X, Y = X - X.mean(0), Y - Y.mean(0)
    spreads = [float(one.square().sum()) for one in (X, Y)]
    if any(spread <= CONSTANT_TOLERANCE * (spread + mean) for spread, mean in zip(spreads, mean_squares, strict=True)):
        return float("nan")
    cross, of_x, of_y = (_hsic(*pair, unbiased) for pair in ((X, Y), (X, X), (Y, Y)))
    return cross / (of_x * of_y) ** 0.5 if min(of_x, of_y) > 0 else float("nan")


def _hsic(X: Tensor, Y: Tensor, unbiased: bool) -> float:
    """HSIC of centered features, up to a factor that depends on n alone."""
    # With the diagonals k and l of both Gram matrices K and L, whose rows sum to zero: without the diagonals they sum
    # to -k and -l, and the trace of their product loses k'l.
    n, product = len(X), (X.T @ Y).square().sum()
    if unbiased:
        k, l = X.square().sum(1), Y.square().sum(1)
        product += -k @ l + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ l)
    return float(product)


class CKA(SimilarityAccumulator):
    """Centered kernel alignment of the layers of two networks, batch by batch.

    The minibatch estimator of Nguyen et al. 2021: HSIC is averaged over batches before it is divided, so the batch size
    changes the result by noise alone.

    Parameters
    ----------
    kernel
        "linear" or "rbf".
    unbiased
        Use the unbiased estimate of HSIC; with the biased one small batches look more similar than they are.

    Examples
    --------
    ::

        cka = CKA()
        for of_vit, of_resnet in iter_activations([vit, resnet], images, "block"):
            cka.update(of_vit, of_resnet)
        cka.result("vit", "resnet").plot()
    """

    def __init__(self, *, kernel: Kernel = "linear", unbiased: bool = True) -> None:
        super().__init__(CKAMeasure(kernel, unbiased))

    def update(self, left: Mapping[str, Tensor], right: Mapping[str, Tensor] | None = None) -> None:
        """Add a batch of four images or more.

        Parameters
        ----------
        left, right
            Layers of both networks for the same images: tensors (n, ...) by name. Without `right` the first network is
            compared with itself.
        """
        of_left = {name: self.measure.summarize(one) for name, one in left.items()}
        of_right = of_left if right is None else {name: self.measure.summarize(one) for name, one in right.items()}
        self.add(of_left, of_right)

    def result(self, left: str = "first", right: str = "second") -> Comparison:
        """Return the similarities over all batches.

        Parameters
        ----------
        left, right
            Names of the networks.

        Returns
        -------
        Comparison
            With 95 % intervals over the batches.
        """
        return Comparison.from_accumulators([self], (left, right))
