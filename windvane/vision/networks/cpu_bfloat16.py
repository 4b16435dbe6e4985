"""Layers for training in bfloat16 on a CPU, in place of those whose own kernels are slow there.

Slow are fused attention and, of depthwise convolutions, the gradient of the input where there is a stride, and that of
kernels larger than 3x3 (oneDNN with AVX-512 BF16; benchmarks/throughput/bfloat16.py).
"""

from __future__ import annotations

from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn

_FAST_KERNEL = 3  # the largest side of a kernel whose gradient is fast
_Pair = tuple[int, int]


def replace_slow_layers(network: nn.Module) -> None:
    """Replace the layers of a network that are slow in bfloat16 on a CPU; parameters and their names stay."""
    for name, module in list(network.named_modules()):
        if hasattr(module, "fused_attn"):  # attention of timm
            module.fused_attn = False
        elif is_depthwise(module):
            network.set_submodule(name, DepthwiseConv2d(module))


def is_depthwise(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a depthwise convolution that `replace_slow_layers` replaces."""
    return (
        isinstance(module, nn.Conv2d)
        and type(module) in (nn.Conv2d, Conv2dSame, DepthwiseConv2d)
        and module.groups == module.in_channels == module.out_channels
        and min(module.kernel_size) >= _FAST_KERNEL
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


class DepthwiseConv2d(nn.Conv2d):
    """A depthwise convolution that takes over the parameters of another one."""

    def __init__(self, original: nn.Conv2d) -> None:
        layer: Any = original
        super().__init__(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            groups=layer.groups,
            bias=layer.bias is not None,
            device="meta",
        )
        self.weight, self.bias, self.training = original.weight, original.bias, original.training
        self.pads_as_tensorflow = isinstance(original, Conv2dSame)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (n, c, h, w)."""
        if self.pads_as_tensorflow:
            x = pad_same(x, list(self.kernel_size), list(self.stride))
        if not (torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()):
            return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        dtype = torch.get_autocast_dtype("cpu")
        found: Tensor = _Depthwise.apply(x.to(dtype), self.weight.to(dtype), self.stride, self.padding)
        return found if self.bias is None else found + self.bias.to(dtype)[:, None, None]


class _Depthwise(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair) -> Tensor:
        return F.conv2d(x, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight = ctx.needs_input_grad[:2]
        return (
            _gradient_of_input(gradient, x, weight, ctx.stride, ctx.padding) if of_x else None,
            _gradient_of_weight(gradient, x, weight, ctx.stride, ctx.padding) if of_weight else None,
            None,
            None,
        )


def _gradient_of_input(gradient: Tensor, x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair) -> Tensor:
    if stride != (1, 1):
        gradient, weight = gradient.float(), weight.float()
    found: Tensor = _convolution_backward(gradient, x.to(gradient.dtype), weight, stride, padding, (True, False))
    return found.to(x.dtype)


def _gradient_of_weight(gradient: Tensor, x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair) -> Tensor:
    """Compute the gradient of a kernel (c, 1, k, l) from those of the 3x3 kernels that cover it."""
    height, width = weight.shape[2:]
    x = F.pad(x, (padding[1], padding[1], padding[0], padding[0]))
    rows, columns = ((n - 1) * step + _FAST_KERNEL for n, step in zip(gradient.shape[2:], stride, strict=True))
    small = weight[:, :, :_FAST_KERNEL, :_FAST_KERNEL]

    def at(top: int, left: int) -> Tensor:
        window = x[:, :, top : top + rows, left : left + columns]
        return _convolution_backward(gradient, window, small, stride, (0, 0), (False, True))

    bands = [
        torch.cat([at(top, left)[:, :, known_rows:, known:] for left, known in _tiles(width)], 3)
        for top, known_rows in _tiles(height)
    ]
    return torch.cat(bands, 2)


def _tiles(side: int) -> list[tuple[int, int]]:
    """Where 3x3 kernels begin that cover a kernel of this side, and how much of each the one before has covered."""
    starts = [min(start, side - _FAST_KERNEL) for start in range(0, side, _FAST_KERNEL)]
    return [(start, whole - start) for start, whole in zip(starts, range(0, side, _FAST_KERNEL), strict=True)]


def _convolution_backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: _Pair, padding: _Pair, wanted: tuple[bool, bool]
) -> Tensor:
    """Return the gradient of the input or of the weight."""
    none, n = (0, 0), len(weight)
    found = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, stride, padding, (1, 1), False, none, n, (*wanted, False)
    )
    part: Tensor = found[wanted.index(True)]
    return part
