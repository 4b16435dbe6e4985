"""A trained network with what it needs to predict: in memory, and as a folder of safetensors and JSON."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from windvane.errors import InputError, ModelFileError
from windvane.runtime.serialization import digest, read_json, reading, unseal, write_sealed, writing
from windvane.version import VERSION
from windvane.vision.networks.create import create_model
from windvane.vision.recipe import Recipe, recipe_from_json
from windvane.vision.training.checkpoint import write_tensors

FORMAT = 3
KIND = "image_model"
MANIFEST, WEIGHTS = "manifest.json", "model.safetensors"
_LIBRARIES = ("torch", "timm", "torchvision", "numpy")


@dataclass(frozen=True)
class TrainedModel:
    """A trained network and how to use it."""

    # Maps pixels of shape (n, 3, s, s), normalized as in the recipe, to logits of shape (n, k). In evaluation mode.
    network: nn.Module
    recipe: Recipe  # the recipe that trained it
    classes: tuple[str, ...]  # names of the classes, in the order of the logits


def save_model(
    folder: Path, weights: Mapping[str, Tensor], recipe: Recipe, classes: Sequence[str], facts: Mapping[str, Any]
) -> None:
    """Write a model, and further JSON values for its manifest, into a folder that may hold other files of a run."""
    # The manifest is written last: a folder without it holds no model.
    write_tensors(folder / WEIGHTS, weights)
    content = {
        "format": FORMAT,
        "kind": KIND,
        "windvane": VERSION,
        "versions": library_versions(),
        "recipe": recipe.to_json(),
        "classes": list(classes),
        "weights": digest(folder / WEIGHTS),
        **facts,
    }
    with writing(folder, "An earlier model is unchanged."):
        write_sealed(folder / MANIFEST, content)


def load_model(folder: str | Path, device: str = "cpu") -> TrainedModel:
    """Load the best model of a run.

    Parameters
    ----------
    folder
        Folder of the run.
    device
        Device of the network, as named by torch.

    Returns
    -------
    TrainedModel
        Does not need the pre-trained weights that the training started from.

    Raises
    ------
    ModelFileError
        If a file is missing or damaged, or was written by another version; nothing in it is executed.

    Examples
    --------
    >>> model = load_model("run")  # doctest: +SKIP
    """
    from safetensors.torch import load_file

    folder = Path(folder)
    if not is_image_model(folder):
        raise InputError(
            f"{str(folder)!r} holds no trained network (no {MANIFEST} of one). windvane.load opens the runs of "
            "searches (fit), in a shell windvane predict, leaderboard, report and resume."
        )
    manifest = read_json(folder / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise ModelFileError(f"{str(folder)!r} was written by windvane {manifest.get('windvane')}; this is {VERSION}.")
    manifest = unseal(manifest, folder / MANIFEST)
    with reading(folder / MANIFEST):
        recipe, classes = recipe_from_json(manifest["recipe"]), tuple(map(str, manifest["classes"]))
    if digest(folder / WEIGHTS) != manifest.get("weights"):
        raise ModelFileError(f"{str(folder / WEIGHTS)!r} is damaged: its hash is not that of the manifest.")
    network = create_model(recipe, len(classes))
    with reading(folder / WEIGHTS, Exception):  # safetensors has its own exceptions
        network.load_state_dict(load_file(folder / WEIGHTS))
    return TrainedModel(network.to(torch.device(device)).eval(), recipe, classes)


def is_image_model(folder: str | Path) -> bool:
    """Return whether a folder holds a trained image network.

    Parameters
    ----------
    folder
        Any path.

    Returns
    -------
    bool
        False for runs on tables too.

    Examples
    --------
    >>> is_image_model("no/such/folder")
    False
    """
    manifest = Path(folder) / MANIFEST
    try:
        return manifest.is_file() and read_json(manifest).get("kind") == KIND
    except ModelFileError:
        return False


def library_versions() -> dict[str, str]:
    """Return the versions of Python, windvane and the libraries that training depends on."""
    found = {"python": platform.python_version(), "windvane": VERSION}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
