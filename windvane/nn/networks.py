"""Networks from recipes, with the dropout and stochastic depth that a recipe asks for, and what they cost."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from windvane.errors import InputError
from windvane.nn.recipe import Recipe, check_model

Head = nn.Linear | nn.Conv2d

_IMAGENET_SIZE = 224
# Where a vision transformer of the paper drops: after the position embedding, after each dense layer of a branch.
_INNER_DROPS = ("pos_drop_rate", "proj_drop_rate")


def create_network(recipe: Recipe, n_classes: int, overlay: Mapping[str, Any] | None = None) -> nn.Module:
    """Make the network of a recipe.

    Parameters
    ----------
    recipe
        Its model, options, image size, regularisation, loss and seed count; its weights do not.
    n_classes
        Outputs of the head.
    overlay
        What replaces timm's configuration of pre-trained weights; where it is None, the weights are random.

    Returns
    -------
    Module
        Images of shape (n, 3, s, s) -> logits of shape (n, n_classes). The same seed gives the same weights.

    Raises
    ------
    InputError
        Where the options do not fit the model, or the model cannot take such images.
    """
    arguments = {**recipe.options, "num_classes": n_classes, **_drops(recipe)}
    cfg = get_pretrained_cfg(recipe.model)
    if cfg is not None and cfg.fixed_input_size:
        arguments["img_size"] = recipe.image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = _create(recipe, arguments, overlay)
    if recipe.loss == "sigmoid":
        # Each class is rare: the loss begins where a guess by frequency would be (the paper's -6.9 and -10).
        for head in heads(network):
            if head.bias is not None:
                nn.init.constant_(head.bias, -math.log(n_classes))
    return network


def usual_size(model: str) -> int:
    """Give the size of images that a network was made for.

    Parameters
    ----------
    model
        A name that timm knows.

    Returns
    -------
    int
        Pixels a side.

    Raises
    ------
    InputError
        Where timm does not know the name.
    """
    check_model(model)
    cfg = get_pretrained_cfg(model)
    return _IMAGENET_SIZE if cfg is None else int(cfg.input_size[-1])


def heads(network: nn.Module) -> Iterator[Head]:
    """Find the layers that give the logits.

    Parameters
    ----------
    network
        Of timm.

    Yields
    ------
    Linear or Conv2d
        One for most networks; a convolution is one of single pixels.
    """
    classifier: Any = network.get_classifier()  # type: ignore[operator]  # a method of every network of timm
    for one in classifier if isinstance(classifier, tuple | list) else (classifier,):
        yield from (module for module in one.modules() if isinstance(module, nn.Linear | nn.Conv2d))


def only_head(network: nn.Module) -> Head:
    """Find the one layer that gives the logits.

    Parameters
    ----------
    network
        Of timm.

    Returns
    -------
    Linear or Conv2d
        Its weight, flattened from the second axis on, has the shape (n_classes, n_features).

    Raises
    ------
    InputError
        Where the network has two, as distilled ones, or none.
    """
    found = list(heads(network))
    if len(found) != 1:
        raise InputError(f"model={type(network).__name__} has {len(found)} heads. Allowed: networks with one head.")
    return found[0]


def count_parameters(network: nn.Module) -> int:
    """Count the numbers that training changes."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


def has_grouped(network: nn.Module) -> bool:
    """Tell whether a network has convolutions in groups, such as depthwise ones, which gain nothing in bfloat16."""
    return any(isinstance(module, nn.Conv2d) and module.groups > 1 for module in network.modules())


def count_macs(network: nn.Module, image_size: int) -> int:
    """Count the multiplications of one image's way through a network.

    Those between queries, keys and values of attention count too; published figures often leave them out (CCT-7/3x1:
    0.95e9 without, 1.18e9 with them).

    Parameters
    ----------
    network
        On any device.
    image_size
        Pixels a side.

    Returns
    -------
    int
        MACs: half the floating-point operations. A training step takes about 3 x 2 x MACs x images operations.
    """
    place = next(network.parameters())
    image = torch.zeros(1, 3, image_size, image_size, device=place.device, dtype=place.dtype)  # (1, 3, s, s)
    training = network.training
    network.eval()
    # The counter does not know every kernel of fused attention; products one by one it does.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(image)
    network.train(training)
    return int(counter.get_total_flops()) // 2


def _create(recipe: Recipe, arguments: Mapping[str, Any], overlay: Mapping[str, Any] | None) -> nn.Module:
    """Call timm, and say in our words what it complains of."""
    given = None if overlay is None else dict(overlay)
    try:
        network: nn.Module = timm.create_model(
            recipe.model, pretrained=overlay is not None, pretrained_cfg_overlay=given, **arguments
        )
    except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"model={recipe.model!r} cannot be made with options={dict(recipe.options)!r} and "
            f"image_size={recipe.image_size}: {error}"
        ) from error
    return network


def _drops(recipe: Recipe) -> dict[str, float]:
    """Choose the arguments that make a network drop as the recipe says; those that it takes."""
    if not recipe.regularisation:
        return {}
    with torch.device("meta"):
        network = _create(recipe, recipe.options, None)
    takes = inspect.signature(type(network).__init__).parameters
    inner = [name for name in _INNER_DROPS if name in takes] or ["drop_rate"]  # convolutional networks: the head
    return {name: recipe.regularisation for name in (*inner, "drop_path_rate") if name in takes}
