"""Gram matrices of the activations of a layer, exact enough to compare all layers from them alone.

Features may be a million and images some hundreds, so everything else is done with (n, n) matrices. They are summed up
in float64 from blocks of features that are centered first: products of float32 numbers lose nothing that counts where
they lie around zero. A block is centered and multiplied while it is in the cache, so activations are read once. What is
taken away first is the mean of some images, k; the rest of it is taken from the (n, n) sums, in float64. That mean
is off by no more than the spread of all images over the square root of k, so the sums grow at most (1 + n / k)-fold,
which is nine-fold, and (1 + 1 / k)-fold where images come in no order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

BLOCK_FEATURES = 4096  # that float32 may sum up
CACHED, LAUNCHED = 2**20, 2**23  # numbers that are centered at a time: in the cache of a core, or so many for a GPU
MEANT, EVERY = 16, 8  # images for the mean that is taken away first: so many, and at least every eighth
CONSTANT_TOLERANCE = 1e-12  # of the mean square: less varies by rounding alone
TINY = 1e-30  # mean square below which products leave the range of float32

CONSTANT, NOT_FINITE = "constant", "not finite"


@dataclass(frozen=True)
class Gram:
    """Inner products of images.

    Attributes
    ----------
    matrix
        (n, n), float64, of features whose mean over the images is zero; zeros where there is a undefined_reason.
    undefined_reason
        Why the layer says nothing about the images, "constant" or "not finite"; empty else.
    """

    matrix: Tensor
    undefined_reason: str


def flat(activations: Tensor) -> Tensor:
    """Lay the features of each image side by side, in the order of memory, so that they need no copy.

    Parameters
    ----------
    activations
        (n, ...).

    Returns
    -------
    Tensor
        (n, p); every order of features has the same Gram matrix.
    """
    if activations.ndim == 1:
        return activations[:, None]  # (n, 1)
    strides = activations.stride()
    axes = sorted(range(1, activations.ndim), key=lambda axis: -strides[axis])
    return activations.permute(0, *axes).flatten(1)  # (n, p)


def centered_gram(activations: Tensor, *, exact: bool = False) -> Gram:
    """Multiply every image with every other, after the mean image is taken away.

    Parameters
    ----------
    activations
        (n, ...), any floating point type.
    exact
        Whether products are taken in float64 too, for measures that divide by small eigenvalues.

    Returns
    -------
    Gram
        (n, n).
    """
    with in_full_precision(activations.device):
        return _centered_gram(flat(activations.detach()), exact=exact)


@contextmanager
def in_full_precision(device: torch.device) -> Iterator[None]:
    """Take products in the type of their factors, whatever autocast and TF32 say around it.

    Parameters
    ----------
    device
        Of the factors.
    """
    before = torch.get_float32_matmul_precision()
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)


def _centered_gram(features: Tensor, *, exact: bool) -> Gram:
    n_numbers = features.numel()
    wide = exact or features.dtype == torch.float64
    matrix, level = _summed(features, torch.float64 if wide else torch.float32)
    spread = float(matrix.trace())
    if not wide and not TINY < (spread + level) / n_numbers < 1 / TINY:
        matrix, level = _summed(features, torch.float64)
        spread = float(matrix.trace())
    undefined_reason = ""
    if not spread + level < float("inf"):  # also where it is no number
        undefined_reason = NOT_FINITE
    elif spread <= CONSTANT_TOLERANCE * (spread + level):
        undefined_reason = CONSTANT
    return Gram(torch.zeros_like(matrix) if undefined_reason else matrix, undefined_reason)


def _summed(features: Tensor, dtype: torch.dtype) -> tuple[Tensor, float]:
    """Gram matrix of the centered features, and about the sum of squares that the mean image takes away from it."""
    n_images, n_features = features.shape
    every = max(1, min(EVERY, n_images // MEANT))
    most = CACHED if features.device.type == "cpu" else LAUNCHED
    n_part = max(BLOCK_FEATURES, most // n_images // BLOCK_FEATURES * BLOCK_FEATURES)
    centered_part = features.new_empty((n_images, min(n_part, n_features)), dtype=dtype)
    whole = features.new_zeros((n_images, n_images), dtype=torch.float64)
    level = features.new_zeros((), dtype=torch.float64)
    for part in features.split(n_part, dim=1):  # (n, features)
        mean = part[::every].mean(0, dtype=dtype)  # (features,)
        level += n_images * mean.double().square().sum()
        whole += _product(torch.sub(part, mean, out=centered_part[:, : part.shape[1]]))
    matrix = centered(whole)
    return matrix, float(level + (whole - matrix).trace())


def _product(features: Tensor) -> Tensor:
    """Multiply rows: blocks in their own type, all at once so that few threads wait for each other, sums in float64.

    A quarter of the products, below the diagonal, is copied from above it.
    """
    n_images, n_features = features.shape
    half, n_blocks = n_images // 2, n_features // BLOCK_FEATURES
    rest = features[:, n_blocks * BLOCK_FEATURES :]
    product = (rest @ rest.T).double()
    if n_blocks:
        whole = features[:, : n_blocks * BLOCK_FEATURES]
        blocks = whole.unflatten(1, (n_blocks, BLOCK_FEATURES)).transpose(0, 1)  # (blocks, n, features)
        first, second = blocks[:, :half], blocks[:, half:]
        upper = torch.bmm(first, blocks.transpose(1, 2)).sum(0, dtype=torch.float64)  # (n / 2, n)
        product[:half] += upper
        product[half:, :half] += upper[:, half:].T
        product[half:, half:] += torch.bmm(second, second.transpose(1, 2)).sum(0, dtype=torch.float64)
    return product


def rbf(gram: Tensor, bandwidth: float) -> Tensor:
    """Turn a linear Gram matrix into that of the radial basis function kernel.

    Parameters
    ----------
    gram
        (n, n), linear.
    bandwidth
        In units of the median distance between two images.

    Returns
    -------
    Tensor
        (n, n), ones on the diagonal.
    """
    squares = squared_distances(gram)
    median = squares.flatten()[_upper(len(gram), 1)].median()
    if not median > 0:  # more than half of the images are the same
        return torch.zeros_like(gram)
    return torch.exp(squares / (-2 * bandwidth**2 * median))


def squared_distances(gram: Tensor) -> Tensor:
    """Squared distances between images, (n, n), from their Gram matrix."""
    diagonal = gram.diagonal()
    return (diagonal[:, None] + diagonal - 2 * gram).clamp_min(0.0)


def centered(gram: Tensor) -> Tensor:
    """Take the mean out of rows and columns, as H K H."""
    rows = gram.mean(0)
    return gram - rows - rows[:, None] + rows.mean()


def u_centered(gram: Tensor) -> Tensor:
    """Centre without the diagonal, so that inner products estimate without bias.

    Parameters
    ----------
    gram
        (n, n), at least 4 images.

    Returns
    -------
    Tensor
        (n, n), zeros on the diagonal; rows sum to zero. Two of them have the inner product n (n - 3) HSIC1, the three
        terms of equation 5 in Song et al. 2012.

    Notes
    -----
    Székely and Rizzo, Partial distance correlation, Annals of Statistics 2014, eq. 2.1.
    """
    n_images = len(gram)
    hollow = gram - torch.diag(gram.diagonal())
    rows = hollow.sum(0)
    whole = rows.sum() / ((n_images - 1) * (n_images - 2))
    rows = rows / (n_images - 2)
    return (hollow - rows - rows[:, None] + whole).fill_diagonal_(0.0)


def pairs(matrix: Tensor, *, diagonal: bool) -> Tensor:
    """Write a symmetric matrix as a vector, so that inner products of vectors are those of matrices.

    Parameters
    ----------
    matrix
        (n, n), symmetric.
    diagonal
        Whether it counts; without it zeros are meant.

    Returns
    -------
    Tensor
        Each pair of images once; n (n - 1) / 2 numbers, with the diagonal n more.
    """
    above = matrix.flatten()[_upper(len(matrix), 1).to(matrix.device)] * 2**0.5
    return torch.cat([above, matrix.diagonal()]) if diagonal else above


@lru_cache(maxsize=4)
def _upper(n_images: int, offset: int) -> Tensor:
    rows, columns = torch.triu_indices(n_images, n_images, offset)
    flat_places: Tensor = rows * n_images + columns
    return flat_places
