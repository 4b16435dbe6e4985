"""How far a network has learned wrong labels by heart, where it is known which labels are wrong.

A network that generalises fits the clean examples first; one that memorises lets the noisy ones take over its
gradient (Jastrzebski et al., arXiv 2012.14193, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from windvane.curvature.outputs import as_rows
from windvane.curvature.passes import gradient, squared_norms, trained, undisturbed
from windvane.errors import InputError


@dataclass(frozen=True)
class Fit:
    """How a group of examples is fitted.

    Attributes
    ----------
    n
        Examples; the rest is nan where there are none.
    accuracy
        Share whose given label is the most likely class.
    loss
        Mean cross-entropy to the given labels, in nats.
    gradient_norm
        Length of the gradient of that loss by the trained parameters, over the first so many examples of the group
        as the smaller group has: a mean over fewer examples has a longer gradient.
    """

    n: int
    accuracy: float
    loss: float
    gradient_norm: float


@dataclass(frozen=True)
class Memorisation:
    """The fit of examples with right and with wrong labels.

    Attributes
    ----------
    step
        When.
    clean, noisy
        Both groups.
    """

    step: int
    clean: Fit
    noisy: Fit


def memorisation(
    model: nn.Module,
    logits: Tensor | None,
    targets: Tensor,
    noisy: Tensor | Sequence[bool],
    step: int = 0,
    forward: Callable[[], Tensor] | None = None,
) -> Memorisation:
    """Compare the examples with wrong labels to the others.

    It stands between the forward pass and ``backward()``, as `FisherTracker.update` does, and costs two backward
    passes. Nothing of the network is changed.

    Parameters
    ----------
    model
        The network.
    logits
        Its output for a batch, with its graph: shape (n, k). Not looked at where `forward` is given.
    targets
        The given labels, shape (n,).
    noisy
        Which of them are wrong, shape (n,).
    step
        Kept in the result.
    forward
        Computes the logits anew, as for `FisherTracker.update`.

    Returns
    -------
    Memorisation
        Both groups.

    Raises
    ------
    InputError
        Where shapes do not agree, noisy is no mask, or the graph is gone.
    """
    wrong = torch.as_tensor(noisy).flatten().cpu()
    if wrong.dtype != torch.bool:
        raise InputError(f"noisy holds {wrong.dtype}. Allowed: True or False for each example.")
    both = [torch.nonzero(~wrong).flatten(), torch.nonzero(wrong).flatten()]
    fewest = min((len(chosen) for chosen in both if len(chosen)), default=0)
    fits = []
    for chosen in both:
        with undisturbed(model):  # entered for each group: the same dropout masks
            rows = as_rows(logits if forward is None else forward(), "softmax")
            labels = targets.to(rows.device).flatten()
            if not len(rows) == len(labels) == len(wrong):
                raise InputError(
                    f"logits, targets and noisy are of {len(rows)}, {len(labels)} and {len(wrong)} examples. Allowed: "
                    "the same."
                )
            fits.append(_fit(model, rows, labels, chosen.to(rows.device), fewest, keep_graph=forward is None))
    return Memorisation(step, *fits)


def _fit(model: nn.Module, rows: Tensor, labels: Tensor, chosen: Tensor, fewest: int, *, keep_graph: bool) -> Fit:
    if len(chosen) == 0:
        return Fit(0, math.nan, math.nan, math.nan)
    losses = functional.cross_entropy(rows[chosen], labels[chosen], reduction="none")  # (group,)
    found = gradient(losses[:fewest].mean(), list(trained(model).values()), keep_graph=keep_graph)
    accuracy = (rows[chosen].argmax(dim=1) == labels[chosen]).double().mean().item()
    return Fit(len(chosen), accuracy, losses.mean().item(), math.sqrt(sum(squared_norms(found))))
