"""Trained networks for other programs: ONNX and torch.export.

The input are plain pixels and the output probabilities, so nobody has to repeat the normalization. Each file is read
back and compared with the network before it counts.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from windvane.errors import WindvaneError, check_new_file
from windvane.vision.recipe import Recipe
from windvane.vision.saved_model import TrainedModel

_TOLERANCE = 1e-4  # largest difference of a probability
_CHECKED = (2, 5)  # batch sizes: the first is traced, the second shows that others work


def export_onnx(model: TrainedModel, path: str | Path) -> Path:
    """Export a model as one ONNX file.

    Parameters
    ----------
    model
        A trained model.
    path
        A new file that ends in .onnx. Its input is ``images``, uint8 of shape (n, 3, s, s); its output
        ``probabilities``, float32 of shape (n, k).

    Returns
    -------
    Path
        The file, after onnxruntime has computed the same probabilities.

    Raises
    ------
    WindvaneError
        If the file computes other probabilities.

    Examples
    --------
    >>> export_onnx(load_model("run"), "model.onnx")  # doctest: +SKIP
    """
    return write_onnx(pixel_network(model), model.recipe.image_size, path)


def write_onnx(network: nn.Module, size: int, path: str | Path) -> Path:
    """Write a network of uint8 images (n, 3, size, size) as an ONNX file that computes the same."""
    file = check_new_file(path, ".onnx")
    with _quiet():
        torch.onnx.export(
            network,
            (_random_images(size, _CHECKED[0]),),
            file,
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            external_data=False,
            dynamo=True,
            verbose=False,
        )
        import onnxruntime

        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return _checked(file, network, size, lambda images: session.run(None, {"images": images.numpy()})[0])


def export_torch(model: TrainedModel, path: str | Path) -> Path:
    """Export a model as a torch.export program, which needs neither timm nor windvane.

    Parameters
    ----------
    model, path
        As in `export_onnx`, but the file ends in .pt2. ``torch.export.load(path).module()`` maps uint8 images of shape
        (n, 3, s, s) to probabilities.

    Returns
    -------
    Path
        The file, checked as in `export_onnx`.

    Examples
    --------
    >>> export_torch(load_model("run"), "model.pt2")  # doctest: +SKIP
    """
    return write_torch(pixel_network(model), model.recipe.image_size, path)


def write_torch(network: nn.Module, size: int, path: str | Path) -> Path:
    """Write a network of uint8 images (n, 3, size, size) as a torch.export program that computes the same."""
    file = check_new_file(path, ".pt2")
    with _quiet():
        program = torch.export.export(
            network, (_random_images(size, _CHECKED[0]),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},)
        )
        torch.export.save(program, file)
        loaded = torch.export.load(file).module()
    return _checked(file, network, size, lambda images: loaded(images).numpy())


def pixel_network(model: TrainedModel) -> PixelNetwork:
    """Return a copy of a model, on the CPU, that maps pixels to probabilities."""
    return PixelNetwork(copy.deepcopy(model.network).cpu(), model.recipe).eval()


class PixelNetwork(nn.Module):
    """Maps uint8 pixels to probabilities."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network, self.normalize = network, Normalize(recipe)

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities (n, k) of uint8 images (n, 3, s, s)."""
        logits = self.network(self.normalize(images.to(torch.float32)))  # (n, k)
        return torch.softmax(logits, dim=1)


class Normalize(nn.Module):
    """Maps pixels from 0 to 255 to the values that the network of a recipe takes."""

    mean: Tensor
    std: Tensor

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        for name, values in zip(("mean", "std"), recipe.normalization, strict=True):
            self.register_buffer(name, 255.0 * torch.tensor(values)[:, None, None])  # (3, 1, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return normalized float pixels (n, 3, s, s)."""
        return (pixels - self.mean) / self.std


def _random_images(size: int, n: int) -> Tensor:
    """Return uint8 noise of shape (n, 3, size, size)."""
    return torch.randint(256, (n, 3, size, size), generator=torch.Generator().manual_seed(n)).to(torch.uint8)


def _checked(file: Path, network: nn.Module, size: int, predict: Callable[[Tensor], np.ndarray]) -> Path:
    """Return the file if what was read back from it computes what the network does."""
    for n in _CHECKED:
        images = _random_images(size, n)
        with torch.inference_mode():
            difference = float(np.abs(predict(images) - network(images).numpy()).max())
        if not difference <= _TOLERANCE:
            raise WindvaneError(f"{file} computes something else: a probability differs by {difference:.2g}.")
    return file


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the messages of the exporters."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
