"""Batch normalization folded into the convolutions before it: the same features in less time."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_TOLERANCE = 1e-3  # of the features, as a share of the largest one
_CHECKED_SIZE = 64  # pixels of the noise on which both networks are compared


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Return a copy for prediction of a network of timm; the network itself where folding would change its features.

    A batch normalization that is the next child of a module after a convolution of as many channels is assumed to
    follow it in the computation. So both networks are compared on noise.
    """
    folded = copy.deepcopy(network).eval()
    n_folded = sum(_fold_children(module) for module in folded.modules())
    return folded if n_folded and _have_same_features(network, folded) else network


def _fold_children(module: nn.Module) -> int:
    children = list(module.named_children())
    n_folded = 0
    for (conv_name, conv), (norm_name, norm) in pairwise(children):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and conv.out_channels == norm.num_features:
            setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
            # timm's BatchNormAct2d has its own activation.
            setattr(module, norm_name, getattr(norm, "act", None) or nn.Identity())
            n_folded += 1
    return n_folded


def _have_same_features(network: nn.Module, folded: nn.Module) -> bool:
    """Whether both compute the same features of noise; False where a network does not take images of its size."""
    weight = next(network.parameters())
    noise = torch.rand((2, 3, _CHECKED_SIZE, _CHECKED_SIZE), generator=torch.Generator().manual_seed(0)) - 0.5
    try:
        with torch.inference_mode():
            first, second = (one.forward_features(noise.to(weight)) for one in (network.eval(), folded))  # type: ignore[operator]
            return bool((first - second).abs().max() <= _TOLERANCE * first.abs().max())
    except (AssertionError, RuntimeError):
        return False
