"""Flatness: the trace of the Hessian of a loss, and its largest eigenvalue.

The matrix is never formed: all that is needed is its product with a vector. The trace is Hutchinson's, E v^T H v over
vectors of independent entries with variance one; the eigenvalue is found by Lanczos' method, or by power iteration
where products come from finite differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn

from windvane.curvature.passes import (
    Mode,
    by_layer,
    gradient,
    moved,
    refuse_halves,
    squared_norms,
    trained,
    undisturbed,
)
from windvane.errors import InputError, check_whole, unknown

Distribution = Literal["rademacher", "gaussian"]
Vector = list[Tensor]
Loss = Callable[[], Tensor]

TOLERANCE = 1e-4  # of the eigenvalue: the residual at which the search ends; a thousandth could be that of the next one
SETTLED = 1e-3  # relative change of the eigenvalue at which power iteration ends
ROUNDING = 1e-6  # of the eigenvalue of largest size: what float32 cannot tell from zero
DIFFERENCE = 0.01  # length of the step of finite differences, to both sides


@dataclass(frozen=True)
class HessianTrace:
    """An estimate of Tr(H).

    Attributes
    ----------
    trace
        Of the Hessian of the loss that was given.
    standard_error
        Over the probes; nan for one.
    per_layer
        Trace of the diagonal block of each layer; they add up to the trace.
    probes
        Vectors drawn.
    """

    trace: float
    standard_error: float
    per_layer: dict[str, float]
    probes: int


@dataclass(frozen=True)
class TopEigenvalue:
    """The largest eigenvalue of a Hessian.

    Attributes
    ----------
    value
        It.
    iterations
        Products with the Hessian that it took.
    converged
        Whether an eigenvalue is known to lie within a ten-thousandth of it; by finite differences, whether it had
        settled to a thousandth, which leaves some per cent of error. False where the iterations ended before.
    """

    value: float
    iterations: int
    converged: bool


def hessian_trace(
    model: nn.Module,
    loss: Loss,
    *,
    probes: int = 30,
    distribution: Distribution = "rademacher",
    mode: Mode = "double_backward",
    random_state: int = 0,
) -> HessianTrace:
    """Estimate the trace of the Hessian of a loss by the trained parameters.

    Parameters
    ----------
    model
        The network; its buffers and the random state stay as they were.
    loss
        Computes the loss, a scalar, such as the mean over a batch.
    probes
        Vectors to draw; the paper uses 30. Each costs a backward pass through the first gradient, whose graph
        they share, or two gradients in the other mode.
    distribution
        Of the entries: "rademacher" (-1 or 1) varies less, "gaussian" is the paper's.
    mode
        "double_backward", or "finite_difference" for fused attention and compiled networks.
    random_state
        Of the vectors.

    Returns
    -------
    HessianTrace
        Estimate, error and layers.

    Raises
    ------
    InputError
        Where an argument is not allowed, or the network cannot be differentiated twice.
    """
    check_whole("probes", probes)
    if distribution not in get_args(Distribution):
        raise unknown("distribution", distribution, get_args(Distribution))
    named = trained(model)
    parameters: Vector = list(named.values())
    product = _product(model, loss, parameters, mode)
    draw = _Draws(parameters, random_state)
    rounds: list[list[float]] = []  # (probes, parameters)
    for _ in range(probes):
        vector = draw.signs() if distribution == "rademacher" else draw.normal()
        rounds.append([_dot([v], [h]) for v, h in zip(vector, product(vector), strict=True)])
    traces = [math.fsum(values) for values in rounds]
    trace = math.fsum(traces) / probes
    spread = math.fsum((t - trace) ** 2 for t in traces) / (probes - 1) if probes > 1 else math.nan
    parts = [math.fsum(values) / probes for values in zip(*rounds, strict=True)]
    return HessianTrace(trace, math.sqrt(spread / probes), by_layer(dict(zip(named, parts, strict=True))), probes)


def top_eigenvalue(
    model: nn.Module,
    loss: Loss,
    *,
    layer: str | None = None,
    mode: Mode = "double_backward",
    iterations: int = 100,
    random_state: int = 0,
) -> TopEigenvalue:
    """Find the largest eigenvalue of the Hessian of a loss: the sharpness of its minimum.

    Parameters
    ----------
    model
        The network; its buffers and the random state stay as they were.
    loss
        Computes the loss, a scalar.
    layer
        Only the diagonal block of the module of this name.
    mode
        As for `hessian_trace`.
    iterations
        At most so many products with the Hessian.
    random_state
        Of the first vector.

    Returns
    -------
    TopEigenvalue
        The largest one, not the one of largest size.

    Raises
    ------
    InputError
        Where an argument is not allowed, or the network cannot be differentiated twice.
    """
    check_whole("iterations", iterations)
    named = trained(model)
    if layer is not None:
        named = {name: p for name, p in named.items() if name == layer or name.startswith(f"{layer}.")}
        if not named:
            raise unknown("layer", layer, by_layer(dict.fromkeys(trained(model), 0.0)))
    parameters: Vector = list(named.values())
    product = _product(model, loss, parameters, mode)
    start = _Draws(parameters, random_state).normal()
    if mode == "double_backward":
        return _lanczos(product, start, iterations)
    # Products by differences are not quite linear, which Lanczos' method does not bear and power iteration does.
    first = _power(product, start, 0.0, iterations)
    if first.value >= 0 or not first.converged:
        return first
    # The one of largest size is negative: with all moved up by it, the largest one is now that of largest size.
    second = _power(product, start, first.value, max(1, iterations - first.iterations))
    return TopEigenvalue(second.value, first.iterations + second.iterations, second.converged)


def _lanczos(product: Callable[[Vector], Vector], vector: Vector, iterations: int) -> TopEigenvalue:
    """Find the largest eigenvalue by Lanczos' three-term recurrence, without keeping its vectors.

    Rounding costs their orthogonality, which makes eigenvalues appear twice but moves none (Paige 1976).
    """
    before, norm = [torch.zeros_like(part) for part in vector], 0.0
    diagonal: list[float] = []
    beside: list[float] = []
    value, error = math.nan, math.inf
    length = math.sqrt(sum(squared_norms(vector)))
    for count in range(1, iterations + 1):
        torch._foreach_div_(vector, length)
        image = product(vector)
        diagonal.append(_dot(vector, image))
        torch._foreach_add_(image, vector, alpha=-diagonal[-1])
        torch._foreach_add_(image, before, alpha=-norm)
        norm = length = math.sqrt(sum(squared_norms(image)))
        if not math.isfinite(diagonal[-1] + norm):  # of a network that has diverged
            return TopEigenvalue(math.nan, count, False)
        values, vectors = eigh_tridiagonal(diagonal, beside)
        value, error = float(values[-1]), norm * abs(float(vectors[-1, -1]))
        if error <= max(TOLERANCE * abs(value), ROUNDING * float(np.abs(values).max())):
            return TopEigenvalue(value, count, True)
        beside.append(norm)
        before, vector = vector, image
    return TopEigenvalue(value, iterations, False)


def _power(product: Callable[[Vector], Vector], vector: Vector, shift: float, iterations: int) -> TopEigenvalue:
    """Find the eigenvalue of H that lies farthest from a shift."""
    value = math.nan
    for count in range(1, iterations + 1):
        torch._foreach_div_(vector, max(math.sqrt(sum(squared_norms(vector))), torch.finfo(torch.float32).tiny))
        image = product(vector)
        torch._foreach_add_(image, vector, alpha=-shift)
        before, value = value, _dot(vector, image)
        if abs(value - before) <= SETTLED * abs(value):
            return TopEigenvalue(value + shift, count, True)
        vector = image
    return TopEigenvalue(value + shift, iterations, False)


def _product(model: nn.Module, loss: Loss, parameters: Vector, mode: Mode) -> Callable[[Vector], Vector]:
    """Make the function v -> H v."""
    if mode not in get_args(Mode):
        raise unknown("mode", mode, get_args(Mode))

    def at_here(*, differentiable: bool = False) -> Vector:
        with undisturbed(model):
            value = loss()
            if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                raise InputError("loss() did not give a scalar with a graph to the parameters. Allowed: such a one.")
            return gradient(value.squeeze(), parameters, differentiable=differentiable)

    def by_differences(vector: Vector) -> Vector:
        length = DIFFERENCE / math.sqrt(sum(squared_norms(vector)))
        with moved(parameters, vector, length):
            ahead = at_here()
        with moved(parameters, vector, -length):
            behind = at_here()
        torch._foreach_sub_(ahead, behind)
        torch._foreach_div_(ahead, 2 * length)
        return ahead

    if mode == "finite_difference":
        refuse_halves(parameters)
        return by_differences
    first = at_here(differentiable=True)

    def by_double_backward(vector: Vector) -> Vector:
        along = torch.stack([torch.sum(g * v) for g, v in zip(first, vector, strict=True)]).sum()
        return gradient(along, parameters, keep_graph=True, constant=True)

    return by_double_backward


def _dot(a: Vector, b: Vector) -> float:
    return math.fsum(torch.stack([torch.sum(x.detach() * y.detach()) for x, y in zip(a, b, strict=True)]).tolist())


class _Draws:
    """Random vectors of the shape of the parameters, from a stream of their own."""

    def __init__(self, parameters: Vector, random_state: int) -> None:
        self.parameters = parameters
        self.generator = torch.Generator(parameters[0].device).manual_seed(random_state)

    def normal(self) -> Vector:
        return [torch.randn(p.shape, generator=self.generator, device=p.device, dtype=p.dtype) for p in self.parameters]

    def signs(self) -> Vector:
        return [
            2.0 * torch.randint(2, p.shape, generator=self.generator, device=p.device).to(p.dtype) - 1
            for p in self.parameters
        ]
