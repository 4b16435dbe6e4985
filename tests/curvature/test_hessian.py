from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import MAKERS, Network, network
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from windvane.curvature import TopEigenvalue, hessian_trace, top_eigenvalue
from windvane.errors import InputError


def dense(one: Network) -> Tensor:
    """The Hessian of the loss, row by row."""
    parameters = list(one.model.parameters())
    with sdpa_kernel(SDPBackend.MATH):
        first = torch.autograd.grad(one.loss(), parameters, create_graph=True)
        rows = [
            torch.cat([h.flatten() for h in torch.autograd.grad(slope, parameters, retain_graph=True)])
            for g in first
            for slope in g.flatten()
        ]
    return torch.stack(rows)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
@pytest.mark.parametrize("name", MAKERS)
def test_trace_and_its_layers(name: str, distribution: Any) -> None:
    one = network(name)
    matrix = dense(one)
    with sdpa_kernel(SDPBackend.MATH):
        found = hessian_trace(one.model, one.loss, probes=400, distribution=distribution)
    assert abs(found.trace - matrix.trace().item()) < 4 * found.standard_error < abs(matrix.trace().item())
    assert sum(found.per_layer.values()) == pytest.approx(found.trace)
    first = sum(p.numel() for p in next(m for m in one.model.children()).parameters())
    if name != "transformer":
        assert abs(found.per_layer["0"] - matrix[:first, :first].trace().item()) < 4 * found.standard_error


@pytest.mark.parametrize("name", MAKERS)
def test_differences_agree_with_double_backward(name: str) -> None:
    one = network(name)
    exact = dense(one)
    found = hessian_trace(one.model, one.loss, probes=400, mode="finite_difference")  # with fused attention
    if name != "cnn":  # kinks of its ReLU, which double backward passes over
        assert abs(found.trace - exact.trace().item()) < 4 * found.standard_error
    assert math.isfinite(found.trace)


@pytest.mark.parametrize("name", MAKERS)
def test_top_eigenvalue(name: str) -> None:
    one = network(name)
    with sdpa_kernel(SDPBackend.MATH):
        found = top_eigenvalue(one.model, one.loss, iterations=500)
    assert found.converged
    assert found.value == pytest.approx(torch.linalg.eigvalsh(dense(one))[-1].item(), rel=1e-3)


@pytest.mark.parametrize("near", [0.9, 0.97, 0.995])
@pytest.mark.parametrize("n", [3, 10, 60])
def test_top_eigenvalue_with_another_one_near(n: int, near: float) -> None:
    """Power iteration would seem to have settled long before it has."""
    for seed in range(20):
        curvatures = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        largest = curvatures.max().item()
        curvatures[curvatures.argmin()] = min(near * largest, largest / near)  # either sign: below the largest
        model = nn.Linear(n, 1, bias=False).double()
        found = top_eigenvalue(model, lambda c=curvatures, w=model.weight: (c * w[0] ** 2).sum() / 2)
        assert found.converged
        assert found.value == pytest.approx(largest, rel=1e-3)


def test_a_loss_without_curvature() -> None:
    model = nn.Linear(3, 2)

    def loss() -> Tensor:
        return model(torch.ones(1, 3)).sum()

    assert hessian_trace(model, loss, probes=2).trace == 0
    assert top_eigenvalue(model, loss) == TopEigenvalue(0.0, 1, True)
    with pytest.raises(InputError, match="does not depend on any trained parameter"):
        top_eigenvalue(nn.Linear(3, 2), loss)


def test_a_network_that_has_diverged() -> None:
    one = network("mlp")
    with torch.no_grad():
        next(one.model.parameters()).fill_(math.nan)
    assert not top_eigenvalue(one.model, one.loss).converged
    assert math.isnan(hessian_trace(one.model, one.loss, probes=2).trace)


def test_top_eigenvalue_of_a_layer() -> None:
    one = network("mlp")
    block = dense(one)[:56, :56]  # weight 8 x 6 and bias 8 of the first layer
    found = top_eigenvalue(one.model, one.loss, layer="0", iterations=500)
    assert found.value == pytest.approx(torch.linalg.eigvalsh(block)[-1].item(), rel=1e-3)
    with pytest.raises(InputError, match=r"layer='7'.*Allowed: 0, 3"):
        top_eigenvalue(one.model, one.loss, layer="7")


@pytest.mark.parametrize("mode", ["double_backward", "finite_difference"])
def test_largest_though_a_negative_one_is_larger_in_size(mode: Any) -> None:
    model = nn.Linear(3, 1, bias=False).double()
    curvatures = torch.tensor([[2.0, -5.0, 1.0]], dtype=torch.float64)

    def loss() -> Tensor:
        return (curvatures * model.weight**2).sum() / 2

    assert top_eigenvalue(model, loss, mode=mode).value == pytest.approx(2.0, rel=1e-2)
    assert hessian_trace(model, loss, mode=mode, probes=1).trace == pytest.approx(-2.0)
    assert not top_eigenvalue(model, loss, iterations=1).converged


def test_leaves_everything_as_it_was() -> None:
    one = network("cnn", dtype=torch.float32)
    before = [t.clone() for t in (*one.model.parameters(), *one.model.buffers())]
    state = torch.get_rng_state()
    for mode in ("double_backward", "finite_difference"):
        hessian_trace(one.model, one.loss, probes=2, mode=mode)
        top_eigenvalue(one.model, one.loss, iterations=2, mode=mode)
    assert all(map(torch.equal, before, (*one.model.parameters(), *one.model.buffers())))
    assert all(p.grad is None for p in one.model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


def test_fused_attention_names_the_way_out() -> None:
    one = network("transformer", dtype=torch.float32)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), pytest.raises(InputError, match="mode='finite_difference'"):
        hessian_trace(one.model, one.loss, probes=1)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"probes": 0}, "probes=0"),
        ({"distribution": "normal"}, "distribution='normal'"),
        ({"mode": "fd"}, "mode='fd'"),
        ({"loss": lambda: 3.0}, "scalar"),
    ],
)
def test_bad_settings(wrong: dict[str, Any], words: str) -> None:
    one = network("mlp")
    with pytest.raises(InputError, match=words):
        hessian_trace(one.model, **{"loss": one.loss, **wrong})
    with pytest.raises(InputError, match="iterations=0"):
        top_eigenvalue(one.model, one.loss, iterations=0)
    assert isinstance(hessian_trace(one.model, one.loss, probes=np.int64(1)).probes, int)


@pytest.mark.parametrize("mode", ["double_backward", "finite_difference"])
def test_gradients_that_are_switched_off_change_nothing(mode: Any) -> None:
    one = network("mlp")
    wanted = hessian_trace(one.model, one.loss, probes=2, mode=mode).trace, top_eigenvalue(one.model, one.loss).value
    with torch.no_grad():
        found = hessian_trace(one.model, one.loss, probes=2, mode=mode).trace, top_eigenvalue(one.model, one.loss).value
    assert found == pytest.approx(wanted) and wanted[0] != 0


def test_a_loss_that_is_no_function() -> None:
    one = network("mlp")
    with pytest.raises(InputError, match=r"loss is of type Tensor. Allowed: a function that computes the loss."):
        hessian_trace(one.model, one.loss())  # type: ignore[arg-type]
