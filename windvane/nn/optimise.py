"""The optimiser of a recipe, its rate over a run, and its loss.

As in the paper: decay on weight matrices alone, a linear warmup, then a cosine to zero.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from windvane.nn.recipe import Recipe


def make_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Make the optimiser.

    Parameters
    ----------
    network
        On its device.
    recipe
        Its optimiser and weight decay count.

    Returns
    -------
    Optimizer
        Fused; two groups of parameters, matrices of weights first.
    """
    matrices = {
        id(parameter)
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name == "weight" and parameter.ndim > 1
    }
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trained if id(one) in matrices], "weight_decay": recipe.weight_decay},
        {"params": [one for one in trained if id(one) not in matrices], "weight_decay": 0.0},
    ]
    # Fused ones leave out a step that a guard forbids (see windvane.nn.guard) without waiting for the device.
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.rate, momentum=0.9, fused=True)
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.999), fused=True)


def rate_at(progress: float, recipe: Recipe) -> float:
    """Give the learning rate at a point of the run.

    Parameters
    ----------
    progress
        Share of the run that is done, 0 to 1.
    recipe
        Its rate and warmup count.

    Returns
    -------
    float
        Zero at both ends.
    """
    if progress < recipe.warmup:
        return recipe.rate * progress / recipe.warmup
    return recipe.rate * 0.5 * (1.0 + math.cos(math.pi * (progress - recipe.warmup) / (1.0 - recipe.warmup)))


def loss_of(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Judge logits of shape (n, k) against shares of classes of the same shape, which may be mixed.

    Parameters
    ----------
    logits, targets
        Shape (n, k).
    recipe
        Its loss and smoothing count.

    Returns
    -------
    Tensor
        A mean over the images. For "sigmoid" a sum over classes, as in the paper's code.
    """
    if recipe.smoothing:
        targets = targets * (1.0 - recipe.smoothing) + recipe.smoothing / targets.shape[1]
    if recipe.loss == "sigmoid":
        return F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum") / len(logits)
    return F.cross_entropy(logits.float(), targets)
