"""Small labelled images for the tests of networks: the digits that scikit-learn ships, and noise."""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from windvane.data.images import Images, ImageSet
from windvane.nn.recipe import Recipe

SIZE = 8


def digits(n_train: int = 400, n_valid: int = 200, classes: int = 10) -> Images:
    """Handwritten digits of 8 x 8 pixels; the validation part comes from the other end."""
    X, y = load_digits(return_X_y=True)
    X, y = X[y < classes], y[y < classes]
    pixels = np.repeat((X * (255 / 16)).astype(np.uint8).reshape(-1, SIZE, SIZE, 1), 3, axis=3)  # (n, 8, 8, 3)
    valid = image_set(pixels[len(y) - n_valid :], y[len(y) - n_valid :], classes) if n_valid else None
    return parts(image_set(pixels[:n_train], y[:n_train], classes), valid)


def parts(train: ImageSet, valid: ImageSet | None = None) -> Images:
    return Images(train, valid, test=None, skipped=(), duplicates=())


def image_set(pixels: np.ndarray, labels: np.ndarray | None, classes: int) -> ImageSet:
    return ImageSet(
        items=tuple(pixels),
        labels=None if labels is None else labels.astype(np.int64),
        classes=tuple(map(str, range(classes))),
        names=tuple(f"image {i}" for i in range(len(pixels))),
    )


def noise(n: int, size: int = SIZE, classes: int = 3, seed: int = 0) -> ImageSet:
    rng = np.random.default_rng(seed)
    return image_set(rng.integers(256, size=(n, size, size, 3), dtype=np.uint8), np.arange(n) % classes, classes)


def tiny_recipe(**fields: object) -> Recipe:
    """A vision transformer of 2 blocks for the digits."""
    options = {"patch_size": 2, "embed_dim": 32, "depth": 2, "num_heads": 2}
    settings = {
        "model": "vit_lite_7_4",
        "options": options,
        "image_size": SIZE,
        "batch": 64,
        "crop": "none",
        "flip": False,
        "rate": 3e-3,
    }
    if not {"epochs", "steps", "seconds"} & set(fields):
        fields["steps"] = 8
    return Recipe(**{**settings, **fields})  # type: ignore[arg-type]
