"""The layers that replace slow ones for training in bfloat16 on a CPU, against torch's own in single precision."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from windvane.vision.networks.cpu_bfloat16 import (
    DepthwiseConv2d,
    is_depthwise,
    replace_slow_layers,
)


def bfloat16() -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16)


def gradients(layer: nn.Conv2d, x: Tensor, cotangent: Tensor) -> list[Tensor]:
    """Output and gradients of input, weight and bias."""
    x = x.clone().requires_grad_()
    y = layer(x)
    (y.float() * cotangent).sum().backward()
    assert x.grad is not None and layer.weight.grad is not None
    bias = [] if layer.bias is None else [layer.bias.grad]
    found = [y, x.grad, layer.weight.grad, *(one for one in bias if one is not None)]
    return [one.detach().float() for one in found]


@settings(deadline=None, max_examples=60)
@given(
    side=st.sampled_from([3, 5, 7, 8]),
    stride=st.sampled_from([1, 2, 3]),
    pixels=st.integers(8, 13),
    same=st.booleans(),
    bias=st.booleans(),
    padding=st.integers(0, 3),
    seed=st.integers(0, 99),
)
def test_gradients_are_those_of_single_precision(
    side: int, stride: int, pixels: int, same: bool, bias: bool, padding: int, seed: int
) -> None:
    torch.manual_seed(seed)
    kind = Conv2dSame if same else nn.Conv2d
    layer = kind(4, 4, side, stride, padding, groups=4, bias=bias)
    x = torch.randn(3, 4, pixels, pixels)
    # All numbers are ones of bfloat16, so that only sums are rounded.
    layer.load_state_dict({name: one.bfloat16().float() for name, one in layer.state_dict().items()})
    x, cotangent = x.bfloat16().float(), torch.randn_like(layer(x)).bfloat16().float()
    wanted = gradients(copy.deepcopy(layer), x, cotangent)
    with bfloat16():
        found = gradients(DepthwiseConv2d(layer), x, cotangent)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0.02, atol=0.02 * float(other.abs().max()))


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "convnext_atto", "vit_tiny_patch16_224"])
def test_a_network_keeps_its_parameters_and_its_predictions(name: str) -> None:
    options = {"img_size": 64} if name.startswith("vit") else {}
    network = timm.create_model(name, num_classes=3, **options).eval()
    x, before = torch.randn(2, 3, 64, 64), dict(network.named_parameters())
    with torch.no_grad():
        wanted = network(x)
        replace_slow_layers(network)
        torch.testing.assert_close(network(x), wanted, rtol=1e-4, atol=1e-5)
    after = dict(network.named_parameters())
    assert list(after) == list(before) and all(after[name] is before[name] for name in before)


def test_a_copy_learns_on_its_own() -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 5, padding=2, groups=4))
    replace_slow_layers(network)
    twin = copy.deepcopy(network)
    with bfloat16():
        twin(torch.ones(1, 4, 8, 8)).sum().backward()
    assert twin[0].weight.grad is not None and network[0].weight.grad is None


def test_second_derivatives_and_single_examples() -> None:
    """The Fisher penalty differentiates twice; per-example gradients are vectorized."""
    torch.manual_seed(0)
    layer = DepthwiseConv2d(nn.Conv2d(4, 4, 5, 2, 2, groups=4, bias=False))
    x = torch.randn(3, 4, 9, 9).bfloat16().float()

    def squared_gradient(weight: Tensor) -> Tensor:
        with bfloat16():
            y = torch.func.functional_call(layer, {"weight": weight}, (x,))
        (slope,) = torch.autograd.grad(y.float().square().sum(), weight, create_graph=True)
        return slope.square().sum()

    def plain(weight: Tensor) -> Tensor:
        y = F.conv2d(x, weight, None, 2, 2, groups=4)
        (slope,) = torch.autograd.grad(y.square().sum(), weight, create_graph=True)
        return slope.square().sum()

    weight = layer.weight.detach().bfloat16().float().requires_grad_()
    (found,) = torch.autograd.grad(squared_gradient(weight), weight)
    (wanted,) = torch.autograd.grad(plain(weight), weight)
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.05 * float(wanted.abs().max()))

    def loss(weight: Tensor, one: Tensor) -> Tensor:
        with bfloat16():
            return torch.func.functional_call(layer, {"weight": weight}, (one[None],)).float().square().sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight.detach(), x)
    for one, image in zip(each, x, strict=True):
        torch.testing.assert_close(one, torch.func.grad(loss)(weight.detach(), image), rtol=0.02, atol=0.05)


def test_what_is_replaced() -> None:
    assert is_depthwise(nn.Conv2d(4, 4, 3, groups=4)) and is_depthwise(Conv2dSame(4, 4, 5, groups=4))
    assert not is_depthwise(nn.Conv2d(4, 4, 3, groups=2)) and not is_depthwise(nn.Conv2d(4, 8, 3, groups=4))
    assert not is_depthwise(nn.Conv2d(4, 4, 3, groups=4, dilation=2)) and not is_depthwise(nn.Conv2d(1, 1, 1))
