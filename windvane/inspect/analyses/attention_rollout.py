"""Attention rollout: how much of each patch reaches the end of a vision transformer (Abnar and Zuidema 2020).

Attention of one layer says which tokens it mixes, not which patches these tokens stand for. Rollout multiplies the
layers (arXiv 2005.00928, section 3 and equation 1), with the mean of the heads W and half of each token passed on by
the skip connection:

    A_l = 0.5 W_l + 0.5 I        R_l = A_l R_(l-1)        R_0 = I
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.analyses.attention import observe_heads
from windvane.inspect.batches import image_batch, image_size
from windvane.inspect.saliency import SaliencyMaps
from windvane.inspect.tokens import has_class_token, prefix_counts, token_grid
from windvane.torch_utils import unwrap_model


def attention_rollout(model: nn.Module, images: Tensor, layers: str | Sequence[str] = "*") -> SaliencyMaps:
    """Show how much of each patch reaches the output by attention (attention rollout).

    Parameters
    ----------
    model
        A network with self-attention over the tokens of an image. It runs in evaluation mode.
    images
        (n, channels, height, width), as the network takes them.
    layers
        Globs over the names of modules that compute attention; all are multiplied in the order of execution.

    Returns
    -------
    SaliencyMaps
        Shares of the patches in the class token at the end, or in the mean of the patches where a network has no class
        token. They say nothing about single classes.

    Raises
    ------
    InputError
        If the network has no such attention, its layers have different numbers of tokens, or `layers` is ``"*"`` and
        some attend within windows.

    References
    ----------
    Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, equation 1.

    Examples
    --------
    ::

        attention_rollout(vit, images).plot()
    """
    images = image_batch(model, images)
    rollout: Tensor | None = None  # (n, tokens, tokens)
    last = ""

    def on_weights(name: str, weights: Tensor) -> None:
        nonlocal rollout, last
        mixed = weights.mean(dim=1).double()  # heads: (n, tokens, tokens)
        if rollout is not None and rollout.shape != mixed.shape:
            raise InputError(
                f"layers: {name} has {mixed.shape[-1]} tokens, earlier ones have {rollout.shape[-1]}. Allowed: layers "
                f"with the same tokens, as in layers={last!r}."
            )
        passed = 0.5 * mixed + 0.5 * torch.eye(mixed.shape[-1], dtype=mixed.dtype, device=mixed.device)
        rollout, last = passed if rollout is None else passed @ rollout, name

    windowed = observe_heads(model, images, layers, on_weights=on_weights)
    if windowed and layers == "*":  # what remains would say nothing of the patches
        raise InputError(
            f"model: {type(unwrap_model(model)).__name__} attends within windows in {len(windowed)} layers, the first "
            f"of which is {windowed[0]!r}. Allowed: networks whose layers attend to all patches, or layers=, as in "
            f"layers={last!r}."
        )
    assert rollout is not None  # a network without attention raises
    grid = token_grid(rollout.shape[-1], image_size(images), prefix_counts(model))
    reads_class_token = grid.n_prefix > 0 and has_class_token(model)
    ends = rollout[:, 0] if reads_class_token else rollout[:, grid.n_prefix :].mean(dim=1)  # (n, tokens)
    maps = ends[:, grid.n_prefix :].unflatten(1, (grid.rows, grid.columns))
    return SaliencyMaps(maps.cpu().numpy(), grid, "attention rollout", last)
