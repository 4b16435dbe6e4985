"""Small labelled images for the tests of networks: the digits that scikit-learn ships, and noise."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from windvane.data.images import ImageDataset, ImageSplits
from windvane.vision.recipe import Recipe

SIZE = 8

torch.set_num_threads(1)  # networks as small as these lose time to a second one


def digits(n_train: int = 400, n_valid: int = 200, classes: int = 10) -> ImageSplits:
    """Handwritten digits of 8 x 8 pixels; the validation images come from the other end."""
    X, y = load_digits(return_X_y=True)
    X, y = X[y < classes], y[y < classes]
    pixels = np.repeat((X * (255 / 16)).astype(np.uint8).reshape(-1, SIZE, SIZE, 1), 3, axis=3)  # (n, 8, 8, 3)
    valid = image_set(pixels[len(y) - n_valid :], y[len(y) - n_valid :], classes) if n_valid else None
    return parts(image_set(pixels[:n_train], y[:n_train], classes), valid)


def parts(train: ImageDataset, valid: ImageDataset | None = None) -> ImageSplits:
    return ImageSplits(train, valid, test=None, skipped=(), duplicates=())


def image_set(pixels: np.ndarray, labels: np.ndarray | None, classes: int) -> ImageDataset:
    return ImageDataset(
        items=tuple(pixels),
        labels=None if labels is None else labels.astype(np.int64),
        classes=tuple(map(str, range(classes))),
        names=tuple(f"image {i}" for i in range(len(pixels))),
    )


def noise(n: int, size: int = SIZE, classes: int = 3, seed: int = 0) -> ImageDataset:
    rng = np.random.default_rng(seed)
    return image_set(rng.integers(256, size=(n, size, size, 3), dtype=np.uint8), np.arange(n) % classes, classes)


def tiny_recipe(**fields: object) -> Recipe:
    """A vision transformer of 2 blocks for the digits."""
    options = {"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 2}
    settings = {
        "model": "vit_lite_7_4",
        "model_kwargs": options,
        "image_size": SIZE,
        "batch_size": 64,
        "crop": "none",
        "horizontal_flip": False,
        "learning_rate": 3e-3,
    }
    if not {"epochs", "steps", "time_budget"} & set(fields):
        fields["steps"] = 8
    return Recipe(**{**settings, **fields})  # type: ignore[arg-type]
