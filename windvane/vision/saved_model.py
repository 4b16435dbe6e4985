"""A trained network with what it needs to be used: in memory, and as a folder of safetensors and JSON."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from windvane.runtime.serialization import digest, read_json, reading, write_json
from windvane.errors import InputError, ModelFileError
from windvane.version import VERSION
from windvane.vision.networks.create import create_model
from windvane.vision.recipe import Recipe, recipe_from_json
from windvane.vision.training.checkpoint import write_tensors

FORMAT = 2
KIND = "image_model"
MANIFEST, WEIGHTS = "manifest.json", "model.safetensors"
_LIBRARIES = ("torch", "timm", "torchvision", "numpy")


@dataclass(frozen=True)
class TrainedModel:
    """A network and how to use it.

    Attributes
    ----------
    network
        Pixels of shape (n, 3, s, s), scaled as the recipe says -> logits of shape (n, k). In evaluation mode.
    recipe
        It was trained by this.
    classes
        Their names in the order of the logits.
    """

    network: nn.Module
    recipe: Recipe
    classes: tuple[str, ...]


def save_model(
    folder: Path, weights: Mapping[str, Tensor], recipe: Recipe, classes: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Write a model into a folder, which may hold the other files of a run.

    Parameters
    ----------
    folder
        Exists.
    weights
        State of the network; written first, the manifest last.
    recipe, classes
        Those of the `Model`.
    facts
        Further JSON values for the manifest.
    """
    write_tensors(folder / WEIGHTS, weights)
    content = {
        "format": FORMAT,
        "kind": KIND,
        "windvane": VERSION,
        "versions": versions(),
        "recipe": recipe.to_json(),
        "classes": list(classes),
        "weights": digest(folder / WEIGHTS),
        **facts,
    }
    part = folder / f"{MANIFEST}.part"
    write_json(part, content)
    part.replace(folder / MANIFEST)


def load_model(folder: str | Path, device: str = "cpu") -> TrainedModel:
    """Open the model of a run.

    Parameters
    ----------
    folder
        Of the run.
    device
        Where the network goes, as torch names it.

    Returns
    -------
    Model
        Its network does not need the weights that training started from.

    Raises
    ------
    InputError
        Where the folder holds no trained network.
    ModelFileError
        Where a file is missing or damaged, or the manifest is of another version; nothing in it is executed.
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    if not is_image_model(folder):
        raise InputError(f"{str(folder)!r} holds no trained network (no {MANIFEST} of one).")
    manifest = read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise ModelFileError(f"{str(folder)!r} was written by windvane {manifest.get('windvane')}; this is {VERSION}.")
    with reading(folder / MANIFEST):
        recipe, classes = recipe_from_json(manifest["recipe"]), tuple(map(str, manifest["classes"]))
    if digest(folder / WEIGHTS) != manifest.get("weights"):
        raise ModelFileError(f"{str(folder / WEIGHTS)!r} is damaged: its hash is not that of the manifest.")
    network = create_model(recipe, len(classes))
    with reading(folder / WEIGHTS, Exception):  # safetensors has exceptions of its own
        network.load_state_dict(load_file(folder / WEIGHTS))
    return TrainedModel(network.to(torch.device(device)).eval(), recipe, classes)


def is_image_model(folder: str | Path) -> bool:
    """Whether a folder is that of a network's run.

    Parameters
    ----------
    folder
        Any.

    Returns
    -------
    bool
        False for runs on tables too.
    """
    try:
        return (Path(folder) / MANIFEST).is_file() and read_json(Path(folder) / MANIFEST).get("kind") == KIND
    except ModelFileError:
        return False


def versions() -> dict[str, str]:
    """List the libraries that a training run depends on, by name."""
    found = {"python": platform.python_version(), "windvane": VERSION}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
