"""Numbers that are not finite: they stop a run, by the name of the first bad tensor and the step.

A GPU is not waited for after each step. Instead the optimiser is kept from every step from the first bad one on, so
that the weights stay as they were before it, and that step can be repeated tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class NonFiniteCheck:
    """Watches one run.

    Parameters
    ----------
    optimiser
        A fused one: it leaves out steps where its ``found_inf`` is 1, as torch's GradScaler has it do.
    device
        Of the parameters.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._bad = torch.zeros((), device=device)
        self._first = torch.zeros((), dtype=torch.int64, device=device)  # good steps before the bad one
        optimizer.found_inf = self._bad  # type: ignore[attr-defined]

    def watch(self, loss: Tensor, norm: Tensor) -> None:
        """Look at a step before the optimiser takes it, without waiting for the device.

        Parameters
        ----------
        loss, norm
            Of the batch and of its gradient; scalars.
        """
        good = torch.isfinite(loss.detach()) & torch.isfinite(norm)
        self._bad.copy_(torch.maximum(self._bad, (~good).to(self._bad.dtype)))
        self._first += (self._bad == 0).to(torch.int64)

    def bad_after(self) -> int | None:
        """Give the good steps before the first bad one, None where all were good; waits for the device."""
        return int(self._first) if bool(self._bad) else None


def find_nonfinite_tensor(network: nn.Module, backward: Callable[[], Tensor]) -> str:
    """Repeat a step and find the first tensor in it that is not finite.

    Parameters
    ----------
    network
        As it was before the step.
    backward
        Runs the step up to the gradients; gives the loss.

    Returns
    -------
    str
        As in "the output of blocks.3.attn".
    """
    for name, parameter in network.named_parameters():
        if not bool(parameter.isfinite().all()):
            return f"the parameter {name}"
    found: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not bool(output.isfinite().all()):
                found.append(f"the output of {name or 'the network'}")

        return look

    handles = [module.register_forward_hook(hook(name)) for name, module in network.named_modules()]
    try:
        loss = backward()
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return found[0]
    if not bool(loss.isfinite()):
        return "the loss"
    for name, parameter in network.named_parameters():
        if parameter.grad is not None and not bool(parameter.grad.isfinite().all()):
            return f"the gradient of {name}"
    return "the norm of the gradient"
