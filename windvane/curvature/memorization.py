"""How far a network has memorized wrong labels, where it is known which labels are wrong.

A network that generalizes fits the clean examples first; in one that memorizes, the noisy examples dominate the
gradient (Jastrzebski et al., arXiv 2012.14193, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from windvane.curvature.autograd import grad, preserve_state, squared_norms, trainable_parameters
from windvane.curvature.likelihood import as_classes, check_targets, compute_rows
from windvane.errors import InputError, check_integer


@dataclass(frozen=True)
class Fit:
    """How well a network fits the given labels of a group of examples."""

    n: int  # examples; if 0, all other fields are nan
    accuracy: float  # share of examples whose given label is the most likely class
    loss: float  # mean cross-entropy to the given labels, in nats
    # Norm of the mean gradient of that loss by the trained parameters, over as many examples as the smaller group has,
    # since the mean over fewer examples has a larger norm.
    gradient_norm: float


@dataclass(frozen=True)
class Memorization:
    """The fit of examples with right and with wrong labels."""

    step: int
    clean: Fit
    noisy: Fit


def memorization(
    model: nn.Module,
    logits: Tensor | None,
    targets: Tensor,
    noisy: Tensor | Sequence[bool],
    step: int = 0,
    forward: Callable[[], Tensor] | None = None,
) -> Memorization:
    """Compare the examples with wrong labels to the others.

    Call it between the forward pass and ``backward()``, like `FisherTracker.update`. It costs two backward passes and
    leaves the network unchanged.

    Parameters
    ----------
    model
        The network.
    logits
        Its output for a batch, with its graph: shape (n, k). Ignored if `forward` is given.
    targets
        The given labels, shape (n,).
    noisy
        Which of them are wrong, shape (n,).
    step
        Stored in the result.
    forward
        Recomputes the logits, as for `FisherTracker.update`.

    Returns
    -------
    Memorization
        The fit of both groups.

    Examples
    --------
    >>> import torch
    >>> from windvane.curvature import memorization
    >>> model = torch.nn.Linear(4, 3)
    >>> images, labels = torch.randn(8, 4), torch.arange(8) % 3
    >>> result = memorization(model, model(images), labels, noisy=[True] * 2 + [False] * 6)
    >>> result.clean.n, result.noisy.n
    (6, 2)
    """
    step = check_integer("step", step, 0)
    is_noisy = torch.as_tensor(noisy).flatten().cpu()
    if is_noisy.dtype != torch.bool:
        raise InputError(f"noisy holds {is_noisy.dtype}. Allowed: True or False for each example.")
    groups = [torch.nonzero(~is_noisy).flatten(), torch.nonzero(is_noisy).flatten()]
    smaller = min((len(group) for group in groups if len(group)), default=0)
    fits = []
    for group in groups:
        with preserve_state(model):  # entered for each group: the same dropout masks
            rows = compute_rows(logits, forward, "softmax")
            labels = check_targets(targets).to(rows.device).flatten()
            if not len(rows) == len(labels) == len(is_noisy):
                raise InputError(
                    f"logits, targets and noisy have {len(rows)}, {len(labels)} and {len(is_noisy)} examples. Allowed: "
                    "equal numbers."
                )
            labels = as_classes(labels, rows.shape[1])
            fits.append(_fit(model, rows, labels, group.to(rows.device), smaller, keep_graph=forward is None))
    return Memorization(step, *fits)


def _fit(model: nn.Module, rows: Tensor, labels: Tensor, group: Tensor, n_gradient: int, *, keep_graph: bool) -> Fit:
    if len(group) == 0:
        return Fit(0, math.nan, math.nan, math.nan)
    losses = functional.cross_entropy(rows[group], labels[group], reduction="none")  # (group,)
    gradient = grad(losses[:n_gradient].mean(), list(trainable_parameters(model).values()), keep_graph=keep_graph)
    accuracy = (rows[group].argmax(dim=1) == labels[group]).double().mean().item()
    return Fit(len(group), accuracy, losses.mean().item(), math.sqrt(sum(squared_norms(gradient))))
