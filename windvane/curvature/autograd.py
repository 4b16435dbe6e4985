"""Gradients, and passes that leave the network unchanged: what every measurement builds on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from statistics import fmean
from typing import Literal

import torch
from torch import Tensor, nn

from windvane.errors import InputError
from windvane.torch_utils import find_ddp, unwrap_model

HALF_PRECISION = (torch.float16, torch.bfloat16)

Mode = Literal["finite_difference", "double_backward"]  # how a gradient is itself differentiated

_HINTS = {  # part of a torch message -> what to do
    "through the graph a second time": "The graph behind the logits is gone: backward() has run. Allowed: a call "
    "between the forward pass and backward(), or forward=, a function that recomputes the logits of this batch.",
    "donated": "The model is compiled, and its graph can be used only once (donated buffers). Allowed: forward=, a "
    "function that recomputes the logits of this batch; where gradients are differentiated, mode='finite_difference'.",
    "derivative for aten::": "Something in the model, such as fused attention, cannot be differentiated twice. "
    "Allowed: mode='finite_difference', or a forward pass under torch.nn.attention.sdpa_kernel(SDPBackend.MATH).",
    "double backward": "A compiled model cannot be differentiated twice. Allowed: mode='finite_difference', or the "
    "model without torch.compile.",
    "modified by an inplace operation": "The parameters have changed since the forward pass. Allowed: a call between "
    "the forward pass and optimizer.step(), or forward=, a function that recomputes the logits of this batch.",
}


def trainable_parameters(model: object) -> dict[str, nn.Parameter]:
    """Return the parameters that require gradients by their names in the plain network, shared ones once."""
    named = {
        ".".join(word for word in name.split(".") if word != "_orig_mod"): parameter
        for name, parameter in unwrap_model(model).named_parameters()
        if parameter.requires_grad
    }
    if not named:
        raise InputError("model has no trainable parameter. Allowed: at least one with requires_grad.")
    if any(hasattr(p, "device_mesh") or getattr(p, "_fsdp_flattened", False) for p in named.values()):
        raise InputError("model has sharded parameters (FSDP). Allowed: whole ones, as in DistributedDataParallel.")
    return named


def check_full_precision(parameters: Sequence[Tensor]) -> None:
    """Raise if a parameter is in float16 or bfloat16, where a small step would be rounded away."""
    if any(p.dtype in HALF_PRECISION for p in parameters):
        raise InputError(
            f"The parameters are of type {parameters[0].dtype}, which rounds a small step away. Allowed: "
            "parameters in float32 (with torch.autocast), or mode='double_backward'."
        )


def at_least_float32(values: Tensor) -> Tensor:
    """Return values in float32 where they are in float16 or bfloat16, else as they are."""
    return values.float() if values.dtype in HALF_PRECISION else values


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of independent values and its standard error, which is nan for one value."""
    n, mean = len(values), fmean(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1) if n > 1 else math.nan
    return mean, math.sqrt(variance / n)


def sum_by_layer(values: Mapping[str, float]) -> dict[str, float]:
    """Sum values per parameter ("block.0.weight") to values per layer ("block.0"), in order."""
    # A parameter of the network itself keeps its own name.
    layers: dict[str, float] = {}
    for name, value in values.items():
        layer = name.rpartition(".")[0] or name
        layers[layer] = layers.get(layer, 0.0) + value
    return layers


def grad(
    value: Tensor,
    inputs: Sequence[Tensor],
    *,
    keep_graph: bool = False,
    differentiable: bool = False,
    constant: bool = False,
) -> list[Tensor]:
    """Differentiate a scalar by tensors, without filling their ``grad``; zeros where it does not depend on one."""
    # Errors of torch become an `InputError` that says what to do. With ``constant=True`` the scalar may depend on none
    # of the tensors.
    if constant and not value.requires_grad:
        return [torch.zeros_like(one) for one in inputs]
    try:
        gradients = torch.autograd.grad(
            value, inputs, retain_graph=keep_graph or differentiable, create_graph=differentiable, allow_unused=True
        )
    except RuntimeError as error:
        for words, hint in _HINTS.items():
            if words in str(error):
                raise InputError(hint) from error
        raise
    if any(g is None for g in gradients) and _holds([value], "CheckpointFunctionBackward"):
        raise InputError(
            "The model uses reentrant activation checkpointing, which works with backward() only. Allowed: "
            "checkpoint(..., use_reentrant=False)."
        )
    if not constant and all(g is None for g in gradients):
        raise InputError(
            "The result does not depend on any trained parameter of the model. Allowed: logits (or a loss) of this "
            "model, not of a copy or a moving average."
        )
    if differentiable and _holds([g for g in gradients if g is not None], "Error"):
        # Otherwise everything behind that function would be left out silently.
        raise InputError(
            "A function in the model is marked with once_differentiable. Allowed: mode='finite_difference'."
        )
    return [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, gradients, strict=True)]


def _holds(tensors: Sequence[Tensor], name: str) -> bool:
    """Return whether the graph behind tensors contains a node of this name."""
    waiting, seen = [tensor.grad_fn for tensor in tensors], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            if node.name().rpartition("::")[2] == name:
                return True
            seen.add(node)
            waiting.extend(following for following, _ in node.next_functions)
    return False


def squared_norms(tensors: Sequence[Tensor]) -> list[float]:
    """Return the squared norm of each tensor, computed at least in float32, with one wait for the device."""
    norms = [
        torch.linalg.vector_norm(t.detach(), dtype=torch.float32 if t.dtype in HALF_PRECISION else None)
        for t in tensors
    ]
    return [norm**2 for norm in torch.stack([norm.to(norms[0]) for norm in norms]).tolist()]


@contextmanager
def preserve_state(model: nn.Module) -> Iterator[None]:
    """Run passes through a network that leave its buffers and the random state as they were."""
    # Batch norm keeps its running statistics, dropout draws the same masks each time, and `DistributedDataParallel`
    # does not wait for the gradients of other processes.
    saved = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    devices = {p.device for p in model.parameters() if p.device.type not in ("cpu", "meta")}
    device_type = next(iter(devices)).type if devices else None
    wrapper = find_ddp(model)
    no_sync = nullcontext() if wrapper is None else wrapper.no_sync()
    with torch.random.fork_rng(devices=list(devices), device_type=device_type), no_sync, torch.enable_grad():
        try:
            yield
        finally:
            for module, name, buffer, value in saved:
                if getattr(module, name) is not buffer:
                    setattr(module, name, buffer)
                buffer.data.copy_(value)  # through data, so that graphs that hold the buffer stay valid


@contextmanager
def perturbed(parameters: Sequence[Tensor], direction: Sequence[Tensor], length: float) -> Iterator[None]:
    """Move parameters by ``length * direction``; on exit they hold exactly their old values."""
    values = [parameter.data for parameter in parameters]  # through data, so that other graphs stay valid
    saved = [value.clone() for value in values]
    try:
        torch._foreach_add_(values, list(direction), alpha=length)
        torch.clear_autocast_cache()  # under autocast: the cached half-precision copies are out of date
        yield
    finally:
        torch._foreach_copy_(values, saved)
        torch.clear_autocast_cache()
