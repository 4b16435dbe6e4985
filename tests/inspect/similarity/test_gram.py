"""Gram matrices against float64 in numpy, also where float32 would fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from slow_similarity import gram, rbf
from torch import Tensor

from windvane.inspect.similarity import gram as gram_module
from windvane.inspect.similarity.gram import (
    center,
    centered_gram,
    flatten_features,
    pair_vector,
    squared_distances,
    u_center,
)
from windvane.inspect.similarity.gram import rbf as fast_rbf


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def slow(x: Tensor) -> np.ndarray:
    features = flatten_features(x).double().numpy()
    return gram(features - features.mean(0))


@pytest.mark.parametrize("shape", [(4, 1), (7,), (64, 3000), (20, 3, 17, 19), (9, 70000), (64, 40000)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_equals_numpy(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = (normal(*shape) + 3).to(dtype)
    found, known = centered_gram(x).matrix.numpy(), slow(x)
    np.testing.assert_allclose(found, known, atol=1e-6 * np.abs(known).max())


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e15, 1e30])
def test_scale_does_not_matter(scale: float) -> None:
    x = normal(12, 40)
    found, known = centered_gram(x * scale), slow(x)
    np.testing.assert_allclose(found.matrix.numpy() / scale / scale, known, rtol=1e-4, atol=1e-6 * known.max())
    assert not found.undefined_reason


def test_far_from_zero() -> None:
    x = normal(32, 5000) + 1e4  # in float32 a product of two images has the size 1e12, what counts has 1e4
    found, known = centered_gram(x).matrix.numpy(), slow(x)
    np.testing.assert_allclose(found, known, atol=2e-6 * known.max())


@pytest.mark.parametrize(
    ("mean", "centered"),
    [(0.0, [False]), (1.5, [False]), (2.5, [True]), (torch.linspace(0, 4, 70000), [False, True])],
)
def test_features_with_a_small_mean_are_multiplied_as_they_are(
    mean: float | Tensor, centered: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last mean is small in the features that are looked at first, and not in all of them."""
    calls: list[bool] = []
    real = gram_module._sum_blocks

    def spied(*args: Any, centered: bool = True) -> tuple[Tensor, float]:
        calls.append(centered)
        return real(*args, centered=centered)

    monkeypatch.setattr(gram_module, "_sum_blocks", spied)
    x = normal(32, 70000) + mean
    found, known = centered_gram(x).matrix.numpy(), slow(x)
    np.testing.assert_allclose(found, known, atol=1e-6 * known.max())
    assert calls == centered


def test_zeros_are_not_summed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes: list[torch.dtype] = []
    real = gram_module._sum_blocks

    def spied(features: Tensor, dtype: torch.dtype, *, centered: bool = True) -> tuple[Tensor, float]:
        dtypes.append(dtype)
        return real(features, dtype, centered=centered)

    monkeypatch.setattr(gram_module, "_sum_blocks", spied)
    assert centered_gram(torch.zeros(8, 100)).undefined_reason == "constant"
    assert dtypes == [torch.float32]
    centered_gram(torch.full((8, 100), 1e-25))
    assert dtypes[-1] == torch.float64


@pytest.mark.parametrize(
    ("x", "undefined_reason"),
    [
        (torch.zeros(6, 5), "constant"),
        (torch.full((6, 5), 0.1), "constant"),
        (normal(1, 900).expand(6, 900) * 1e3, "constant"),
        (torch.tensor([1.0, 2, 3, torch.nan]), "not finite"),
        (torch.tensor([1.0, 2, 3, torch.inf]), "not finite"),
    ],
)
def test_undefined_reasons(x: Tensor, undefined_reason: str) -> None:
    found = centered_gram(x)
    assert found.undefined_reason == undefined_reason
    assert not found.matrix.any()


def test_order_in_memory_is_kept() -> None:
    x = normal(4, 3, 8, 8).to(memory_format=torch.channels_last)
    assert flatten_features(x).data_ptr() == x.data_ptr()
    torch.testing.assert_close(centered_gram(x).matrix, centered_gram(x.contiguous()).matrix, rtol=1e-5, atol=1e-4)
    tokens = normal(7, 4, 6).transpose(0, 1)
    assert flatten_features(tokens).shape == (4, 42)


def test_rbf_equals_numpy() -> None:
    x = normal(15, 30)
    np.testing.assert_allclose(fast_rbf(centered_gram(x).matrix, 1.0).numpy(), rbf(x), atol=1e-6)
    assert not fast_rbf(torch.zeros(5, 5), 1.0).any()


def test_squared_distances() -> None:
    x = normal(10, 20).double()
    torch.testing.assert_close(squared_distances(x @ x.T), torch.cdist(x, x) ** 2, atol=1e-10, rtol=1e-10)


@settings(deadline=None, max_examples=20)
@given(n=st.integers(4, 12), p=st.integers(1, 20), seed=st.integers(0, 1000))
def test_centering(n: int, p: int, seed: int) -> None:
    x = normal(n, p, seed=seed).double()
    K = x @ x.T
    H = torch.eye(n, dtype=torch.float64) - 1 / n
    torch.testing.assert_close(center(K), H @ K @ H)
    U = u_center(K)
    torch.testing.assert_close(U.sum(0), torch.zeros(n, dtype=torch.float64), atol=1e-10, rtol=0)
    assert not U.diagonal().any()
    torch.testing.assert_close(u_center(center(K)), U)


def test_pairs_keep_inner_products() -> None:
    a, b = (centered_gram(normal(9, 5, seed=seed)).matrix for seed in (0, 1))
    torch.testing.assert_close(pair_vector(a, diagonal=True) @ pair_vector(b, diagonal=True), (a * b).sum())
    a, b = u_center(a), u_center(b)
    torch.testing.assert_close(pair_vector(a, diagonal=False) @ pair_vector(b, diagonal=False), (a * b).sum())


def test_autocast_and_coarse_products_around_it_change_nothing() -> None:
    x = torch.randn(20, 300, generator=torch.Generator().manual_seed(0))
    expected, before = centered_gram(x).matrix, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = centered_gram(x).matrix
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found, expected)
