from __future__ import annotations

import pytest
import torch
from small_networks import MAKERS, network, slow_trace
from torch import nn

from windvane.curvature import exact_fisher_trace


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("training", [True, False])
def test_equals_the_definition(name: str, training: bool) -> None:
    one = network(name)
    one.model.train(training)
    logits = one.model(one.x)
    found = exact_fisher_trace(one.model, logits)
    assert found.trace == pytest.approx(slow_trace(one.model, one.x), rel=1e-10)
    assert sum(found.per_layer.values()) == pytest.approx(found.trace)
    logits.sum().backward()  # the graph stays usable


def test_gaussian_is_the_jacobian_and_sigmoid_its_weighted_rows() -> None:
    one = network("mlp", 5)
    logits = one.model(one.x)
    jacobian = 0.0, 0.0
    for row in logits:
        for value in row:
            found = torch.autograd.grad(value, list(one.model.parameters()), retain_graph=True)
            size, p = sum(g.square().sum().item() for g in found), value.sigmoid().item()
            jacobian = jacobian[0] + size / 5, jacobian[1] + p * (1 - p) * size / 5
    assert exact_fisher_trace(one.model, logits, "gaussian").trace == pytest.approx(jacobian[0])
    assert exact_fisher_trace(one.model, logits, "sigmoid").trace == pytest.approx(jacobian[1])


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch's own forward-mode derivatives
@pytest.mark.parametrize("name", ["mlp", "transformer"])
def test_equals_the_generalised_gauss_newton_matrix_of_curvlinops(name: str) -> None:
    linops = pytest.importorskip("curvlinops", reason="the oracle curvlinops is not installed")
    one = network(name)
    model = one.model.eval()
    parameters = list(model.parameters())
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):  # forward-mode derivatives do not exist for fused attention
        operator = linops.GGNLinearOperator(model, nn.CrossEntropyLoss(), parameters, [(one.x, one.y)])
        size = sum(p.numel() for p in parameters)
        dense = operator @ torch.eye(size, dtype=torch.float64)
    assert exact_fisher_trace(model, model(one.x)).trace == pytest.approx(dense.trace().item(), rel=1e-6)


def test_equals_the_fisher_matrix_of_nngeometry() -> None:
    metrics = pytest.importorskip("nngeometry.metrics", reason="the oracle nngeometry is not installed")
    from nngeometry.object import PMatDense
    from torch.utils.data import DataLoader, TensorDataset

    one = network("mlp", dtype=torch.float32)
    model = one.model.eval()
    loader = DataLoader(TensorDataset(one.x, one.y), batch_size=4)
    found = metrics.FIM(model, loader, PMatDense, variant="classif_logits").trace().item()
    assert exact_fisher_trace(model, model(one.x)).trace == pytest.approx(found, rel=1e-5)
