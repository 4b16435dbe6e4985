"""Similarities computed the slow and obvious way, in numpy and float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gram(X: Any) -> Array:
    """Inner products of rows, in blocks of features."""
    flat = np.asarray(X).reshape(len(X), -1)
    whole = np.zeros((len(X), len(X)))
    for start in range(0, flat.shape[1], 1000):
        block = flat[:, start : start + 1000].astype(np.float64)
        whole += block @ block.T
    return whole


def hsic_unbiased(K: Array, L: Array) -> float:
    """Three terms of Song et al. 2012, as printed in Nguyen et al. 2021, eq. 3."""
    n = len(K)
    K, L, one = K.copy(), L.copy(), np.ones(n)
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)
    total = (
        np.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ K @ L @ one)
    )
    return float(total / (n * (n - 3)))


def hsic_biased(K: Array, L: Array) -> float:
    n = len(K)
    H = np.eye(n) - np.ones((n, n)) / n
    return float(np.trace(K @ H @ L @ H) / (n - 1) ** 2)


def rbf(X: Any) -> Array:
    flat = np.asarray(X, np.float64).reshape(len(X), -1)
    squares = np.array([[np.sum((a - b) ** 2) for b in flat] for a in flat])
    pairs = np.sort(squares[np.triu_indices(len(X), 1)])
    return np.exp(-squares / (2 * pairs[(len(pairs) - 1) // 2]))


def cka(X: Any, Y: Any, kernel: Any = gram, hsic: Any = hsic_unbiased) -> float:
    K, L = kernel(X), kernel(Y)
    return float(hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L)))


def cka_of_batches(batches: list[tuple[Any, Any]], hsic: Any = hsic_unbiased) -> float:
    """HSIC averaged, then divided; batches of one size."""
    grams = [(gram(X), gram(Y)) for X, Y in batches]
    cross = np.mean([hsic(K, L) for K, L in grams])
    return float(cross / np.sqrt(np.mean([hsic(K, K) for K, _ in grams]) * np.mean([hsic(L, L) for _, L in grams])))
