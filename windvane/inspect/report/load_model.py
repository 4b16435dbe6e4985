"""Networks as the command line names them, and images as each network takes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from windvane.data.files import IMAGE_SUFFIXES
from windvane.data.images.dataset import ImageDataset
from windvane.errors import InputError, ModelFileError, unknown_name_error
from windvane.vision.augment.batch import normalize
from windvane.vision.networks.weights import read_state_dict
from windvane.vision.saved_model import is_image_model, load_model


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode with its images."""

    name: str
    model: nn.Module
    images: Tensor  # (n, channels, height, width), normalized; the same files in the same order for every network


def find_images(root: Path, n_images: int, seed: int = 0) -> list[Path]:
    """Image files in a folder and its subfolders, in alphabetical order; at most `n_images`, drawn at random.

    Hidden files, and links that lead nowhere, are ignored.
    """
    if not root.is_dir():
        raise InputError(f"images={str(root)!r} is not a folder. Allowed: a folder of images.")
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    if not paths:
        raise InputError(f"images={str(root)!r} has no images. Allowed: {', '.join(IMAGE_SUFFIXES)}.")
    drawn = np.random.default_rng(seed).choice(len(paths), min(n_images, len(paths)), replace=False)
    return [paths[i] for i in np.sort(drawn)]


def load_model_and_images(model: str, paths: Sequence[Path], *, pretrained: bool = True) -> LoadedModel:
    """Load a network and read images in its size and normalization."""
    # `model` is a name of timm, with the weights that timm downloads or without `pretrained` random ones; ``NAME=FILE``
    # with the weights of a file; or the run directory of `windvane train`.
    if is_image_model(Path(model)):
        return _load_run(Path(model), paths)
    name, _, file = model.partition("=")
    if not timm.is_model(name):
        if Path(model).exists():
            raise InputError(
                f"model={model!r} holds no network on images. Allowed: a run of windvane train, of finetune, or of fit "
                "on images whose ensemble has a network; or NAME=FILE."
            )
        raise unknown_name_error("model", name, timm.list_models())
    network = _load_weights(name, Path(file)) if file else _create(name, pretrained)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    return LoadedModel(name, network.eval(), torch.stack([_read(path, transform) for path in paths]))


def _load_run(folder: Path, paths: Sequence[Path]) -> LoadedModel:
    trained = load_model(folder)
    recipe = trained.recipe
    images = ImageDataset(tuple(paths), None, trained.classes, tuple(map(str, paths)))
    try:
        pixels = torch.from_numpy(images.load_array(recipe.image_size, center=recipe.crops_center))
    except InputError as error:
        raise InputError(f"images: {error}") from error
    return LoadedModel(folder.name, trained.network, normalize(pixels.permute(0, 3, 1, 2), recipe))


def _create(name: str, pretrained: bool) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(name, pretrained=pretrained)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"model={name!r}: its weights cannot be downloaded ({error}). Allowed: {name}=FILE with your own weights, "
            "or random ones (--untrained)."
        ) from error
    return network


def _load_weights(name: str, file: Path) -> nn.Module:
    if not file.is_file():
        raise InputError(f"model: {str(file)!r} is not a file. Allowed: {name}=FILE, safetensors or a state dict.")
    try:
        state = read_state_dict(file)
        classifier = getattr(get_pretrained_cfg(name), "classifier", None) or "head"  # distilled networks have several
        head = state.get(f"{classifier if isinstance(classifier, str) else classifier[0]}.weight")
        n_classes = {} if head is None else {"num_classes": len(head)}
        network: nn.Module = timm.create_model(name, **n_classes)
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelFileError(f"{file} does not hold the weights of {name}: {error}") from error
    return network


def _read(path: Path, transform: Callable[..., Tensor]) -> Tensor:
    from PIL import Image

    try:
        pixels = ImageDataset((path,), None, (), (str(path),)).decode(0)
    except InputError as error:
        raise InputError(f"images: {error}") from error
    return transform(Image.fromarray(pixels))
