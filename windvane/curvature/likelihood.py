"""What a network's outputs mean: label sampling, and the negative log-likelihood that goes with it.

An example is one row of the outputs. Logits of shape (n, t, k), such as those of t tokens, count as n * t examples;
the caller leaves out padding, as in ``logits[mask]``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from windvane.curvature.autograd import at_least_float32
from windvane.errors import InputError, check_choice, check_integer

Output = Literal["softmax", "sigmoid", "gaussian"]
Labels = Literal["sampled", "true", "uniform"]


def flatten_logits(logits: object, output: Output) -> Tensor:
    """Reshape (n, k), (n, t, k) or, without softmax, (n,) to one row per example, at least in float32."""
    if not isinstance(logits, Tensor):
        raise InputError(f"logits is of type {type(logits).__name__}. Allowed: a tensor, as in outputs.logits.")
    min_dims = 2 if output == "softmax" else 1
    if not logits.is_floating_point() or not min_dims <= logits.ndim <= 3:
        raise InputError(
            f"logits has shape {tuple(logits.shape)} and type {logits.dtype}. Allowed for output={output!r}: floats of "
            f"shape (n, k) or (n, t, k){'' if min_dims == 2 else ' or (n,)'}; classes come last, so segmentation "
            "logits (n, k, h, w) are passed as logits.movedim(1, -1).flatten(0, -2)."
        )
    if logits.numel() == 0 or (output == "softmax" and logits.shape[-1] < 2):
        least = " and two classes (for one logit: output='sigmoid')" if output == "softmax" else ""
        raise InputError(f"logits has shape {tuple(logits.shape)}. Allowed: at least one example{least}.")
    if not logits.requires_grad:
        raise InputError(
            "logits has no graph to the parameters. Allowed: the output of the model, computed outside "
            "torch.no_grad() and not detached."
        )
    rows = logits.unsqueeze(1) if logits.ndim == 1 else logits.flatten(0, -2)  # (n, k)
    return at_least_float32(rows)


def check_forward(forward: object) -> None:
    """Raise `InputError` if what should compute the logits is no function."""
    if not callable(forward):
        raise InputError(
            f"forward is of type {type(forward).__name__}. Allowed: a function that computes the logits of this batch, "
            "as in lambda: model(images)."
        )


def compute_rows(logits: object, forward: Callable[[], Tensor] | None, output: Output) -> Tensor:
    """Return logits, or those that `forward` computes if it is given, with one row per example."""
    if forward is None:
        return flatten_logits(logits, output)
    check_forward(forward)
    return flatten_logits(forward(), output)


def check_targets(targets: object) -> Tensor:
    """Return targets; InputError if they are no tensor."""
    if not isinstance(targets, Tensor):
        raise InputError(f"targets is of type {type(targets).__name__}. Allowed: a tensor.")
    return targets


def as_classes(targets: Tensor, n_classes: int) -> Tensor:
    """Return targets (n,) as torch takes classes; InputError if one is none of the classes."""
    if targets.is_floating_point() or targets.is_complex():
        raise InputError(f"targets is of type {targets.dtype}. Allowed: whole numbers, as in targets.long().")
    classes = targets.flatten().long()
    low, high = torch.stack(classes.aminmax()).tolist()
    if low < 0 or high >= n_classes:
        raise InputError(
            f"targets has classes from {low} to {high}. Allowed: 0 to {n_classes - 1}; leave out the rows that do not "
            "count (padding), as in logits[targets >= 0]."
        )
    return classes


def negative_log_likelihood(rows: Tensor, labels: Tensor, output: Output) -> Tensor:
    """Sum the negative log-likelihood of labels, in nats, over the examples."""
    # The sum, not the mean: in float16 the gradients of a mean over many examples would vanish. "gaussian" has unit
    # variance and leaves out the constant.
    with torch.autocast(rows.device.type, enabled=False):
        if output == "softmax":
            return functional.cross_entropy(rows, labels, reduction="sum")
        if output == "sigmoid":
            return functional.binary_cross_entropy_with_logits(rows, labels, reduction="sum")
        return (rows - labels).square().sum() / 2


class LabelSampler:
    """Draws labels from the model ("sampled") or uniformly, with its own generator, or checks the true ones."""

    def __init__(self, output: Output, labels: Labels, random_state: int) -> None:
        check_choice("output", output, get_args(Output))
        check_choice("labels", labels, get_args(Labels))
        if (output, labels) == ("gaussian", "uniform"):
            raise InputError("labels='uniform' has no meaning for output='gaussian'. Allowed: 'sampled', 'true'.")
        self.output, self.labels, self.random_state = output, labels, check_integer("random_state", random_state, 0)
        self._generator: torch.Generator | None = None
        self._state: Tensor | None = None

    def __call__(self, rows: Tensor, targets: Tensor | None = None) -> Tensor:
        """Return classes (n,) for "softmax", else values (n, k), for rows (n, k)."""
        if self.labels == "true":
            return self._checked_targets(rows, targets)
        rows, generator = rows.detach(), self._generator_on(rows.device)
        if self.output == "gaussian":
            return rows + torch.randn(rows.shape, generator=generator, device=rows.device, dtype=rows.dtype)
        uniform = self.labels == "uniform"
        if self.output == "sigmoid":
            probability = torch.full_like(rows, 0.5) if uniform else rows.sigmoid()
            return (torch.rand(rows.shape, generator=generator, device=rows.device) < probability).to(rows.dtype)
        # Gumbel-max: the winner of a race of exponential clocks. Unlike torch.multinomial it accepts logits that are
        # not finite, so that a run that diverges is measured as such.
        clocks = torch.empty_like(rows).exponential_(generator=generator).log()  # (n, k)
        return (torch.zeros_like(rows) - clocks if uniform else rows - clocks).argmax(dim=1)

    def state_dict(self) -> dict[str, Any]:
        return {"stream": self._state if self._generator is None else self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._generator = None
        self._state = None if state["stream"] is None else state["stream"].cpu()  # torch sets states from the CPU

    def _generator_on(self, device: torch.device) -> torch.Generator:
        if self._generator is None:
            self._generator = torch.Generator(device).manual_seed(self.random_state)
            if self._state is not None:
                self._generator.set_state(self._state)
        return self._generator

    def _checked_targets(self, rows: Tensor, targets: Tensor | None) -> Tensor:
        if targets is None:
            raise InputError("targets is missing. Allowed with labels='true': the targets of this batch.")
        targets = check_targets(targets).to(rows.device)
        are_classes = self.output == "softmax" and not targets.is_floating_point()
        if targets.numel() != (len(rows) if are_classes else rows.numel()):
            raise InputError(
                f"targets has shape {tuple(targets.shape)} and type {targets.dtype}, which does not fit {len(rows)} "
                f"examples with {rows.shape[1]} outputs each. Allowed: one target for each example, classes as whole "
                "numbers."
            )
        return as_classes(targets, rows.shape[1]) if are_classes else targets.reshape(rows.shape).to(rows.dtype)


def mean_entropy(rows: Tensor, output: Output) -> float:
    """Return the mean entropy of the predictions in nats, summed over k for "sigmoid"; nan for "gaussian"."""
    # Until a network memorizes, this is about the loss on the same examples, and it needs no labels.
    if output == "gaussian":
        return math.nan
    rows = rows.detach()
    probabilities = rows.sigmoid() if output == "sigmoid" else rows.softmax(dim=1)
    return negative_log_likelihood(rows, probabilities, output).item() / len(rows)


def score_covariance_factor(rows: Tensor, output: Output) -> Tensor:
    """Factor the covariance of each example's score: (n, k, k), vectors v_c with sum_c v_c v_c^T = S."""
    # S is diag(p) - p p^T for "softmax", diag(p (1 - p)) for "sigmoid" and the identity for "gaussian".
    k = rows.shape[1]
    unit = torch.eye(k, dtype=rows.dtype, device=rows.device).expand(len(rows), k, k)
    if output == "gaussian":
        return unit
    if output == "sigmoid":
        p = rows.detach().sigmoid()
        return unit * (p * (1 - p)).sqrt().unsqueeze(2)  # (n, k, k)
    p = rows.detach().softmax(dim=1)
    return p.sqrt().unsqueeze(2) * (unit - p.unsqueeze(1))  # (n, k, k)
