from __future__ import annotations

from typing import Any

import pytest
import torch
from small_networks import Transformer, cnn, mlp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from windvane.curvature.autograd import (
    grad,
    perturbed,
    preserve_state,
    squared_norms,
    sum_by_layer,
    trainable_parameters,
)
from windvane.errors import InputError
from windvane.torch_utils import find_ddp, unwrap_model


def test_trained_parameters_by_their_plain_names() -> None:
    model = mlp()
    model[0].bias.requires_grad_(False)  # type: ignore[index,union-attr]
    assert list(trainable_parameters(model)) == ["0.weight", "3.weight", "3.bias"]
    assert list(trainable_parameters(torch.compile(model))) == ["0.weight", "3.weight", "3.bias"]


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="torch was built without gloo")
def test_wrappers_in_any_order(one_process: None) -> None:
    model = mlp()
    assert (unwrap_model(model), find_ddp(model)) == (model, None)
    for within in (False, True):
        inner = torch.compile(model, backend="eager") if within else model
        wrapper = nn.parallel.DistributedDataParallel(inner)
        outer = wrapper if within else torch.compile(wrapper, backend="eager")
        assert unwrap_model(outer) is model
        assert find_ddp(outer) is wrapper
        assert list(trainable_parameters(outer)) == list(trainable_parameters(model))
        with preserve_state(outer):
            assert not wrapper.require_backward_grad_sync
        assert wrapper.require_backward_grad_sync


def test_sharded_parameters_are_refused() -> None:
    model = mlp()
    model[0].weight.device_mesh = object()  # type: ignore[index,union-attr]
    with pytest.raises(InputError, match="FSDP"):
        trainable_parameters(model)


def test_flattened_parameters_are_refused() -> None:
    model = mlp()
    model[0].weight._fsdp_flattened = True  # type: ignore[index,union-attr]
    with pytest.raises(InputError, match="FSDP"):
        trainable_parameters(model)


def test_shared_parameters_count_once() -> None:
    one = nn.Linear(3, 3)
    assert list(trainable_parameters(nn.Sequential(one, one))) == ["0.weight", "0.bias"]


def test_nothing_to_train() -> None:
    with pytest.raises(InputError, match="requires_grad"):
        trainable_parameters(mlp().requires_grad_(False))
    with pytest.raises(InputError, match="type int"):
        trainable_parameters(3)


def test_layers() -> None:
    names = [name for name, _ in Transformer().named_parameters()]
    layers = sum_by_layer(dict.fromkeys(names, 1.0))
    assert layers == {"position": 1.0, "embed": 2.0, "block.norm": 2.0, "block.qkv": 2.0, "block.out": 2.0, "head": 2.0}


def test_gradient_leaves_grad_alone_and_fills_zeros() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    found = grad((used**2).sum(), [used, unused])
    assert [g.tolist() for g in found] == [[2.0, 2.0], [0.0, 0.0, 0.0]]
    assert used.grad is None


def test_other_errors_of_torch_pass() -> None:
    with pytest.raises(RuntimeError, match="scalar"):
        grad(torch.ones(2, requires_grad=True) * 2, [torch.ones(2, requires_grad=True)])


class Once(torch.autograd.Function):
    """A function whose backward pass keeps no graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * slope


def test_functions_that_can_be_differentiated_once() -> None:
    x = torch.ones(2, requires_grad=True)
    value = Once.apply(x).square().sum()
    assert grad(value, [x], keep_graph=True)[0].tolist() == [4.0, 4.0]
    with pytest.raises(InputError, match="mode='finite_difference'"):
        grad(value, [x], differentiable=True)


def test_parameters_that_have_changed_since() -> None:
    x = torch.ones(2, requires_grad=True)
    value = x.square().sum()
    with torch.no_grad():
        x += 1
    with pytest.raises(InputError, match=r"between the forward pass and optimizer.step\(\)"):
        grad(value, [x])


def test_reentrant_checkpoints_are_named() -> None:
    model = mlp()
    x = torch.randn(4, 6, requires_grad=True)
    value = checkpoint(model, x, use_reentrant=True).sum()
    with pytest.raises(InputError, match="use_reentrant=False"):
        grad(value, list(model.parameters()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_squared_norms(dtype: torch.dtype) -> None:
    tensors = [torch.randn(1000, dtype=dtype), torch.randn(3, 4, dtype=dtype)]
    assert squared_norms(tensors) == pytest.approx([t.double().square().sum().item() for t in tensors], rel=1e-5)


class Counter(nn.Module):
    """Keeps two buffers: one that it writes into and one that it replaces."""

    inside: Tensor
    replaced: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.register_buffer("inside", torch.zeros(1))
        self.register_buffer("replaced", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.inside += 1
        self.replaced = self.replaced + 1
        return x * self.weight


def test_undisturbed_buffers_and_random_state() -> None:
    model = nn.Sequential(cnn(), Counter(), nn.Dropout(0.5))
    before = {name: (value, value.clone()) for name, value in model.named_buffers()}
    state = torch.get_rng_state()
    x = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    outputs = []
    for _ in range(2):
        with preserve_state(model):
            outputs.append(model(x))
    assert torch.equal(*outputs)  # the same dropout mask
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in model.named_buffers():
        assert value is before[name][0]
        assert torch.equal(value, before[name][1])


def test_undisturbed_graphs_that_hold_a_buffer() -> None:
    model = cnn().eval()  # in this mode backward reads the running statistics
    loss = model(torch.randn(4, 2, 4, 4)).sum()
    with preserve_state(model):
        model(torch.randn(4, 2, 4, 4))
    loss.backward()
    assert model[0].weight.grad is not None  # type: ignore[index,union-attr]


def test_undisturbed_after_an_error() -> None:
    model = Counter()
    with pytest.raises(ZeroDivisionError), preserve_state(model):
        model(torch.ones(1))
        1 / 0  # noqa: B018
    assert model.inside.item() == model.replaced.item() == 0


def test_moved_restores_every_bit_and_other_graphs() -> None:
    parameters = list(mlp().parameters())
    before = [p.detach().clone() for p in parameters]
    loss = sum((p**2).sum() for p in parameters)
    assert isinstance(loss, Tensor)
    with pytest.raises(ZeroDivisionError), perturbed(parameters, [torch.ones_like(p) for p in parameters], 0.3):
        torch.testing.assert_close(parameters[0], before[0] + 0.3)
        1 / 0  # noqa: B018
    assert all(map(torch.equal, parameters, before))
    loss.backward()  # its graph holds the parameters, and does not know that they were moved
