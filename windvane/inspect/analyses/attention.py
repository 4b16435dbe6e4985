"""Attention weights and outputs of every head, fused or not.

Fused attention never forms its weights. Here the fused kernels are switched off for one pass, so that torch itself
computes softmax(q k' / sqrt(d) + mask) from the same q, k and mask, and that softmax is read as it passes. Networks
need not be changed or known: timm, torchvision, Hugging Face, `torch.nn.MultiheadAttention`, relative positions, rotary
embeddings and normalized queries all end in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from windvane.errors import InputError, unknown_name_error
from windvane.inspect.batches import Batch, as_batch, batch_length
from windvane.inspect.hooks import OUTPUT, RepeatedNames, observe, tensors_in
from windvane.inspect.layer_selection import as_patterns
from windvane.torch_utils import unwrap_model

SOFTMAX = (torch.ops.aten._softmax.default, torch.ops.aten._safe_softmax.default)

OnHeads = Callable[[str, Tensor], None]  # name of a layer; a tensor (n, heads, ...)


def attention_maps(model: nn.Module, images: Batch, layers: str | Sequence[str] = "*") -> dict[str, Tensor]:
    """Return the attention weights of every head, fused or not.

    Parameters
    ----------
    model
        Any network with self-attention over the tokens of an image. It runs in evaluation mode.
    images
        (n, channels, height, width) on the device of the network, or its arguments by name.
    layers
        Globs over the names of modules that compute attention, such as ``"blocks.*.attn"``.

    Returns
    -------
    dict[str, Tensor]
        Module to weights (n, heads, queries, keys), in the order of execution; rows sum to one. Repeated calls of a
        module are named ``name#2``.

    Examples
    --------
    ::

        weights = attention_maps(vit, images)["blocks.0.attn"]  # (n, heads, tokens, tokens)
    """
    found: dict[str, Tensor] = {}
    observe_heads(model, images, layers, on_weights=found.__setitem__)
    return found


def head_outputs(model: nn.Module, images: Batch, layers: str | Sequence[str] = "*") -> dict[str, Tensor]:
    """Return the output of every head, before the heads are mixed.

    Parameters
    ----------
    model
        Any network with self-attention over the tokens of an image. It runs in evaluation mode.
    images
        (n, channels, height, width) on the device of the network, or its arguments by name.
    layers
        Globs over the names of modules that compute attention.

    Returns
    -------
    dict[str, Tensor]
        Module to (n, heads, tokens, channels of a head), in the order of execution.

    Examples
    --------
    ::

        heads = head_outputs(vit, images, "blocks.0.attn")["blocks.0.attn"]
    """
    found: dict[str, Tensor] = {}
    observe_heads(model, images, layers, on_outputs=found.__setitem__)
    return found


def observe_heads(
    model: nn.Module,
    images: Batch,
    layers: str | Sequence[str],
    *,
    on_weights: OnHeads | None = None,
    on_outputs: OnHeads | None = None,
) -> tuple[str, ...]:
    """Call back with the weights and the outputs of the heads, layer by layer; nothing is kept here."""
    # Returns the modules that attend within windows, of which nothing is called back.
    network, patterns, images = unwrap_model(model), as_patterns(layers), as_batch(images)
    reader = _SoftmaxReader(batch_length(images), patterns, on_weights, on_outputs)
    modes = (sdpa_kernel(SDPBackend.MATH), reader)
    observe(network, images, on_enter=reader.on_enter, on_exit=reader.on_exit, modes=modes)
    if not reader.names:
        reason = ": it attends within windows or to other things than its own tokens" if reader.n_ignored else ""
        raise InputError(f"model: {type(network).__name__} has no self-attention over the tokens of an image{reason}.")
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in reader.names):
            raise unknown_name_error("layers", pattern, reader.names)
    return tuple(reader.windowed)


class _SoftmaxReader(TorchDispatchMode):
    """Reads every softmax over square maps of tokens, the product behind it, and the module in which they happen."""

    def __init__(
        self, n_images: int, patterns: Sequence[str], on_weights: OnHeads | None, on_outputs: OnHeads | None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []  # of all layers with attention, also of those that no pattern matches
        self.windowed: list[str] = []  # modules that attend within windows of an image
        self.n_ignored = 0  # softmaxes over something else, or within windows
        self._n_images, self._patterns = n_images, patterns
        self._on_weights, self._on_outputs = on_weights, on_outputs
        self._running: list[tuple[str, set[int]]] = []  # modules, and how many tokens their input may have
        self._repeated = RepeatedNames()
        self._next_product: tuple[str, int] | None = None  # name and heads of the weights that are multiplied next

    def on_enter(self, path: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        shape = next((tensor.shape for _, tensor in tensors_in(args)), ())
        n_tokens = {*shape[:-1], math.prod(shape[1:-1]), math.prod(shape[2:])} if path and shape else set()
        self._running.append((path, n_tokens))

    def on_exit(self, path: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self._running.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in SOFTMAX:
            self._read_weights(result)
        elif func is torch.ops.aten.bmm.default and self._next_product is not None:
            (name, n_heads), self._next_product = self._next_product, None
            if self._on_outputs is not None:
                self._on_outputs(name, result.unflatten(0, (self._n_images, n_heads)))
        return result

    def _read_weights(self, weights: Tensor) -> None:
        if weights.ndim not in {3, 4}:
            return
        by_image = weights.shape[0] == self._n_images if weights.ndim == 4 else weights.shape[0] % self._n_images == 0
        path, n_tokens = self._running[-1]
        among_tokens = weights.shape[-1] == weights.shape[-2] > 1 and (not n_tokens or weights.shape[-1] in n_tokens)
        if not (by_image and among_tokens):  # windows, queries of another network, channels
            self.n_ignored += 1
            if among_tokens and weights.shape[0] % self._n_images == 0:
                self.windowed.append(path or OUTPUT)
            return
        name = self._repeated.next(path or OUTPUT)
        self.names.append(name)
        if any(fnmatchcase(name, pattern) for pattern in self._patterns):
            weights = weights if weights.ndim == 4 else weights.unflatten(0, (self._n_images, -1))
            self._next_product = name, weights.shape[1]
            if self._on_weights is not None:
                self._on_weights(name, weights)
