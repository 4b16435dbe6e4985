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

from windvane.errors import InputError
from windvane.vision.recipe import Recipe, check_model_name

Head = nn.Linear | nn.Conv2d

_IMAGENET_SIZE = 224
# Where a vision transformer of the paper drops: after the position embedding, after each dense layer of a branch.
_INNER_DROPS = ("pos_drop_rate", "proj_drop_rate")


def create_model(recipe: Recipe, n_classes: int, overlay: Mapping[str, Any] | None = None) -> nn.Module:
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
    arguments = {**recipe.model_kwargs, "num_classes": n_classes, **_drops(recipe)}
    cfg = get_pretrained_cfg(recipe.model)
    if cfg is not None and cfg.fixed_input_size:
        arguments["img_size"] = recipe.image_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = _create(recipe, arguments, overlay)
    if recipe.loss == "binary_cross_entropy":
        # Each class is rare: the loss begins where a guess by frequency would be (the paper's -6.9 and -10).
        for head in classifier_layers(network):
            if head.bias is not None:
                nn.init.constant_(head.bias, -math.log(n_classes))
    return network


def default_image_size(model: str) -> int:
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
    check_model_name(model)
    cfg = get_pretrained_cfg(model)
    return _IMAGENET_SIZE if cfg is None else int(cfg.input_size[-1])


def classifier_layers(network: nn.Module) -> Iterator[Head]:
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


def classifier_layer(network: nn.Module) -> Head:
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
    found = list(classifier_layers(network))
    if len(found) != 1:
        raise InputError(f"model={type(network).__name__} has {len(found)} heads. Allowed: networks with one head.")
    return found[0]


def _create(recipe: Recipe, arguments: Mapping[str, Any], overlay: Mapping[str, Any] | None) -> nn.Module:
    """Call timm, and say in our words what it complains of."""
    given = None if overlay is None else dict(overlay)
    try:
        network: nn.Module = timm.create_model(
            recipe.model, pretrained=overlay is not None, pretrained_cfg_overlay=given, **arguments
        )
    except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"model={recipe.model!r} cannot be made with model_kwargs={dict(recipe.model_kwargs)!r} and "
            f"image_size={recipe.image_size}: {error}"
        ) from error
    return network


def _drops(recipe: Recipe) -> dict[str, float]:
    """Choose the arguments that make a network drop as the recipe says; those that it takes."""
    if not recipe.dropout and not recipe.drop_path:
        return {}
    with torch.device("meta"):
        network = _create(recipe, recipe.model_kwargs, None)
    takes = inspect.signature(type(network).__init__).parameters
    inner = [name for name in _INNER_DROPS if name in takes] or ["drop_rate"]  # convolutional networks: the head
    rates = {**dict.fromkeys(inner, recipe.dropout), "drop_path_rate": recipe.drop_path}
    return {name: rate for name, rate in rates.items() if rate and name in takes}
