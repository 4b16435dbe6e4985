"""Centred kernel alignment: of two matrices, and of networks batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from windvane.errors import InputError
from windvane.inspect.similarity.accumulator import SimilarityAccumulator
from windvane.inspect.similarity.comparison import Comparison
from windvane.inspect.similarity.gram import CONSTANT_TOLERANCE, flat
from windvane.inspect.similarity.measures import CKAMeasure, Kernel


def cka(X: Any, Y: Any, kernel: Kernel = "linear", unbiased: bool = True) -> float:
    """Compare two sets of features of the same examples by centered kernel alignment.

    Parameters
    ----------
    X, Y
        Tensors or arrays (n, ...), row by row the same examples.
    kernel
        "linear", or "rbf" with the median distance for its width.
    unbiased
        Whether the estimate of HSIC has no bias (HSIC1, needs four examples); else features that have nothing in common
        come near 1 where they are many and examples few.

    Returns
    -------
    float
        1 for the same features, up to a rotation and a scale; about 0 for independent ones, below which the unbiased
        estimate may fall; NaN where X or Y is constant.

    Raises
    ------
    InputError
        Where X and Y are not numbers for the same examples.

    Notes
    -----
    Kornblith et al., Similarity of Neural Network Representations Revisited, 2019, eq. 3; for the estimate without bias
    Nguyen et al., Do Wide and Deep Networks Learn the Same Things?, 2021, eq. 3. Computed in float64, on the features
    where both are fewer than the examples.
    """
    measure = CKAMeasure(kernel, unbiased)
    X, Y = (_features(one, name) for one, name in ((X, "X"), (Y, "Y")))
    if len(X) != len(Y) or len(X) < measure.min_batch_size:
        raise InputError(
            f"X has {len(X)} examples and Y {len(Y)}. Allowed: the same ones, at least {measure.min_batch_size}."
        )
    if kernel == "linear" and max(X.shape[1], Y.shape[1]) < len(X):
        return _in_feature_space(X, Y, unbiased)
    accumulator = SimilarityAccumulator(measure)
    accumulator.add({"X": measure.summarize(X)}, {"Y": measure.summarize(Y)})
    return float(accumulator.matrix().values[0, 0])


def _features(values: Any, name: str) -> Tensor:
    tensor = torch.as_tensor(values).detach()
    if tensor.ndim == 0 or tensor.is_complex():
        raise InputError(f"{name} is no table of numbers. Allowed: a tensor or array (n, ...) of real numbers.")
    features = flat(tensor.double())
    if not torch.isfinite(features).all():
        raise InputError(f"{name} holds NaN or infinite numbers. Allowed: finite ones.")
    return features


def _in_feature_space(X: Tensor, Y: Tensor, unbiased: bool) -> float:
    """Find the same in time n p1 p2 and memory p1 p2, without a matrix of all pairs of examples."""
    level = [float(one.mean(0).square().sum() * len(one)) for one in (X, Y)]
    X, Y = X - X.mean(0), Y - Y.mean(0)
    spread = [float(one.square().sum()) for one in (X, Y)]
    if any(own <= CONSTANT_TOLERANCE * (own + mean) for own, mean in zip(spread, level, strict=True)):
        return float("nan")
    cross, left, right = (_hsic(*two, unbiased) for two in ((X, Y), (X, X), (Y, Y)))
    return cross / (left * right) ** 0.5 if min(left, right) > 0 else float("nan")


def _hsic(X: Tensor, Y: Tensor, unbiased: bool) -> float:
    """HSIC of centered features, up to a factor that depends on n alone.

    With the diagonals k and l of both Gram matrices K and L, whose rows sum to zero: without the diagonals they sum to
    -k and -l, and the trace of their product loses k'l.
    """
    n, product = len(X), (X.T @ Y).square().sum()
    if unbiased:
        k, l = X.square().sum(1), Y.square().sum(1)
        product += -k @ l + k.sum() * l.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k @ l)
    return float(product)


class CKA(SimilarityAccumulator):
    """Centred kernel alignment of the layers of two networks, batch by batch.

    The minibatch estimator of Nguyen et al. 2021: HSIC is averaged over batches before it is divided, so the size of
    batches changes the result by noise alone.

    Parameters
    ----------
    kernel
        "linear" or "rbf".
    unbiased
        Whether HSIC is estimated without bias; without it small batches look more alike than they are.

    Examples
    --------
    ::

        cka = CKA()
        for left, right in iter_activations([vit, resnet], images, "block"):
            cka.update(left, right)
        cka.result().plot()
    """

    def __init__(self, *, kernel: Kernel = "linear", unbiased: bool = True) -> None:
        super().__init__(CKAMeasure(kernel, unbiased))

    def update(self, left: Mapping[str, Tensor], right: Mapping[str, Tensor] | None = None) -> None:
        """Take a batch into account.

        Parameters
        ----------
        left, right
            Layers of both networks for the same images, tensors (n, ...) by name; without `right` one with itself.

        Raises
        ------
        InputError
            Where a batch has fewer than four images, or other layers than the first.
        """
        first = {name: self.measure.summarize(one) for name, one in left.items()}
        self.add(first, first if right is None else {name: self.measure.summarize(one) for name, one in right.items()})

    def result(self, left: str = "first", right: str = "second") -> Comparison:
        """Divide the averages.

        Parameters
        ----------
        left, right
            What to call the networks.

        Returns
        -------
        Comparison
            With 95 % intervals over the batches.
        """
        return Comparison.of(self, self.matrix(), (left, right))
