"""The optimiser of a recipe, its rate over a run, and its loss.

As in the paper: decay on weight matrices alone, a linear warmup, then a cosine to zero.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.models import group_parameters
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from windvane.vision.recipe import Recipe


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
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
    # Fused optimizers skip a step that NonFiniteCheck forbids, without waiting for the device.
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, fused=True)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.999), fused=True)


def classification_loss(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
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
    if recipe.label_smoothing:
        targets = targets * (1.0 - recipe.label_smoothing) + recipe.label_smoothing / targets.shape[1]
    if recipe.loss == "binary_cross_entropy":
        return F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum") / len(logits)
    return F.cross_entropy(logits.float(), targets)


def freeze_layers(network: nn.Module, share: float) -> None:
    """Keep the first layers of a network from being trained.

    Parameters
    ----------
    network
        Of timm, which says what its layers are: the stem, each block, the head.
    share
        Of the layers below the head, counted from the image on; at least 0 and below 1.
    """
    if not share:
        return
    network_: Any = network
    numbers: dict[str, int] = group_parameters(network, network_.group_matcher(coarse=False), reverse=True)
    first_trained = share * max(numbers.values())  # the largest number is that of the head
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(numbers[name] >= first_trained)


def set_train_mode(network: nn.Module, *, from_weights: bool = False) -> None:
    """Set a network to training; batch norms that stay as they are keep their means too.

    Parameters
    ----------
    network
        Whose parameters know whether they are trained.
    from_weights
        Whether it starts from weights that were learned on other images. Then all batch norms keep means and variances:
        those of the few images of a batch would change every feature at once, and the head with it.
    """
    network.train()
    for module in network.modules():
        if isinstance(module, _BatchNorm) and (from_weights or not any(p.requires_grad for p in module.parameters())):
            module.eval()
