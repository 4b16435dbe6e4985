"""The optimizer and the loss of a recipe, and which layers are trained.

As in "How to train your ViT?" (arXiv 2106.10270), weight decay applies to weight matrices only.
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
    """Return the fused optimizer of a recipe, with two parameter groups: weight matrices first."""
    matrices = {
        id(parameter)
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name == "weight" and parameter.ndim > 1
    }
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trainable if id(one) in matrices], "weight_decay": recipe.weight_decay},
        {"params": [one for one in trainable if id(one) not in matrices], "weight_decay": 0.0},
    ]
    # Fused optimizers skip a step that NonFiniteCheck forbids, without waiting for the device.
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=0.9, fused=True)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.999), fused=True)


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[int, Any]) -> None:
    """Load the state of each parameter; the settings stay those of the recipe."""
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    # Fused steps run over parameter and state as they lie in memory: both need the same layout.
    for parameter, entries in optimizer.state.items():
        for name, value in entries.items():
            if isinstance(value, Tensor):
                same_shape = value.shape == parameter.shape
                entries[name] = torch.empty_like(parameter).copy_(value) if same_shape else value.clone()


def classification_loss(logits: Tensor, targets: Tensor, recipe: Recipe) -> Tensor:
    """Return the mean loss over images of logits (n, k) against class probabilities (n, k), which may be mixed."""
    # Binary cross-entropy is summed over the classes, as in the code of the paper.
    if recipe.label_smoothing:
        targets = targets * (1.0 - recipe.label_smoothing) + recipe.label_smoothing / targets.shape[1]
    if recipe.loss == "binary_cross_entropy":
        return F.binary_cross_entropy_with_logits(logits.float(), targets, reduction="sum") / len(logits)
    return F.cross_entropy(logits.float(), targets)


def freeze_layers(network: nn.Module, fraction: float) -> None:
    """Exclude the first layers of a timm network from training: they transfer best and cost most."""
    # `fraction` is that of the layers (stem and blocks) below the classifier layer, at least 0 and below 1.
    if not fraction:
        return
    network_: Any = network
    numbers: dict[str, int] = group_parameters(network, network_.group_matcher(coarse=False), reverse=True)
    first_trainable = fraction * max(numbers.values())  # the largest number is that of the classifier layer
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(numbers[name] >= first_trainable)


def set_train_mode(network: nn.Module, *, from_weights: bool = False) -> None:
    """Set a network to training mode, except for frozen batch norms, which keep their running statistics."""
    # With pre-trained weights all batch norms keep them: the statistics of the few images of a batch would change every
    # feature at once, and what the classifier layer sees with them.
    network.train()
    for module in network.modules():
        if isinstance(module, _BatchNorm) and (from_weights or not any(p.requires_grad for p in module.parameters())):
            module.eval()
