"""Every operation against the formulas of the original RandAugment, at 224 pixels, the size that it trains at.

The formulas are written here from what that TensorFlow code (big_vision, pp/archive/autoaugment.py) computes: a uint8
image of shape (h, w, 3) in float32 numbers, truncated to uint8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from windvane.vision.augment import operations as ops
from windvane.vision.augment.randaugment import operation_arguments

Image = NDArray[np.uint8]
SIZE, GRAY = 224, 128
MAGNITUDES = (0, 5, 10, 15, 20)
CENTER = (200, 30)  # row and column of the square that cutout paints
ROUNDING = 0.002  # pixels: float32 coordinates of the original, fixed-point coordinates here
TRUNCATION = 1e-4  # gray levels: float32 sums that are truncated


def blend(first: NDArray[Any], second: NDArray[Any], factor: float) -> Image:
    first, second = first.astype(np.float32), second.astype(np.float32)
    return (first + np.float32(factor) * (second - first)).clip(0, 255).astype(np.uint8)


def gray(image: Image, off: float = 0.0) -> Image:
    """TensorFlow's rgb_to_grayscale: from 0 ... 1 back to uint8 by a factor of 255.5."""
    sums = (image / 255 * [0.2989, 0.587, 0.114]).sum(2, keepdims=True) * 255.5
    return (sums + off).clip(0, 255).astype(np.uint8)


def autocontrast(image: Image) -> Image:
    low, high = (one.astype(np.float32) for one in (image.min((0, 1)), image.max((0, 1))))
    scale = 255 / np.maximum(high - low, 1)
    return np.where(high > low, (image * scale - low * scale).clip(0, 255), image).astype(np.uint8)


def equalize(image: Image) -> Image:
    channels = []
    for channel in np.moveaxis(image, 2, 0):
        counts = np.bincount(channel.ravel(), minlength=256)
        step = (counts.sum() - counts[counts > 0][-1]) // 255
        table = np.arange(256)
        if step:
            table = np.concatenate([[0], ((np.cumsum(counts) + step // 2) // step)[:-1]]).clip(0, 255)
        channels.append(table[channel])
    return np.stack(channels, 2).astype(np.uint8)


def solarize(image: Image, magnitude: float) -> Image:
    threshold = np.int64(magnitude / 10 * 256).astype(np.uint8)  # compared with uint8 pixels, so 256 is 0
    return np.where(image < threshold, image, 255 - image).astype(np.uint8)


def posterize(image: Image, magnitude: float) -> Image:
    shift = min(8 - int(magnitude / 10 * 4), 7)  # TensorFlow shifts uint8 by at most 7
    return (image >> shift) << shift


def solarize_add(image: Image, magnitude: float) -> Image:
    added = (image.astype(np.int64) + int(magnitude / 10 * 110)).clip(0, 255)
    return np.where(image < 128, added, image).astype(np.uint8)


def contrast(image: Image, factor: float) -> Image:
    counts = np.bincount(gray(image).ravel(), minlength=256)
    mean = counts.astype(np.float32).sum() / 256  # what the original takes for the mean
    return blend(np.full_like(image, np.uint8(min(mean, 255))), image, factor)


def sharpness(image: Image, factor: float, off: float) -> Image:
    smooth = image.copy()
    wide = image.astype(np.int64)
    near = sum(wide[1 + y : SIZE - 1 + y, 1 + x : SIZE - 1 + x] for y, x in product((-1, 0, 1), repeat=2))
    smooth[1:-1, 1:-1] = ((near + 4 * wide[1:-1, 1:-1]) / 13 + off).clip(0, 255)
    return blend(smooth, image, factor)


def cutout(image: Image, magnitude: float) -> Image:
    half = int(magnitude / 10 * 40)
    painted = image.copy()
    rows, columns = (range(max(0, center - half), min(SIZE, center + half)) for center in CENTER)
    for row, column in product(rows, columns):
        painted[row, column] = GRAY
    return painted


def projections(image: Image, matrix: tuple[float, ...]) -> list[Image]:
    """The image seen through an output-to-input map of whole pixels: the possible results of rounding."""
    a, b, c, d, e, f = matrix
    y, x = np.mgrid[:SIZE, :SIZE]
    results = []
    for off_x, off_y in product((-ROUNDING, ROUNDING), repeat=2):
        column = np.floor(a * x + b * y + c + off_x + 0.5).astype(int)
        row = np.floor(d * x + e * y + f + off_y + 0.5).astype(int)
        inside = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
        found = image[row.clip(0, SIZE - 1), column.clip(0, SIZE - 1)]
        results.append(np.where(inside[:, :, None], found, GRAY).astype(np.uint8))
    return results


def rotation(degrees: float) -> tuple[float, ...]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = (SIZE - 1) / 2
    return cosine, -sine, middle * (1 - cosine + sine), sine, cosine, middle * (1 - sine - cosine)


def factor_of(magnitude: float) -> float:
    return magnitude / 10 * 1.8 + 0.1


# By image, magnitude, and what is added before a float32 sum is truncated.
VALUES: dict[str, Callable[[Image, float, float], Image]] = {
    "autocontrast": lambda image, _, __: autocontrast(image),
    "equalize": lambda image, _, __: equalize(image),
    "invert": lambda image, _, __: 255 - image,
    "posterize": lambda image, magnitude, _: posterize(image, magnitude),
    "solarize": lambda image, magnitude, _: solarize(image, magnitude),
    "solarize_add": lambda image, magnitude, _: solarize_add(image, magnitude),
    "color": lambda image, magnitude, off: blend(gray(image, off), image, factor_of(magnitude)),
    "contrast": lambda image, magnitude, _: contrast(image, factor_of(magnitude)),
    "brightness": lambda image, magnitude, _: blend(np.zeros_like(image), image, factor_of(magnitude)),
    "sharpness": lambda image, magnitude, off: sharpness(image, factor_of(magnitude), off),
    "cutout": lambda image, magnitude, _: cutout(image, magnitude),
}
GEOMETRY: dict[str, Callable[[float], tuple[float, ...]]] = {
    "rotate": lambda share: rotation(30 * share),
    "shear_x": lambda share: (1, 0.3 * share, 0, 0, 1, 0),
    "shear_y": lambda share: (1, 0, 0, 0.3 * share, 1, 0),
    "translate_x": lambda share: (1, 0, 100 * share, 0, 1, 0),
    "translate_y": lambda share: (1, 0, 0, 0, 1, 100 * share),
}


def draw_images() -> NDArray[np.uint8]:  # (n, h, w, 3)
    """Noise, colored waves of low contrast, and one even color."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (SIZE, SIZE, 3))
    y, x, channel = np.mgrid[:SIZE, :SIZE, :3]
    waves = 90 + 60 * np.sin((x + 2 * y) / (11 + 5 * channel))
    return np.stack([noise, waves, np.broadcast_to([250, 3, 100], noise.shape)]).astype(np.uint8)


IMAGES = draw_images()


def ours(name: str, *arguments: Any) -> NDArray[np.uint8]:  # (n, h, w, 3)
    changed = getattr(ops, name)(torch.from_numpy(IMAGES).permute(0, 3, 1, 2), *arguments)
    return changed.permute(0, 2, 3, 1).numpy()


def test_every_operation_is_compared() -> None:
    operations = [operation.__name__ for operation in operation_arguments(10, SIZE, SIZE)]
    assert {*VALUES, *GEOMETRY} == set(operations) and len(operations) == 16


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("name", VALUES)
def test_values(name: str, magnitude: int) -> None:
    arguments: tuple[Any, ...] = operation_arguments(magnitude, SIZE, SIZE)[getattr(ops, name)]
    if name == "cutout":
        arguments = (*arguments, torch.tensor(CENTER)[:, None].expand(2, len(IMAGES)))
    for image, found in zip(IMAGES, ours(name, *arguments), strict=True):
        possible = [VALUES[name](image, magnitude, off).astype(int) for off in (-TRUNCATION, TRUNCATION)]
        assert np.minimum.reduce([np.abs(found - one) for one in possible]).max() <= 1


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry(name: str, magnitude: int, sign: int) -> None:
    argument = operation_arguments(magnitude, SIZE, SIZE)[getattr(ops, name)][0 if sign == 1 else 1]
    for image, found in zip(IMAGES, ours(name, argument), strict=True):
        possible = projections(image, GEOMETRY[name](sign * magnitude / 10))
        assert np.logical_or.reduce([(found == one).all(2) for one in possible]).all()


@pytest.mark.parametrize(("height", "width", "even"), [(32, 32, 4), (160, 230, 143), (224, 224, 196), (300, 300, 255)])
def test_contrast_blends_with_a_gray_that_grows_with_the_image(height: int, width: int, even: int) -> None:
    images = torch.randint(256, (2, 3, height, width), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert ops.contrast(images, 0.0).unique().tolist() == [even]


@pytest.mark.parametrize(("magnitude", "first_inverted"), [(0, 0), (5, 128), (10, 0), (15, 128), (20, 0)])
def test_solarize_inverts_from_a_threshold_that_wraps(magnitude: int, first_inverted: int) -> None:
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    changed = ops.solarize(values, *operation_arguments(magnitude, 16, 16)[ops.solarize])
    expected = torch.where(values.int() < first_inverted, values.int(), 255 - values.int())
    assert torch.equal(changed.int(), expected)
