"""Grad-CAM: which places of an image raise the score of a class (Selvaraju et al. 2017, arXiv 1610.02391).

For the score y^c of a class c before the softmax and the maps A^k of a layer with Z places, equation 1 weights each map
by the mean of its derivatives, and equation 2 keeps what raises the score:

    alpha_k^c = 1/Z sum_ij dy^c / dA^k_ij        L^c = ReLU(sum_k alpha_k^c A^k)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from windvane.errors import InputError, check_usable
from windvane.inspect.batches import image_batch, image_size
from windvane.inspect.hooks import OUTPUT, LayerOutput, explain_failure, observe
from windvane.inspect.layer_selection import spatial_layers
from windvane.inspect.saliency import SaliencyMaps
from windvane.inspect.tokens import as_tokens, channels_last, fits, prefix_counts


@torch.inference_mode(False)
@torch.enable_grad()
def grad_cam(
    model: nn.Module, images: Tensor, classes: Any = None, layer: str | None = None, *, min_places: int = 2
) -> SaliencyMaps:
    """Show which places of images raise the score of a class (Grad-CAM).

    Parameters
    ----------
    model
        A network that returns scores before the softmax, (n, k). It runs in evaluation mode.
    images
        (n, channels, height, width), as the network takes them.
    classes
        Class numbers: one for each image, or one for all; None for the class of the largest score.
    layer
        A layer with places, as in `layer_names`; None for the last layer of the network that returns maps
        (n, channels, rows, columns) or (n, rows, columns, channels), with no transformer block over tokens behind it.
    min_places
        Rows times columns that these maps have at least. Where the last maps are of 2 x 2 places, an earlier layer may
        show more.

    Returns
    -------
    SaliencyMaps
        In units of the score.

    Raises
    ------
    InputError
        If the network has no such layer, as a vision transformer has none: see `attention_rollout`.

    References
    ----------
    Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
    equations 1 and 2.

    Examples
    --------
    ::

        grad_cam(resnet, images, classes=3).plot()
    """
    images = image_batch(model, images)
    counts, size = prefix_counts(model), image_size(images)
    if layer is not None:
        names = list(spatial_layers(model, images, layer, counts, min_patches=2))
        if len(names) > 1:
            raise InputError(f"layer matches {len(names)} layers, {names[0]!r} and others. Allowed: one layer.")
        layer = names[0]
    found: dict[str, tuple[str, Tensor, GradientEdge]] = {}
    scores: list[Tensor] = []

    has_aspect = False  # of the images, in the maps found; heads by tokens have another one

    def on_output(output: LayerOutput, tensor: Tensor) -> None:
        nonlocal has_aspect
        if output.module == "" and not output.is_sum and output.name.partition("[")[0] == OUTPUT:
            scores.append(tensor)
        wanted = output.name == layer
        if layer is None and tensor.ndim == 3 and output.is_sum:
            found.clear()  # transformer blocks mix the places of earlier maps, such as those of their patches
        elif layer is None and tensor.ndim == 4 and len(tensor) == len(images):
            places = tensor.shape[1:3] if channels_last(tensor.shape, size) else tensor.shape[2:]
            wanted = places.numel() >= min_places and (fits(places, size) or not (found and has_aspect))
            has_aspect = fits(places, size) if wanted else has_aspect
        if wanted and tensor.requires_grad:
            # Later layers may write into the tensor: its values and its place in the graph are read now.
            found["layer"] = output.name, tensor.detach().clone(), get_gradient_edge(tensor)

    pixels = images.detach().clone().requires_grad_(True)  # also where no parameter has gradients
    observe(model, pixels, on_output, gradients=True)
    if not found:
        raise InputError(
            f"model: {type(model).__name__} does not end in maps of at least {min_places} places. Allowed: "
            "convolutional networks, a layer= with places, or attention_rollout."
        )
    layer_name, activations, edge = found["layer"]
    target = _targets(scores[0] if scores else pixels, classes)  # (n,)
    with explain_failure(model, images):
        total = scores[0].gather(1, target[:, None]).sum()  # images do not mix, so each has its own derivatives
        (gradient,) = torch.autograd.grad(total, edge, allow_unused=True)
    if gradient is None:
        raise InputError(f"layer={layer_name!r} has no influence on the scores. Allowed: a layer before the head.")
    values, grid = as_tokens(activations, size, counts)  # (n, tokens, channels)
    values, gradient = (one[:, grid.n_prefix :] for one in (values, as_tokens(gradient, size, counts)[0]))
    weights = gradient.mean(dim=1, keepdim=True)  # equation 1: (n, 1, channels)
    maps = torch.relu((weights * values).sum(dim=2))  # equation 2: (n, places)
    return SaliencyMaps(
        maps.double().unflatten(1, (grid.rows, grid.columns)).cpu().numpy(), grid, "Grad-CAM", layer_name
    )


def _targets(scores: Tensor, classes: Any) -> Tensor:
    """Class numbers (n,) of scores (n, k)."""
    if scores.ndim != 2:
        raise InputError(f"model returns {tuple(scores.shape)}. Allowed: scores (n, classes).")
    n, k = scores.shape
    if classes is None:
        return scores.argmax(dim=1)
    target = torch.as_tensor(classes, device=scores.device)
    is_number = target.shape in ((), (n,)) and not target.is_floating_point()
    is_class = is_number and bool(((target >= 0) & (target < k)).all())
    check_usable("classes", classes, is_class, f"numbers from 0 to {k - 1}, one or {n}")
    return target.to(torch.int64).expand(n)
