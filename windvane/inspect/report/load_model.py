"""Networks by name or file, and folders of images, for the shell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor, nn

from windvane.data.images.dataset import ImageDataset
from windvane.errors import InputError, ModelFileError, unknown
from windvane.vision.augment.batch import normalize
from windvane.vision.saved_model import is_image_model, load_model

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


@dataclass(frozen=True)
class LoadedModel:
    """A network with the images as it wants them.

    Attributes
    ----------
    name
        What it is called.
    model
        The network.
    images
        (n, channels, height, width), the same pictures in the same order for every network.
    """

    name: str
    model: nn.Module
    images: Tensor


def find_images(folder: str | Path, most: int, seed: int = 0) -> list[Path]:
    """List images of a folder and the folders in it.

    Parameters
    ----------
    folder
        Where they are.
    most
        So many are drawn where there are more.
    seed
        Of the draw.

    Returns
    -------
    list of Path
        In alphabetical order.

    Raises
    ------
    InputError
        Where there is no such folder or no image in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise InputError(f"images={str(root)!r} is no folder. Allowed: a folder of images.")
    found = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"images={str(root)!r} holds no images. Allowed: {', '.join(sorted(SUFFIXES))}.")
    chosen = np.random.default_rng(seed).choice(len(found), min(most, len(found)), replace=False)
    return [found[i] for i in np.sort(chosen)]


def load_model_and_images(word: str, pictures: Sequence[Path], *, trained: bool = True) -> LoadedModel:
    """Make a network of timm and read images as it wants them.

    Parameters
    ----------
    word
        A name of timm, as in ``resnet18``, with the weights that timm fetches; ``name=file`` with those of a file; or
        the directory of a run of `windvane.vision`.
    pictures
        Files of images.
    trained
        Whether weights are fetched; else they are random.

    Returns
    -------
    LoadedModel
        In evaluation mode.

    Raises
    ------
    InputError
        Where timm has no such network, its weights cannot be fetched, or a picture cannot be read.
    ModelFileError
        Where a file does not fit the network.
    """
    if is_image_model(Path(word)):
        return _from_run(Path(word), pictures)
    name, _, file = word.partition("=")
    if not timm.is_model(name):
        if Path(word).exists():
            raise InputError(
                f"model={word!r} holds no network of windvane. Allowed: the directory of a run, or NAME=FILE."
            )
        raise unknown("model", name, timm.list_models())
    model = _from_file(name, Path(file)) if file else _from_hub(name, trained)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    return LoadedModel(name, model.eval(), torch.stack([_read(path, transform) for path in pictures]))


def _from_run(folder: Path, pictures: Sequence[Path]) -> LoadedModel:
    model = load_model(folder)
    images = ImageDataset(tuple(pictures), None, model.classes, tuple(map(str, pictures)))
    try:
        pixels = torch.from_numpy(images.load_array(model.recipe.image_size))  # (n, s, s, 3)
    except OSError as error:
        raise InputError(f"images: one cannot be read: {error}") from error
    return LoadedModel(folder.name, model.network, normalize(pixels.permute(0, 3, 1, 2), model.recipe))


def _from_hub(name: str, trained: bool) -> nn.Module:
    try:
        return _made(timm.create_model(name, pretrained=trained))
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"model={name!r}: its weights cannot be fetched ({error}). Allowed: {name}=FILE with your own, or "
            "random ones (--untrained)."
        ) from error


def _from_file(name: str, file: Path) -> nn.Module:
    if not file.is_file():
        raise InputError(f"model: {str(file)!r} is no file. Allowed: {name}=FILE, safetensors or a state dict.")
    try:
        state = timm.models.load_state_dict(str(file), weights_only=True)
        head = f"{timm.create_model(name).pretrained_cfg.get('classifier', 'head')}.weight"
        n_classes = {"num_classes": len(state[head])} if head in state else {}
        model = _made(timm.create_model(name, **n_classes))
        model.load_state_dict(state)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ModelFileError(f"{file} does not hold the weights of {name}: {error}") from error
    return model


def _made(model: Any) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise InputError(f"model is {type(model).__name__}. Allowed: a torch.nn.Module.")
    return model


def _read(path: Path, transform: Any) -> Tensor:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            image: Tensor = transform(picture.convert("RGB"))
    except OSError as error:
        raise InputError(f"images: {path} cannot be read as an image: {error}") from error
    return image
