"""What every measurement shares: the trained parameters, one gradient, and a pass that leaves no trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from windvane.errors import InputError
from windvane.torch_utils import find_ddp, unwrap_model

Mode = Literal["finite_difference", "double_backward"]  # how a gradient is differentiated once more

_ADVICE = {
    "through the graph a second time": "The graph behind the logits is gone: backward() has run. Allowed: a call "
    "between the forward pass and backward(), or forward=, a function that computes the logits of this batch anew.",
    "donated": "The model is compiled, and its graph can be walked once only (donated buffers). Allowed: forward=, a "
    "function that computes the logits of this batch anew; where gradients are differentiated, "
    "mode='finite_difference'.",
    "derivative for aten::": "Something in the model, such as fused attention, cannot be differentiated twice. "
    "Allowed: mode='finite_difference', or a forward pass under torch.nn.attention.sdpa_kernel(SDPBackend.MATH).",
    "double backward": "A compiled model cannot be differentiated twice. Allowed: mode='finite_difference', or the "
    "model without torch.compile.",
    "modified by an inplace operation": "The parameters have changed since the forward pass. Allowed: a call between "
    "the forward pass and optimizer.step(), or forward=, a function that computes the logits of this batch anew.",
}


def trained(model: object) -> dict[str, nn.Parameter]:
    """Find the parameters that are trained.

    Parameters
    ----------
    model
        A network; it may be compiled, or stand in `DistributedDataParallel`.

    Returns
    -------
    dict[str, Parameter]
        By their names in the plain network; shared ones once.

    Raises
    ------
    InputError
        Where there are none, or they are sharded.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model is of type {type(model).__name__}. Allowed: a torch.nn.Module.")
    named = {
        ".".join(word for word in name.split(".") if word != "_orig_mod"): parameter
        for name, parameter in unwrap_model(model).named_parameters()
        if parameter.requires_grad
    }
    if not named:
        raise InputError("model has no parameter that is trained. Allowed: at least one with requires_grad.")
    if any(hasattr(p, "device_mesh") or getattr(p, "_fsdp_flattened", False) for p in named.values()):
        raise InputError("model has sharded parameters (FSDP). Allowed: whole ones, as in DistributedDataParallel.")
    return named


def refuse_halves(parameters: Sequence[Tensor]) -> None:
    """Refuse finite differences of parameters that are too coarse for them.

    Parameters
    ----------
    parameters
        What is to be moved.

    Raises
    ------
    InputError
        Where one is in float16 or bfloat16.
    """
    if any(p.dtype in (torch.float16, torch.bfloat16) for p in parameters):
        raise InputError(
            f"The parameters are of type {parameters[0].dtype}, in whose rounding a small step is lost. Allowed: "
            "parameters in float32 (with torch.autocast), or mode='double_backward'."
        )


def by_layer(values: Mapping[str, float]) -> dict[str, float]:
    """Add up what belongs to one layer.

    Parameters
    ----------
    values
        By name of the parameter, as in "block.0.weight".

    Returns
    -------
    dict[str, float]
        By name of the module that owns it, in order; a parameter of the network itself stands for itself.
    """
    layers: dict[str, float] = {}
    for name, value in values.items():
        layer = name.rpartition(".")[0] or name
        layers[layer] = layers.get(layer, 0.0) + value
    return layers


def gradient(
    value: Tensor,
    of: Sequence[Tensor],
    *,
    keep_graph: bool = False,
    differentiable: bool = False,
    constant: bool = False,
) -> list[Tensor]:
    """Differentiate a scalar without touching what `backward` fills.

    Parameters
    ----------
    value
        A scalar.
    of
        The tensors to differentiate by; zeros for those that it does not depend on.
    keep_graph
        Whether the graph is needed again.
    differentiable
        Whether the gradient will itself be differentiated.
    constant
        Whether the scalar may depend on none of them.

    Returns
    -------
    list[Tensor]
        Of the same shapes.

    Raises
    ------
    InputError
        Where torch cannot, in words that name the way out, or the scalar depends on none of them.
    """
    if constant and not value.requires_grad:
        return [torch.zeros_like(by) for by in of]
    try:
        found = torch.autograd.grad(
            value,
            of,
            retain_graph=keep_graph or differentiable,
            create_graph=differentiable,
            allow_unused=True,
        )
    except RuntimeError as error:
        for words, advice in _ADVICE.items():
            if words in str(error):
                raise InputError(advice) from error
        raise
    if any(one is None for one in found) and _holds([value], "CheckpointFunctionBackward"):
        raise InputError(
            "The model recomputes activations by reentrant checkpoints, which hide their parameters from all but "
            "backward(). Allowed: checkpoints with use_reentrant=False."
        )
    if not constant and all(one is None for one in found):
        raise InputError(
            "What was computed does not depend on any trained parameter of the model. Allowed: the logits (or the "
            "loss) of this model, not of a copy or a moving average."
        )
    if differentiable and _holds([one for one in found if one is not None], "Error"):
        # Else what lies behind it would silently be left out.
        raise InputError(
            "A function in the model is marked with once_differentiable. Allowed: mode='finite_difference'."
        )
    return [torch.zeros_like(by) if one is None else one for by, one in zip(of, found, strict=True)]


def _holds(tensors: Sequence[Tensor], name: str) -> bool:
    """Walk the graph behind tensors for a node of a name."""
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
    """Square the length of each tensor; at least in float32, and with one wait for the device."""
    halves = (torch.float16, torch.bfloat16)
    norms = [torch.linalg.vector_norm(t.detach(), dtype=torch.float32 if t.dtype in halves else None) for t in tensors]
    return [norm**2 for norm in torch.stack([norm.to(norms[0]) for norm in norms]).tolist()]


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run passes through a network that leave its buffers and the random state as they were.

    Batch norm keeps its running statistics, dropout draws the same masks each time that this is entered, and a
    network in `DistributedDataParallel` does not wait for gradients of other processes.

    Parameters
    ----------
    model
        The network.
    """
    kept = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    devices = {p.device for p in model.parameters() if p.device.type not in ("cpu", "meta")}
    kind = next(iter(devices)).type if devices else None
    wrapper = find_ddp(model)
    alone = nullcontext() if wrapper is None else wrapper.no_sync()
    with torch.random.fork_rng(devices=list(devices), device_type=kind), alone, torch.enable_grad():
        try:
            yield
        finally:
            for module, name, buffer, value in kept:
                if getattr(module, name) is not buffer:
                    setattr(module, name, buffer)
                buffer.data.copy_(value)  # through data: graphs that hold the buffer need not know


@contextmanager
def moved(parameters: Sequence[Tensor], direction: Sequence[Tensor], length: float) -> Iterator[None]:
    """Move parameters for a while; afterwards they hold exactly what they held.

    Parameters
    ----------
    parameters
        What is moved.
    direction
        Where to, of the same shapes.
    length
        By how many times the direction.
    """
    here = [parameter.data for parameter in parameters]  # through data: other graphs need not know
    kept = [value.clone() for value in here]
    try:
        torch._foreach_add_(here, list(direction), alpha=length)
        torch.clear_autocast_cache()  # of parameters in half precision, where the caller stands under autocast
        yield
    finally:
        torch._foreach_copy_(here, kept)
        torch.clear_autocast_cache()
