"""Flatness: the trace of the Hessian of a loss, and its largest eigenvalue.

The matrix is never formed; both methods need only its product with a vector. The trace is Hutchinson's estimate,
E v^T H v over random vectors with independent entries of variance one. The eigenvalue comes from Lanczos' method, or
from power iteration where products are finite differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, get_args

import numpy as np
import torch
from scipy.linalg import eigh_tridiagonal
from torch import Tensor, nn

from windvane.curvature.autograd import (
    Mode,
    check_full_precision,
    grad,
    mean_and_error,
    perturbed,
    preserve_state,
    squared_norms,
    sum_by_layer,
    trainable_parameters,
)
from windvane.errors import InputError, check_choice, check_integer, unknown_name_error

Distribution = Literal["rademacher", "gaussian"]
Vector = list[Tensor]
Loss = Callable[[], Tensor]

TOLERANCE = 1e-4  # residual relative to the eigenvalue at which Lanczos stops; 1e-3 could be the next eigenvalue's
POWER_TOLERANCE = 1e-3  # relative change of the eigenvalue at which power iteration stops
ROUNDING = 1e-6  # relative to the eigenvalue of largest size: float32 cannot tell less from zero
STEP = 0.01  # length of a finite-difference step, to both sides


@dataclass(frozen=True)
class HessianTrace:
    """An estimate of Tr(H)."""

    trace: float
    standard_error: float  # over the probes; nan for one probe
    per_layer: dict[str, float]  # trace of each layer's diagonal block; they add up to the trace
    probes: int  # random vectors


@dataclass(frozen=True)
class TopEigenvalue:
    """The largest eigenvalue of a Hessian."""

    value: float
    iterations: int  # products with the Hessian
    # Double backward: the residual is at most 1e-4 of the value. Finite differences: the value changed by at most 1e-3
    # in the last iteration, which leaves an error of a few per cent. False if the iterations ran out.
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
        Random vectors; the paper uses 30. Each costs a backward pass through the graph of the first gradient, or two
        gradients with finite differences.
    distribution
        Of the vectors' entries: "rademacher" (-1 or 1) has less variance, "gaussian" is the paper's.
    mode
        "double_backward", or "finite_difference" for fused attention and compiled networks.
    random_state
        Seed of the vectors.

    Returns
    -------
    HessianTrace
        Estimate, standard error and traces per layer.

    Examples
    --------
    >>> import torch
    >>> from windvane.curvature import hessian_trace
    >>> model = torch.nn.Linear(3, 1, bias=False)
    >>> hessian_trace(model, lambda: model.weight.square().sum(), probes=2).trace
    6.0
    """
    probes = check_integer("probes", probes)
    check_choice("distribution", distribution, get_args(Distribution))
    named = trainable_parameters(model)
    parameters: Vector = list(named.values())
    product = _hessian_product(model, loss, parameters, mode)
    generator = torch.Generator(parameters[0].device).manual_seed(check_integer("random_state", random_state, 0))
    rounds: list[list[float]] = []  # (probes, parameters)
    for _ in range(probes):
        vector = _random_vector(parameters, distribution, generator)
        rounds.append([_dot([v], [h]) for v, h in zip(vector, product(vector), strict=True)])
    trace, error = mean_and_error([math.fsum(values) for values in rounds])
    parts = [fmean(values) for values in zip(*rounds, strict=True)]
    return HessianTrace(trace, error, sum_by_layer(dict(zip(named, parts, strict=True))), probes)


def top_eigenvalue(
    model: nn.Module,
    loss: Loss,
    *,
    layer: str | None = None,
    mode: Mode = "double_backward",
    iterations: int = 100,
    random_state: int = 0,
) -> TopEigenvalue:
    """Compute the largest eigenvalue of the Hessian of a loss: the sharpness of a minimum.

    Parameters
    ----------
    model
        The network; its buffers and the random state stay as they were.
    loss
        Computes the loss, a scalar.
    layer
        Name of a module, to use only its diagonal block.
    mode
        As for `hessian_trace`.
    iterations
        Maximum number of products with the Hessian.
    random_state
        Seed of the first vector.

    Returns
    -------
    TopEigenvalue
        The largest eigenvalue, which need not be the largest in absolute value.

    Examples
    --------
    >>> import torch
    >>> from windvane.curvature import top_eigenvalue
    >>> model = torch.nn.Linear(3, 1, bias=False)
    >>> round(top_eigenvalue(model, lambda: model.weight.square().sum()).value, 3)
    2.0
    """
    iterations = check_integer("iterations", iterations)
    named = trainable_parameters(model)
    if layer is not None:
        named = {name: p for name, p in named.items() if name == layer or name.startswith(f"{layer}.")}
        if not named:
            raise unknown_name_error("layer", layer, sum_by_layer(dict.fromkeys(trainable_parameters(model), 0.0)))
    parameters: Vector = list(named.values())
    product = _hessian_product(model, loss, parameters, mode)
    generator = torch.Generator(parameters[0].device).manual_seed(check_integer("random_state", random_state, 0))
    start = _random_vector(parameters, "gaussian", generator)
    if mode == "double_backward":
        return _lanczos(product, start, iterations)
    # Finite-difference products are not exactly linear: Lanczos' method fails on them, power iteration does not.
    first = _power(product, start, 0.0, iterations)
    if first.value >= 0 or not first.converged:
        return first
    # The eigenvalue of largest size is negative. Shifted by it, the largest eigenvalue becomes the one of largest size.
    second = _power(product, start, first.value, max(1, iterations - first.iterations))
    return TopEigenvalue(second.value, first.iterations + second.iterations, second.converged)


def _lanczos(product: Callable[[Vector], Vector], vector: Vector, iterations: int) -> TopEigenvalue:
    """Find the largest eigenvalue by Lanczos' three-term recurrence, without storing its vectors."""
    # Rounding destroys their orthogonality, which duplicates eigenvalues but does not move them (Paige 1976).
    before, norm = [torch.zeros_like(part) for part in vector], 0.0
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    length = math.sqrt(sum(squared_norms(vector)))
    for count in range(1, iterations + 1):
        torch._foreach_div_(vector, length)
        image = product(vector)
        diagonal.append(_dot(vector, image))
        torch._foreach_add_(image, vector, alpha=-diagonal[-1])
        torch._foreach_add_(image, before, alpha=-norm)
        norm = length = math.sqrt(sum(squared_norms(image)))
        if not math.isfinite(diagonal[-1] + norm):  # the network has diverged
            return TopEigenvalue(math.nan, count, False)
        values, vectors = eigh_tridiagonal(diagonal, off_diagonal)
        value, error = float(values[-1]), norm * abs(float(vectors[-1, -1]))
        if error <= max(TOLERANCE * abs(value), ROUNDING * float(np.abs(values).max())):
            return TopEigenvalue(value, count, True)
        off_diagonal.append(norm)
        before, vector = vector, image
    return TopEigenvalue(value, iterations, False)


def _power(product: Callable[[Vector], Vector], vector: Vector, shift: float, iterations: int) -> TopEigenvalue:
    """Find the eigenvalue of H that is farthest from a shift."""
    value = math.nan
    for count in range(1, iterations + 1):
        torch._foreach_div_(vector, max(math.sqrt(sum(squared_norms(vector))), torch.finfo(torch.float32).tiny))
        image = product(vector)
        torch._foreach_add_(image, vector, alpha=-shift)
        before, value = value, _dot(vector, image)
        if abs(value - before) <= POWER_TOLERANCE * abs(value):
            return TopEigenvalue(value + shift, count, True)
        vector = image
    return TopEigenvalue(value + shift, iterations, False)


def _hessian_product(model: nn.Module, loss: Loss, parameters: Vector, mode: Mode) -> Callable[[Vector], Vector]:
    """Return the function v -> H v."""
    check_choice("mode", mode, get_args(Mode))
    if not callable(loss):
        raise InputError(f"loss is of type {type(loss).__name__}. Allowed: a function that computes the loss.")

    def gradient(*, differentiable: bool = False) -> Vector:
        with preserve_state(model):
            value = loss()
            if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
                raise InputError("loss() must return a scalar that requires grad.")
            return grad(value.squeeze(), parameters, differentiable=differentiable)

    def finite_difference(vector: Vector) -> Vector:
        length = STEP / math.sqrt(sum(squared_norms(vector)))
        with perturbed(parameters, vector, length):
            forward = gradient()
        with perturbed(parameters, vector, -length):
            backward = gradient()
        torch._foreach_sub_(forward, backward)
        torch._foreach_div_(forward, 2 * length)
        return forward

    if mode == "finite_difference":
        check_full_precision(parameters)
        return finite_difference
    first = gradient(differentiable=True)

    def double_backward(vector: Vector) -> Vector:
        with torch.enable_grad():  # also where the caller has switched gradients off
            directional = torch.stack([torch.sum(g * v) for g, v in zip(first, vector, strict=True)]).sum()
        return grad(directional, parameters, keep_graph=True, constant=True)

    return double_backward


def _dot(a: Vector, b: Vector) -> float:
    return math.fsum(torch.stack([torch.sum(x.detach() * y.detach()) for x, y in zip(a, b, strict=True)]).tolist())


def _random_vector(parameters: Vector, distribution: Distribution, generator: torch.Generator) -> Vector:
    """Draw a vector in the shape of the parameters."""
    if distribution == "gaussian":
        return [torch.randn(p.shape, generator=generator, device=p.device, dtype=p.dtype) for p in parameters]
    return [2.0 * torch.randint(2, p.shape, generator=generator, device=p.device).to(p.dtype) - 1 for p in parameters]
