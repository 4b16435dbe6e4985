"""The Fisher Penalty: keep the Fisher trace low by adding the gradient of a penalty to the gradient of the loss.

Jastrzebski et al., arXiv 2012.14193, equation 3: the loss of a batch of n examples becomes

    loss + alpha ||g||^2,    g = the mean gradient, with labels drawn from the model itself.

Since E ||g||^2 = Tr(F) / n (see `windvane.curvature.fisher_trace`), the effect of alpha depends on n. The paper uses
n = 128; here the factor is alpha n / 128, so that with sampled labels one alpha means the same at every batch size
(gradients of true labels do not have mean zero, so it does not hold for them). The gradient of the penalty is
recomputed every few steps and the last one is added again at the steps between, as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, SupportsFloat, get_args

import torch
from torch import Tensor, distributed, nn

from windvane.curvature.autograd import (
    Mode,
    at_least_float32,
    check_full_precision,
    grad,
    perturbed,
    preserve_state,
    squared_norms,
    trainable_parameters,
)
from windvane.curvature.likelihood import (
    Labels,
    LabelSampler,
    Output,
    check_forward,
    flatten_logits,
    negative_log_likelihood,
)
from windvane.errors import InputError, check_choice, check_integer, check_usable
from windvane.torch_utils import check_module, find_ddp

Forward = Callable[[], Tensor]

PAPER_BATCH_SIZE = 128  # batch size of the paper's values of alpha
TARGET_CHANGE = 0.1  # relative change of the gradient that a finite-difference step aims at
FIRST_RADIUS, MIN_RADIUS, MAX_RADIUS = 0.01, 1e-4, 1.0  # lengths of a finite-difference step
MAX_RADIUS_FACTOR = 10.0  # largest change of the radius from one computation to the next


class FisherPenalty:
    """Add the gradient of the Fisher Penalty to the gradients of a loss.

    Call ``penalty(forward, targets)`` once per optimizer step: after ``loss.backward()`` (and unscaling), before
    gradient clipping and ``optimizer.step()``. With gradient accumulation, pass the `forward` of the last batch; the
    penalty is that of this batch. Buffers and the random state stay as they were.

    Parameters
    ----------
    model
        The network that is trained; pass the `DistributedDataParallel` wrapper if there is one.
    alpha
        Weight of the penalty at 128 examples; the best values of the paper are between 0.001 and 0.1.
    every
        Steps from one computation of the penalty's gradient to the next.
    mode
        "finite_difference": two gradients, the second at parameters moved by `radius` along the first; works with
        fused attention and compiled networks. "double_backward": exact, and costs more.
    labels
        "sampled" is the Fisher Penalty (FP of the paper). "true" penalizes the gradient of the loss itself (GP),
        "uniform" that of random labels (GP_r).
    start_step, stop_step
        First step with a penalty, and first step without one again. With Adam and learning rate warmup, start where
        the warmup ends (Zhao et al. 2024).
    radius
        Length of a finite-difference step in the space of all parameters. By default it starts at 0.01 and follows
        the curvature, so that the gradient changes by a tenth: no single length fits all networks, and shorter steps
        disappear in the kinks of ReLU and the rounding of bfloat16 (docs/how/fisher.md). The rounding of float32 is
        harmless: on CNNs with ReLU, cosines with double backward at lengths from 1e-4 to 0.1 are those of float64
        within 0.01, and with GELU at least 0.98.
    output
        What the outputs mean, as for `FisherTracker`.
    random_state
        Seed of the label draws.

    Attributes
    ----------
    step_
        Calls so far.
    radius_
        Current length of a finite-difference step.
    squared_norm_
        ||g||^2 of the last computation; nan before the first. Not finite if a pass overflowed: then there is no
        penalty until the next computation.
    trace_
        n ||g||^2; with labels="sampled" an estimate of Tr(F).

    Examples
    --------
    >>> import torch
    >>> from torch.nn.functional import cross_entropy
    >>> from windvane.curvature import FisherPenalty
    >>> model = torch.nn.Linear(4, 3)
    >>> images, labels = torch.randn(8, 4), torch.arange(8) % 3
    >>> penalty = FisherPenalty(model, alpha=0.01)
    >>> cross_entropy(model(images), labels).backward()
    >>> penalty(lambda: model(images))
    >>> penalty.step_
    1
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
        trainable_parameters(model)
        is_weight = isinstance(alpha, SupportsFloat) and 0 <= alpha < math.inf
        check_usable("alpha", alpha, is_weight, "numbers of at least 0")
        every, start_step = check_integer("every", every), check_integer("start_step", start_step, 0)
        if stop_step is not None:
            stop_step = check_integer("stop_step", stop_step, start_step + 1)
        check_choice("mode", mode, get_args(Mode))
        is_length = radius is None or (isinstance(radius, Real) and 0 < radius < math.inf)
        check_usable("radius", radius, is_length, "numbers above 0, or None")
        self.model, self.alpha, self.every, self.mode, self.labels = model, alpha, every, mode, labels
        self.start_step, self.stop_step, self.radius, self.output = start_step, stop_step, radius, output
        self._sampler = LabelSampler(output, labels, random_state)
        self._last_gradient: dict[str, Tensor] | None = None
        self.radius_ = FIRST_RADIUS if radius is None else float(radius)
        self.step_, self.squared_norm_, self.trace_ = 0, math.nan, math.nan

    def __call__(self, forward: Forward, targets: Tensor | None = None, scale: float = 1.0) -> None:
        """Add the penalty's gradient to the gradients of the parameters.

        Parameters
        ----------
        forward
            Computes the logits of this batch: shape (n, k) or (n, t, k). Called only when the gradient is recomputed:
            once, or twice with finite differences.
        targets
            Labels of the data, for labels="true".
        scale
            Factor of the current gradients: that of a `GradScaler` that has not unscaled them yet.
        """
        check_forward(forward)
        named = trainable_parameters(self.model)
        if all(parameter.grad is None for parameter in named.values()):
            raise InputError(
                "No parameter has a gradient: the penalty was called before backward(). Allowed: a call between "
                "loss.backward() and optimizer.step(), before gradients are clipped."
            )
        if self.step_ < self.start_step or (self.stop_step is not None and self.step_ >= self.stop_step):
            self._last_gradient = None
        else:
            if self._last_gradient is None or (self.step_ - self.start_step) % self.every == 0:
                self._last_gradient = self._compute(named, forward, targets)
            extra = self._last_gradient
            pairs = [(p.grad, extra[name]) for name, p in named.items() if p.grad is not None and name in extra]
            torch._foreach_add_([gradient for gradient, _ in pairs], [more for _, more in pairs], alpha=scale)
        self.step_ += 1

    def state_dict(self) -> dict[str, Any]:
        """Return step, radius, label draws and the last gradient, from which a run resumes exactly."""
        state = {"step": self.step_, "radius": self.radius_, "gradient": self._last_gradient}
        return state | self._sampler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.step_, self.radius_, last = state["step"], state["radius"], state["gradient"]
        if last is not None:  # on the device and in the memory layout of the parameters, so that sums keep their order
            parameters = trainable_parameters(self.model)
            last = {name: torch.empty_like(p).copy_(last[name]) for name, p in parameters.items() if name in last}
        self._last_gradient = last
        self._sampler.load_state_dict(state)

    def _compute(self, named: Mapping[str, Tensor], forward: Forward, targets: Tensor | None) -> dict[str, Tensor]:
        """Return alpha n / 128 times the gradient of ||g||^2, averaged over processes; empty if it overflowed."""
        compute = self._finite_difference if self.mode == "finite_difference" else self._double_backward
        extra, self.squared_norm_, n = compute(list(named.values()), forward, targets)
        self.trace_ = n * self.squared_norm_
        torch._foreach_mul_(extra, self.alpha * n / PAPER_BATCH_SIZE)
        if (wrapper := find_ddp(self.model)) is not None:
            for tensor in extra:
                distributed.all_reduce(tensor, group=wrapper.process_group)
            torch._foreach_div_(extra, distributed.get_world_size(wrapper.process_group))
        return dict(zip(named, extra, strict=True)) if math.isfinite(sum(squared_norms(extra))) else {}

    def _finite_difference(
        self, parameters: list[Tensor], forward: Forward, targets: Tensor | None
    ) -> tuple[list[Tensor], float, int]:
        """2 H g = 2 ||g|| (g(theta + r u) - g(theta)) / r with u = g / ||g||; same labels, masks and batch."""
        check_full_precision(parameters)
        with preserve_state(self.model):
            rows = flatten_logits(forward(), self.output)
            labels, n = self._sampler(rows, targets), len(rows)
            first = grad(negative_log_likelihood(rows, labels, self.output), parameters)
        torch._foreach_div_(first, n)
        norm = math.sqrt(sum(squared_norms(first)))
        if norm == 0 or not math.isfinite(norm):
            return [torch.zeros_like(g) for g in first], norm**2, n
        radius = self.radius_
        with perturbed(parameters, first, radius / norm), preserve_state(self.model):
            rows = flatten_logits(forward(), self.output)
            second = grad(negative_log_likelihood(rows, labels, self.output), parameters)
        torch._foreach_div_(second, n)
        torch._foreach_sub_(second, first)
        if self.radius is None:
            self.radius_ = _next_radius(radius, math.sqrt(sum(squared_norms(second))) / norm)
        torch._foreach_mul_(second, 2 * norm / radius)
        return second, norm**2, n

    def _double_backward(
        self, parameters: list[Tensor], forward: Forward, targets: Tensor | None
    ) -> tuple[list[Tensor], float, int]:
        with preserve_state(self.model):
            rows = flatten_logits(forward(), self.output)
            labels, n = self._sampler(rows, targets), len(rows)
            first = grad(negative_log_likelihood(rows, labels, self.output), parameters, differentiable=True)
            # Divided after the gradient of the sum: the gradients of a mean may vanish in half precision.
            squared_norm = torch.stack([(at_least_float32(g) / n).square().sum() for g in first]).sum()
            return grad(squared_norm, parameters, constant=True), squared_norm.item(), n


def _next_radius(radius: float, change: float) -> float:
    """Return the radius at which the gradient should change by `TARGET_CHANGE`."""
    if not math.isfinite(change):
        return max(radius / MAX_RADIUS_FACTOR, MIN_RADIUS)
    factor = min(TARGET_CHANGE / change, MAX_RADIUS_FACTOR) if change > 0 else MAX_RADIUS_FACTOR
    return min(max(radius * max(factor, 1 / MAX_RADIUS_FACTOR), MIN_RADIUS), MAX_RADIUS)


def input_gradient_penalty(model: nn.Module, inputs: Tensor, targets: Tensor, output: Output = "softmax") -> Tensor:
    """Compute the squared gradient norm by the inputs (GP_x of the paper), by double backward.

    Parameters
    ----------
    model
        The network, called as ``model(inputs)``.
    inputs
        Floats of shape (n, ...).
    targets
        Labels of the data.
    output
        What the outputs mean, as for `FisherTracker`.

    Returns
    -------
    Tensor
        Squared norm of the mean loss's gradient by all inputs together, a scalar with a graph: train on
        ``loss + alpha * input_gradient_penalty(model, inputs, targets)``. The paper's values of alpha are 10 to 1000.
    """
    check_module(model)
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        came = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise InputError(
            f"inputs is of type {came}. Allowed: a tensor of floats, since the penalty differentiates by it (for "
            "tokens their embeddings)."
        )
    inputs = inputs.detach().requires_grad_()
    with preserve_state(model):
        rows = flatten_logits(model(inputs), output)
        labels = LabelSampler(output, "true", 0)(rows, targets)
        (gradient,) = grad(negative_log_likelihood(rows, labels, output) / len(rows), [inputs], differentiable=True)
    return gradient.square().sum()
