"""Layers that stay as they are: those nearest to the image, which transfer best and cost most."""

from __future__ import annotations

from typing import Any

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze(network: nn.Module, share: float) -> None:
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


def set_training(network: nn.Module) -> None:
    """Set a network to training; batch norms that stay as they are keep their means too.

    Parameters
    ----------
    network
        Whose parameters know whether they are trained.
    """
    network.train()
    for module in network.modules():
        if isinstance(module, _BatchNorm) and not any(one.requires_grad for one in module.parameters()):
            module.eval()
