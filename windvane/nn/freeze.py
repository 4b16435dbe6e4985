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


def set_training(network: nn.Module, *, from_weights: bool = False) -> None:
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
