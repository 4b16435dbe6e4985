"""CKA is exact, has the invariances that it should have and no others, and does not depend on the batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import TinyResNet, images, seeded
from slow_similarity import cka as slow_cka
from slow_similarity import cka_of_batches, gram, hsic_biased, hsic_unbiased, rbf
from torch import Tensor

from windvane.errors import InputError
from windvane.inspect.activations import collect_activations, iter_activations
from windvane.inspect.similarity.cka import CKA, cka


def normal(n: int, p: int, seed: int) -> Tensor:
    return torch.randn(n, p, generator=torch.Generator().manual_seed(seed)).double()


def related(n: int, p: int, q: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    base = normal(n, 4, seed)
    return base @ normal(4, p, seed + 1) + normal(n, p, seed + 2), base @ normal(4, q, seed + 3) + normal(
        n, q, seed + 4
    )


def rotation(p: int) -> Tensor:
    return torch.linalg.qr(normal(p, p, 7))[0]


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(4, 40),
    p=st.integers(1, 60),
    q=st.integers(1, 60),
    unbiased=st.booleans(),
    kernel=st.sampled_from(["linear", "rbf"]),
    seed=st.integers(0, 999),
)
def test_equals_numpy(n: int, p: int, q: int, unbiased: bool, kernel: Any, seed: int) -> None:
    X, Y = related(n, p, q, seed)
    hsic = hsic_unbiased if unbiased else hsic_biased
    own = [hsic(K, K) for K in map(gram if kernel == "linear" else rbf, (X, Y))]
    if min(own) > 1e-9:
        known = slow_cka(X, Y, gram if kernel == "linear" else rbf, hsic)
        assert cka(X, Y, kernel, unbiased) == pytest.approx(known, rel=1e-6, abs=1e-6)


def test_equals_numpy_on_real_activations() -> None:
    found = collect_activations(seeded(TinyResNet), images(40), "*")
    for one in found.values():
        assert cka(one, found["stem"]) == pytest.approx(slow_cka(one, found["stem"]), abs=1e-6)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("unbiased", [True, False])
@pytest.mark.parametrize(("p", "q"), [(12, 8), (300, 200)])
def test_invariances(kernel: Any, unbiased: bool, p: int, q: int) -> None:
    X, Y = related(60, p, q)
    value = cka(X, Y, kernel, unbiased)
    assert cka(X @ rotation(p) * 17 + 3, Y, kernel, unbiased) == pytest.approx(value, abs=1e-6)
    assert cka(Y, X, kernel, unbiased) == pytest.approx(value, abs=1e-9)
    assert cka(X, X, kernel, unbiased) == pytest.approx(1, abs=1e-9)
    assert abs(cka(X @ torch.diag(torch.logspace(-1, 1, p).double()), Y, kernel, unbiased) - value) > 1e-3


def test_independent_features() -> None:
    pairs = [(normal(30, 400, seed), normal(30, 400, seed + 100)) for seed in range(20)]
    unbiased = [cka(X, Y) for X, Y in pairs]
    assert abs(np.mean(unbiased)) < 0.02
    assert max(map(abs, unbiased)) < 0.15
    assert min(cka(X, Y, unbiased=False) for X, Y in pairs) > 0.8


def test_both_ways_of_computing_agree() -> None:
    X, Y = related(50, 10, 49)
    wide = torch.cat([Y, torch.zeros(50, 1)], 1)  # as many features as examples: by Gram matrices
    for unbiased in (True, False):
        assert cka(X, Y, unbiased=unbiased) == pytest.approx(cka(X, wide, unbiased=unbiased), abs=1e-10)


def test_constant_features_are_undefined() -> None:
    X, _ = related(20, 5, 5)
    for width in (3, 30):
        assert np.isnan(cka(X, torch.full((20, width), 0.1)))
        assert np.isnan(cka(np.ones((20, width)), X))


def test_mistakes() -> None:
    X, Y = related(20, 5, 5)
    with pytest.raises(InputError, match="X has 20 examples and Y 19"):
        cka(X, Y[:19])
    with pytest.raises(InputError, match=r"X has 3 examples and Y 3. Allowed: the same ones, at least 4"):
        cka(X[:3], Y[:3])
    with pytest.raises(InputError, match="Y has NaN"):
        cka(X, Y.masked_fill(Y > 0, torch.nan))
    with pytest.raises(InputError, match="kernel='cubic'"):
        cka(X, Y, "cubic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="X is not a table"):
        cka(3.0, Y)


def test_streaming_equals_numpy() -> None:
    left, right = (
        collect_activations(seeded(TinyResNet), images(24)),
        collect_activations(seeded(TinyResNet, 1), images(24)),
    )
    for unbiased, hsic in ((True, hsic_unbiased), (False, hsic_biased)):
        streaming = CKA(unbiased=unbiased)
        for first, second in iter_activations([seeded(TinyResNet), seeded(TinyResNet, 1)], images(24), batch_size=8):
            streaming.update(first, second)
        frame = streaming.result("a", "b").to_frame()
        for row in frame.iloc[::17].itertuples():
            parts = [(left[row.first][i : i + 8], right[row.second][i : i + 8]) for i in (0, 8, 16)]
            assert row.similarity == pytest.approx(cka_of_batches(parts, hsic), abs=1e-6)


def test_batch_size_hardly_matters() -> None:
    base = normal(2048, 40, 0)
    layers = [torch.tanh(base @ normal(40, p, p) / 3) for p in (30, 200, 500)]
    values = []
    for size in (128, 1024, 2048):
        streaming = CKA()
        for start in range(0, 2048, size):
            streaming.update({str(i): layer[start : start + size] for i, layer in enumerate(layers)})
        values.append(streaming.result().values)
    np.testing.assert_allclose(values[0], values[2], atol=0.01)
    np.testing.assert_allclose(values[1], values[2], atol=0.01)


def test_a_network_with_itself() -> None:
    streaming = CKA(kernel="rbf")
    for (layers,) in iter_activations([seeded(TinyResNet)], images(16), "residual", batch_size=8):
        streaming.update(layers)
    values = streaming.result("net", "net").values
    np.testing.assert_allclose(values.diagonal(), 1)
    np.testing.assert_allclose(values, values.T)
