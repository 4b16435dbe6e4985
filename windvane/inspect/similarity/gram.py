"""Gram matrices of layers, exact enough to compare all layers from them alone.

There may be a million features and some hundreds of images, so everything else works on (n, n) matrices. They are
summed in float64 from products of blocks of features. Products of float32 lose nothing that counts where features lie
around zero. Where the mean image is small against the spread of the images, features are multiplied as they are, and
centered in the (n, n) sums; that costs two bits at most. Otherwise blocks are centered first, each while it is in the
cache, so activations are read once. The mean that is subtracted first is that of some images, k; the rest of it is
subtracted from the (n, n) sums in float64. That mean is off by at most the spread of all images over the square root of
k, so the sums grow at most (1 + n / k)-fold, which is nine-fold, and (1 + 1 / k)-fold for images in random order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from windvane.errors import InputError
from windvane.inspect.batches import MIN_IMAGES

BLOCK_FEATURES = 4096  # that float32 may sum
CPU_NUMBERS, GPU_NUMBERS = 2**20, 2**23  # centered at a time: in the cache of a core; enough for a GPU
MEAN_IMAGES, MEAN_STEP = 16, 8  # the mean that is subtracted first is of so many images, and at least every eighth
CONSTANT_TOLERANCE = 1e-12  # of the mean square: less variance is rounding
SMALL_MEAN = 3.0  # times the spread: up to there the squares of the mean image cost float32 two bits
TINY_SQUARE = 1e-30  # mean square below which products leave the range of float32

CONSTANT, NOT_FINITE = "constant", "not finite"  # why a layer cannot be compared


@dataclass(frozen=True)
class Gram:
    """Inner products of the centered features of images."""

    matrix: Tensor  # (n, n) float64; zeros where it is undefined
    undefined_reason: str  # CONSTANT, NOT_FINITE, or empty


def flatten_features(activations: Tensor) -> Tensor:
    """View (n, ...) as (n, p), the features in the order of memory: without a copy, and with the same Gram matrix."""
    if activations.ndim == 1:
        return activations[:, None]  # (n, 1)
    strides = activations.stride()
    axes = sorted(range(1, activations.ndim), key=lambda axis: -strides[axis])
    return activations.permute(0, *axes).flatten(1)  # (n, p)


def centered_gram(activations: Tensor, *, exact: bool = False) -> Gram:
    """Gram matrix of (n, ...) after the mean image is subtracted."""
    # With `exact` the products are taken in float64 too, for measures that divide by small eigenvalues.
    n_images = activations.shape[0] if activations.ndim else 0
    if n_images < MIN_IMAGES:
        raise InputError(
            f"batch_size: a batch of {n_images} images cannot be compared. Allowed: at least {MIN_IMAGES}."
        )
    with full_precision(activations.device):
        features = flatten_features(activations.detach())
        wide = exact or features.dtype == torch.float64
        near_zero = features.dtype == torch.float32 and not wide and _has_small_mean(features)
        matrix, mean_square = _sum_blocks(features, torch.float64 if wide else torch.float32, centered=not near_zero)
        spread = float(matrix.trace())
        if near_zero and not mean_square <= SMALL_MEAN * spread:
            matrix, mean_square = _sum_blocks(features, torch.float32)
            spread = float(matrix.trace())
        is_usual = TINY_SQUARE < (spread + mean_square) / features.numel() < 1 / TINY_SQUARE
        if not wide and not is_usual and bool(features.any()):
            matrix, mean_square = _sum_blocks(features, torch.float64)
            spread = float(matrix.trace())
    reason = ""
    if not spread + mean_square < math.inf:  # also for NaN
        reason = NOT_FINITE
    elif spread <= CONSTANT_TOLERANCE * (spread + mean_square):
        reason = CONSTANT
    return Gram(torch.zeros_like(matrix) if reason else matrix, reason)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Multiply in the dtype of the factors, whatever autocast and TF32 are set to."""
    before = torch.get_float32_matmul_precision()
    if before != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        if before != "highest":
            torch.set_float32_matmul_precision(before)


def _has_small_mean(features: Tensor) -> bool:
    """Whether the first features of some images have a small mean; the sums tell later whether all have."""
    n_images = len(features)
    some = features[:: max(1, min(MEAN_STEP, n_images // MEAN_IMAGES)), : 4 * BLOCK_FEATURES]
    mean_square = some.mean(0).square().sum()
    return bool(mean_square <= SMALL_MEAN * (some.square().sum() / len(some) - mean_square))


def _sum_blocks(features: Tensor, dtype: torch.dtype, *, centered: bool = True) -> tuple[Tensor, float]:
    """Gram matrix of the centered features (n, p), and about the sum of squares of the mean that was subtracted."""
    # Without `centered` nothing is subtracted before the products are summed.
    n_images, n_features = features.shape
    step = max(1, min(MEAN_STEP, n_images // MEAN_IMAGES))
    n_numbers = CPU_NUMBERS if features.device.type == "cpu" else GPU_NUMBERS
    n_part = max(BLOCK_FEATURES, n_numbers // n_images // BLOCK_FEATURES * BLOCK_FEATURES)
    buffer = features.new_empty((n_images, min(n_part, n_features) if centered else 0), dtype=dtype)
    total = features.new_zeros((n_images, n_images), dtype=torch.float64)
    mean_square = features.new_zeros((), dtype=torch.float64)
    for part in features.split(n_part, dim=1):  # (n, features)
        if not centered:
            total += _block_product(part)
            continue
        mean = part[::step].mean(0, dtype=dtype)  # (features,)
        mean_square += n_images * mean.double().square().sum()
        total += _block_product(torch.sub(part, mean, out=buffer[:, : part.shape[1]]))
    matrix = center(total)
    return matrix, float(mean_square + (total - matrix).trace())


def _block_product(features: Tensor) -> Tensor:
    """Inner products of rows: blocks in their own dtype, all at once so that few threads wait, summed in float64."""
    # A quarter of the products, below the diagonal, is copied from above it.
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
    """Gram matrix of the RBF kernel from the linear one; `bandwidth` in units of the median distance of two images."""
    squares = squared_distances(gram)
    median = squares.flatten()[_upper_indices(len(gram))].median()
    if not median > 0:  # more than half of the images are the same
        return torch.zeros_like(gram)
    return torch.exp(squares / (-2 * bandwidth**2 * median))


def squared_distances(gram: Tensor) -> Tensor:
    """Squared distances between images, (n, n), from their Gram matrix."""
    diagonal = gram.diagonal()
    return (diagonal[:, None] + diagonal - 2 * gram).clamp_min(0.0)


def center(gram: Tensor) -> Tensor:
    """Subtract the mean of rows and columns: H K H."""
    rows = gram.mean(0)
    return gram - rows - rows[:, None] + rows.mean()


def u_center(gram: Tensor) -> Tensor:
    """Center (n, n), n > 3, without its diagonal, which becomes zero, so that inner products are unbiased."""
    # Two such matrices have the inner product n (n - 3) HSIC1, the three terms of equation 5 in Song et al. 2012.
    # Székely and Rizzo, Partial distance correlation, Annals of Statistics 2014, eq. 2.1.
    n_images = len(gram)
    hollow = gram - torch.diag(gram.diagonal())
    rows = hollow.sum(0)
    whole = rows.sum() / ((n_images - 1) * (n_images - 2))
    rows = rows / (n_images - 2)
    return (hollow - rows - rows[:, None] + whole).fill_diagonal_(0.0)


def pair_vector(matrix: Tensor, *, diagonal: bool) -> Tensor:
    """Symmetric (n, n) as a vector with the same inner products: each pair once, and the diagonal unless it is zero."""
    above = matrix.flatten()[_upper_indices(len(matrix)).to(matrix.device)] * 2**0.5
    return torch.cat([above, matrix.diagonal()]) if diagonal else above


@lru_cache(maxsize=4)
def _upper_indices(n_images: int) -> Tensor:
    """Return where the elements above the diagonal are in a flattened matrix."""
    rows, columns = torch.triu_indices(n_images, n_images, offset=1)
    indices: Tensor = rows * n_images + columns
    return indices
