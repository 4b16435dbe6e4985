"""Numbers that are not finite stop a run, with the name of the first such tensor and the step.

A GPU is not waited for after each step. Instead the optimizer skips every step from the first bad one on, so the
weights stay as they were before it, and that step can be repeated tensor by tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


class NonFiniteCheck:
    """Checks the loss and the gradient norm of each step without waiting for the device."""

    # The optimizer must be a fused one: it skips steps while its ``found_inf`` is 1, as torch's GradScaler has it do.

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device) -> None:
        self._bad = torch.zeros((), device=device)
        self._n_good = torch.zeros((), dtype=torch.int64, device=device)
        optimizer.found_inf = self._bad  # type: ignore[attr-defined]

    def update(self, loss: Tensor, norm: Tensor) -> None:
        """Check the scalars of a step before the optimizer takes it."""
        self._bad.logical_or_(~(loss.isfinite() & norm.isfinite()))
        self._n_good += self._bad == 0

    def first_bad_step(self) -> int | None:
        """Return the number of the first bad step, counted from 0, or None; waits for the device."""
        return int(self._n_good) if self._bad else None


def find_nonfinite_tensor(network: nn.Module, backward: Callable[[], Tensor]) -> str:
    """Repeat a step and describe the first tensor that is not finite, such as "the output of blocks.3.attn"."""
    # `backward` runs the step up to the gradients, with the weights as they were before it, and returns the loss.
    for name, parameter in network.named_parameters():
        if not parameter.isfinite().all():
            return f"the parameter {name}"
    found: list[str] = []

    def check_output(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            found.append(f"the output of {name or 'the network'}")

    handles = [module.register_forward_hook(partial(check_output, name)) for name, module in network.named_modules()]
    try:
        loss = backward()
    finally:
        for handle in handles:
            handle.remove()
    if found:
        return found[0]
    if not loss.isfinite():
        return "the loss"
    for name, parameter in network.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return f"the gradient of {name}"
    return "the norm of the gradient"
