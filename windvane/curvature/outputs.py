"""What a network's outputs mean: how labels are drawn from them, and the loss that goes with it.

An example is one row of the outputs. Logits of shape (n, t, k), as of t tokens, count as n * t examples of their own;
those that do not count (padding) are left out by the caller, as in ``logits[mask]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from windvane.errors import InputError, check_whole, unknown

Output = Literal["softmax", "sigmoid", "gaussian"]
Labels = Literal["sampled", "true", "uniform"]


def as_rows(logits: object, output: Output) -> Tensor:
    """Bring the outputs of a network to one row for each example.

    Parameters
    ----------
    logits
        Floats of shape (n, k) or (n, t, k), the classes last; (n,) too where output is not "softmax".
    output
        What they mean.

    Returns
    -------
    Tensor
        Shape (n, k), at least in float32.

    Raises
    ------
    InputError
        Where they are no such tensor, or have no graph to the parameters.
    """
    if not isinstance(logits, Tensor):
        raise InputError(f"logits is of type {type(logits).__name__}. Allowed: a tensor, as in outputs.logits.")
    fewest = 2 if output == "softmax" else 1
    if not logits.is_floating_point() or not fewest <= logits.ndim <= 3:
        raise InputError(
            f"logits has shape {tuple(logits.shape)} and type {logits.dtype}. Allowed for output={output!r}: floats of "
            f"shape (n, k) or (n, t, k){'' if fewest == 2 else ' or (n,)'}; classes stand last, so images of classes "
            "(n, k, h, w) come as logits.movedim(1, -1).flatten(0, -2)."
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
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def total_loss(rows: Tensor, labels: Tensor, output: Output) -> Tensor:
    """Sum the negative log-likelihood of labels over the examples.

    The sum, not the mean: in float16 the gradients of a mean over many examples would vanish.

    Parameters
    ----------
    rows
        Shape (n, k).
    labels
        As `Sampler` gives them.
    output
        "softmax": cross-entropy. "sigmoid": binary cross-entropy, summed over k. "gaussian": half the squared
        error, summed over k, which is the likelihood of unit variance up to a constant.

    Returns
    -------
    Tensor
        A scalar, in nats.
    """
    with torch.autocast(rows.device.type, enabled=False):
        if output == "softmax":
            return functional.cross_entropy(rows, labels, reduction="sum")
        if output == "sigmoid":
            return functional.binary_cross_entropy_with_logits(rows, labels, reduction="sum")
        return (rows - labels).square().sum() / 2


class Sampler:
    """Gives labels to examples, drawn with a random stream of its own.

    Parameters
    ----------
    output
        What the outputs mean.
    labels
        "sampled": from the model's own distribution. "true": the targets. "uniform": every class equally likely.
    random_state
        Where the stream starts.
    """

    def __init__(self, output: Output, labels: Labels, random_state: int) -> None:
        if output not in get_args(Output):
            raise unknown("output", output, get_args(Output))
        if labels not in get_args(Labels):
            raise unknown("labels", labels, get_args(Labels))
        if (output, labels) == ("gaussian", "uniform"):
            raise InputError("labels='uniform' has no meaning for output='gaussian'. Allowed: 'sampled', 'true'.")
        check_whole("random_state", random_state, 0)
        self.output, self.labels, self.random_state = output, labels, random_state
        self._generator: torch.Generator | None = None
        self._state: Tensor | None = None

    def __call__(self, rows: Tensor, targets: Tensor | None = None) -> Tensor:
        """Draw a label for each row, or bring the targets to the same shape.

        Parameters
        ----------
        rows
            Shape (n, k).
        targets
            For "true": classes (n,), or what has the shape of the rows.

        Returns
        -------
        Tensor
            Classes (n,) for "softmax", else numbers (n, k).

        Raises
        ------
        InputError
            Where targets are missing or do not fit, or a class is none of the k, such as the -100 of padding.
        """
        if self.labels == "true":
            return self._fitting(rows, targets)
        rows, generator = rows.detach(), self._stream(rows.device)
        if self.output == "gaussian":
            return rows + torch.randn(rows.shape, generator=generator, device=rows.device, dtype=rows.dtype)
        even = self.labels == "uniform"
        if self.output == "sigmoid":
            chance = torch.full_like(rows, 0.5) if even else rows.sigmoid()
            return (torch.rand(rows.shape, generator=generator, device=rows.device) < chance).to(rows.dtype)
        # The class that a race of exponential clocks ends with; unlike torch.multinomial it survives logits that
        # are not finite, so that a run that diverges is measured as such.
        clocks = torch.empty_like(rows).exponential_(generator=generator).log()  # (n, k)
        return (torch.zeros_like(rows) - clocks if even else rows - clocks).argmax(dim=1)

    def state_dict(self) -> dict[str, Any]:
        """Give the state of the stream."""
        return {"stream": self._state if self._generator is None else self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state."""
        self._generator = None
        self._state = None if state["stream"] is None else state["stream"].cpu()  # where torch wants it

    def _stream(self, device: torch.device) -> torch.Generator:
        if self._generator is None:
            self._generator = torch.Generator(device).manual_seed(self.random_state)
            if self._state is not None:
                self._generator.set_state(self._state)
        return self._generator

    def _fitting(self, rows: Tensor, targets: Tensor | None) -> Tensor:
        if targets is None:
            raise InputError("targets is missing. Allowed with labels='true': the targets of this batch.")
        as_classes = self.output == "softmax" and not targets.is_floating_point()
        if targets.numel() != (len(rows) if as_classes else rows.numel()):
            raise InputError(
                f"targets has shape {tuple(targets.shape)}, which does not fit {len(rows)} examples with "
                f"{rows.shape[1]} outputs each. Allowed: one target for each example."
            )
        if not as_classes:
            return targets.reshape(rows.shape).to(rows.dtype)
        low, high = torch.stack(targets.aminmax()).tolist()
        if low < 0 or high >= rows.shape[1]:
            raise InputError(
                f"targets has classes from {low} to {high}. Allowed: 0 to {rows.shape[1] - 1}; leave out the rows that "
                "do not count (padding), as in logits[targets >= 0]."
            )
        return targets.flatten()


def mean_entropy(rows: Tensor, output: Output) -> float:
    """Measure how uncertain the network is: the mean entropy of its predictions.

    While a network does not learn by heart it is about the loss on the same examples, and needs no labels.

    Parameters
    ----------
    rows
        Shape (n, k).
    output
        What they mean.

    Returns
    -------
    float
        In nats, summed over k for "sigmoid"; nan for "gaussian", whose entropy is constant.
    """
    if output == "gaussian":
        return math.nan
    rows = rows.detach()
    own = rows.sigmoid() if output == "sigmoid" else rows.softmax(dim=1)
    return total_loss(rows, own, output).item() / len(rows)


def score_factors(rows: Tensor, output: Output) -> Tensor:
    """Factor the Fisher matrix of the outputs of each example.

    Parameters
    ----------
    rows
        Shape (n, k).
    output
        What they mean.

    Returns
    -------
    Tensor
        Shape (n, k, k): vectors v over the second axis with sum_c v_c v_c^T = the covariance of the score, which
        is diag(p) - p p^T, diag(p (1 - p)) or the identity.
    """
    k = rows.shape[1]
    unit = torch.eye(k, dtype=rows.dtype, device=rows.device).expand(len(rows), k, k)
    if output == "gaussian":
        return unit
    if output == "sigmoid":
        p = rows.detach().sigmoid()
        return unit * (p * (1 - p)).sqrt().unsqueeze(2)  # (n, k, k)
    p = rows.detach().softmax(dim=1)
    return p.sqrt().unsqueeze(2) * (unit - p.unsqueeze(1))  # (n, k, k)
