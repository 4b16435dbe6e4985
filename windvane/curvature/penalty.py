"""The Fisher Penalty: keep the Fisher trace low by adding its gradient to that of the loss.

Jastrzebski et al., arXiv 2012.14193, equation 3: the loss of a batch of n examples becomes

    loss + alpha ||g||^2,    g = the mean gradient, with labels drawn from the model itself,

and since E ||g||^2 = Tr(F) / n (see `windvane.curvature.tracker`), what alpha is worth depends on n. Theirs stands for
n = 128; here alpha n / 128 is used, so that with labels drawn from the model one alpha means the same at every batch
size (gradients of true labels do not have mean zero, and do not shrink so). Its gradient is
computed anew every so many steps, and the most recent one is added again at the steps between, as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, SupportsFloat, get_args

import torch
from torch import Tensor, distributed, nn

from windvane.curvature.outputs import Labels, Output, Sampler, as_rows, total_loss
from windvane.curvature.passes import (
    Mode,
    gradient,
    moved,
    refuse_halves,
    squared_norms,
    trained,
    undisturbed,
)
from windvane.errors import InputError, check_whole, unknown
from windvane.torch_utils import find_ddp

Forward = Callable[[], Tensor]

PAPER_BATCH = 128  # what the paper's values of alpha stand for
CHANGE = 0.1  # of the gradient, relative to its norm, that a step of finite differences aims at
FIRST_RADIUS, SHORTEST, LONGEST, QUICKEST = 0.01, 1e-4, 1.0, 10.0  # lengths of the step, and its largest change


class FisherPenalty:
    """Add the gradient of the Fisher Penalty to the gradients of a loss.

    ``penalty(forward, targets)`` stands after ``loss.backward()`` (and unscaling), before clipping and
    ``optimizer.step()``, once for each step of the optimiser. Where gradients are accumulated, `forward` is that of
    the last part, and the penalty is that part's. Buffers and the random state stay as they were.

    Parameters
    ----------
    model
        The network that is trained; the one in `DistributedDataParallel` where that is used.
    alpha
        Weight of the penalty at 128 examples; the paper's best lie between 0.001 and 0.1.
    every
        Steps from one computation to the next.
    mode
        "finite_difference": two passes, the second with the parameters moved by `radius` along the gradient; works
        for fused attention and compiled networks. "double_backward": exact, and costs more.
    labels
        "sampled" is the Fisher Penalty (FP); "true" penalises the gradient of the loss itself (GP), "uniform" that
        of random labels (GP_r).
    start_step, stop_step
        The first step with a penalty, and the first without one again. With Adam and a warmup of the learning rate
        it should start where the warmup ends (Zhao et al. 2024).
    radius
        How far finite differences go: a length in the space of all parameters. By default it starts at 0.01 and
        follows the curvature, so that the gradient changes by a tenth: no one length fits all networks, and shorter
        steps drown in the kinks of ReLU and the rounding of bfloat16 (docs/fisher.md).
    output
        What the outputs mean.
    random_state
        Where the stream of labels starts.

    Attributes
    ----------
    step_
        Calls so far.
    radius_
        The length in use.
    squared_norm_
        ||g||^2 of the last computation; nan before. Not finite where a pass overflowed: there is no penalty then
        until the next computation.
    trace_
        n ||g||^2, with "sampled" labels an estimate of Tr(F).
    """

    def __init__(
        self,
        model: nn.Module,
        alpha: float,
        *,
        every: int = 10,
        mode: Mode = "finite_difference",
        labels: Labels = "sampled",
        start_step: int = 0,
        stop_step: int | None = None,
        radius: float | None = None,
        output: Output = "softmax",
        random_state: int = 0,
    ) -> None:
        trained(model)
        if not isinstance(alpha, SupportsFloat) or not 0 <= alpha < math.inf:
            raise InputError(f"alpha={alpha!r} is no weight. Allowed: numbers from 0.")
        check_whole("every", every)
        check_whole("start_step", start_step, 0)
        if mode not in get_args(Mode):
            raise unknown("mode", mode, get_args(Mode))
        if radius is not None and not 0 < radius < math.inf:
            raise InputError(f"radius={radius!r} is no length. Allowed: numbers above 0, or None.")
        if stop_step is not None and stop_step <= start_step:
            raise InputError(f"stop_step={stop_step!r} is not after start_step={start_step!r}. Allowed: a later step.")
        self.model, self.alpha, self.every, self.mode, self.labels = model, alpha, every, mode, labels
        self.start_step, self.stop_step, self.radius, self.output = start_step, stop_step, radius, output
        self._sampler = Sampler(output, labels, random_state)
        self._stale: dict[str, Tensor] | None = None
        self.radius_ = FIRST_RADIUS if radius is None else radius
        self.step_, self.squared_norm_, self.trace_ = 0, math.nan, math.nan

    def __call__(self, forward: Forward, targets: Tensor | None = None, scale: float = 1.0) -> None:
        """Add the penalty's gradient to the gradients of the parameters.

        Parameters
        ----------
        forward
            Computes the logits of this batch: shape (n, k) or (n, t, k). Called twice in one step of so many.
        targets
            The labels of the data, for labels="true".
        scale
            What the gradients are multiplied by: that of a `GradScaler` which has not unscaled them.

        Raises
        ------
        InputError
            Where `backward` has not run, or a pass cannot be used.
        """
        named = trained(self.model)
        if all(parameter.grad is None for parameter in named.values()):
            raise InputError(
                "No parameter has a gradient: the penalty was called before backward(). Allowed: a call between "
                "loss.backward() and optimizer.step(), before gradients are clipped."
            )
        if self.step_ < self.start_step or (self.stop_step is not None and self.step_ >= self.stop_step):
            self._stale = None
        else:
            if self._stale is None or (self.step_ - self.start_step) % self.every == 0:
                self._stale = self._compute(named, forward, targets)
            pairs = [
                (p.grad, self._stale[name]) for name, p in named.items() if p.grad is not None and name in self._stale
            ]
            torch._foreach_add_([grad for grad, _ in pairs], [extra for _, extra in pairs], alpha=scale)
        self.step_ += 1

    def state_dict(self) -> dict[str, Any]:
        """Give what a run needs to go on exactly: step, radius, stream of labels, and the most recent gradient.

        Returns
        -------
        dict[str, Any]
            Of numbers and tensors.
        """
        own = {"step": self.step_, "radius": self.radius_, "gradient": self._stale}
        return own | self._sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Parameters
        ----------
        state
            From `state_dict`.
        """
        self.step_, self.radius_, kept = state["step"], state["radius"], state["gradient"]
        if kept is not None:  # a file may have been read to another device
            kept = {name: kept[name].to(p.device) for name, p in trained(self.model).items() if name in kept}
        self._stale = kept
        self._sampler.load_state_dict(state)

    def _compute(self, named: Mapping[str, Tensor], forward: Forward, targets: Tensor | None) -> dict[str, Tensor]:
        """Give alpha n / 128 times the gradient of ||g||^2, the mean over processes; nothing where it overflowed."""
        compute = self._by_differences if self.mode == "finite_difference" else self._by_double_backward
        extra, self.squared_norm_, n = compute(list(named.values()), forward, targets)
        self.trace_ = n * self.squared_norm_
        torch._foreach_mul_(extra, self.alpha * n / PAPER_BATCH)
        if (wrapper := find_ddp(self.model)) is not None:
            for tensor in extra:
                distributed.all_reduce(tensor, group=wrapper.process_group)
            torch._foreach_div_(extra, distributed.get_world_size(wrapper.process_group))
        return dict(zip(named, extra, strict=True)) if math.isfinite(sum(squared_norms(extra))) else {}

    def _by_differences(
        self, parameters: list[Tensor], forward: Forward, targets: Tensor | None
    ) -> tuple[list[Tensor], float, int]:
        """2 H g = 2 ||g|| (g(theta + r u) - g(theta)) / r with u = g / ||g||; same labels, masks and batch."""
        refuse_halves(parameters)
        with undisturbed(self.model):
            rows = as_rows(forward(), self.output)
            labels, n = self._sampler(rows, targets), len(rows)
            first = gradient(total_loss(rows, labels, self.output), parameters)
        torch._foreach_div_(first, n)
        norm = math.sqrt(sum(squared_norms(first)))
        if norm == 0 or not math.isfinite(norm):
            return [torch.zeros_like(g) for g in first], norm**2, n
        radius = self.radius_
        with moved(parameters, first, radius / norm), undisturbed(self.model):
            second = gradient(total_loss(as_rows(forward(), self.output), labels, self.output), parameters)
        torch._foreach_div_(second, n)
        torch._foreach_sub_(second, first)
        if self.radius is None:
            self.radius_ = _next_radius(radius, math.sqrt(sum(squared_norms(second))) / norm)
        torch._foreach_mul_(second, 2 * norm / radius)
        return second, norm**2, n

    def _by_double_backward(
        self, parameters: list[Tensor], forward: Forward, targets: Tensor | None
    ) -> tuple[list[Tensor], float, int]:
        with undisturbed(self.model):
            rows = as_rows(forward(), self.output)
            labels, n = self._sampler(rows, targets), len(rows)
            first = gradient(total_loss(rows, labels, self.output), parameters, differentiable=True)
            # Of the sum, and divided only then: the gradients of a mean may vanish in half precision.
            squared_norm = torch.stack([(_full(g) / n).square().sum() for g in first]).sum()
            return gradient(squared_norm, parameters, constant=True), squared_norm.item(), n


def _full(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _next_radius(radius: float, change: float) -> float:
    """Aim at the wanted change of the gradient, from the one that a radius made."""
    if not math.isfinite(change):
        return max(radius / QUICKEST, SHORTEST)
    factor = min(CHANGE / change, QUICKEST) if change > 0 else QUICKEST
    return min(max(radius * max(factor, 1 / QUICKEST), SHORTEST), LONGEST)


def input_penalty(model: nn.Module, inputs: Tensor, targets: Tensor, output: Output = "softmax") -> Tensor:
    """Penalise the gradient by the input instead (GP_x of the paper), by double backward.

    Parameters
    ----------
    model
        The network, called as ``model(inputs)``.
    inputs
        Floats of shape (n, ...).
    targets
        The labels of the data.
    output
        What the outputs mean.

    Returns
    -------
    Tensor
        The squared norm of the mean loss's gradient by all inputs together, a scalar with a graph: train on
        ``loss + alpha * input_penalty(model, inputs, targets)``. The paper's alphas for it are 10 to 1000.
    """
    inputs = inputs.detach().requires_grad_()
    with undisturbed(model):
        rows = as_rows(model(inputs), output)
        labels = Sampler(output, "true", 0)(rows, targets)
        (found,) = gradient(total_loss(rows, labels, output) / len(rows), [inputs], differentiable=True)
    return found.square().sum()
