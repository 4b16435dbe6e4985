"""Networks of recipes, with the dropout and stochastic depth that a recipe sets."""

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
from windvane.vision.networks.block_features import Projection, add_block_classifier, watch_blocks
from windvane.vision.networks.random_weights import DrawFrom
from windvane.vision.recipe import Recipe, check_model_name

ClassifierLayer = nn.Linear | nn.Conv2d

_IMAGENET_SIZE = 224
# Where the vision transformer of the paper has dropout: after the position embedding, after the dense layers.
_INNER_DROPOUT = ("pos_drop_rate", "proj_drop_rate")


def create_model(recipe: Recipe, n_classes: int, overlay: Mapping[str, Any] | None = None) -> nn.Module:
    """Create the network of a recipe.

    Parameters
    ----------
    recipe
        Its model, model_kwargs, image size, block_components, dropout, loss and seed are used; its weights are not.
    n_classes
        Number of outputs.
    overlay
        Overrides of timm's pre-trained configuration; None for random weights.

    Returns
    -------
    Module
        Maps images of shape (n, 3, s, s) to logits of shape (n, n_classes). Equal seeds give equal weights.

    Examples
    --------
    >>> network = create_model(Recipe("vit_lite_7_4", image_size=32, epochs=1), 10)
    >>> count_parameters(network)
    3722250
    """
    arguments = {**recipe.model_kwargs, "num_classes": n_classes, **_dropout_arguments(recipe)}
    cfg = get_pretrained_cfg(recipe.model)
    if cfg is not None and cfg.fixed_input_size:
        arguments["img_size"] = recipe.image_size
    with DrawFrom(recipe.seed):
        network = _create(recipe, arguments, overlay)
        if recipe.block_components is not None:
            watch_blocks(network)
            empty = Projection.empty(network, recipe.image_size, recipe.block_components)
            add_block_classifier(network, empty, n_classes)
    if recipe.loss == "binary_cross_entropy":
        # Each class is rare: the loss starts where a guess by frequency would be (the paper's -6.9 and -10).
        for layer in classifier_layers(network):
            if layer.bias is not None:
                nn.init.constant_(layer.bias, -math.log(n_classes))
    return network


def default_image_size(model: str) -> int:
    """Return the image size that a network was made for.

    Parameters
    ----------
    model
        Any name that timm knows.

    Returns
    -------
    int
        Width and height in pixels.

    Examples
    --------
    >>> default_image_size("vit_lite_7_4")
    32
    """
    check_model_name(model)
    cfg = get_pretrained_cfg(model)
    return _IMAGENET_SIZE if cfg is None else int(cfg.input_size[-1])


def classifier_layers(network: nn.Module) -> Iterator[ClassifierLayer]:
    """Yield the layers of a timm network that compute the logits: one for most, two for distilled ones."""
    classifier: Any = network.get_classifier()  # type: ignore[operator]  # a method of every network of timm
    for one in classifier if isinstance(classifier, tuple | list) else (classifier,):
        yield from (module for module in one.modules() if isinstance(module, nn.Linear | nn.Conv2d))


def classifier_layer(network: nn.Module) -> ClassifierLayer:
    """Return the only layer that computes the logits; its weight flattens to (n_classes, n_features)."""
    found = list(classifier_layers(network))
    if len(found) != 1:
        raise InputError(f"model={type(network).__name__} has {len(found)} heads. Allowed: networks with one head.")
    return found[0]


def _create(recipe: Recipe, arguments: Mapping[str, Any], overlay: Mapping[str, Any] | None) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(
            recipe.model,
            pretrained=overlay is not None,
            pretrained_cfg_overlay=None if overlay is None else dict(overlay),
            **arguments,
        )
    except (TypeError, ValueError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"model={recipe.model!r} cannot be made with model_kwargs={dict(recipe.model_kwargs)!r} and "
            f"image_size={recipe.image_size}: {error}"
        ) from error
    return network


def _dropout_arguments(recipe: Recipe) -> dict[str, float]:
    """Return the arguments that set dropout and stochastic depth, under the names that this architecture takes."""
    if not recipe.dropout and not recipe.drop_path:
        return {}
    with torch.device("meta"):
        network = _create(recipe, recipe.model_kwargs, None)
    accepted = _constructor_parameters(type(network))
    inner = [name for name in _INNER_DROPOUT if name in accepted] or ["drop_rate"]  # convolutional: before the head
    rates = {**dict.fromkeys(inner, recipe.dropout), "drop_path_rate": recipe.drop_path}
    return {name: rate for name, rate in rates.items() if rate and name in accepted}


def _constructor_parameters(network: type) -> set[str]:
    """Return the names that a constructor takes; ``**kwargs`` are passed on to the class above."""
    names: set[str] = set()
    for cls in network.__mro__:
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(vars(cls)["__init__"]).parameters
        names |= parameters.keys()
        if not any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
            break
    return names
