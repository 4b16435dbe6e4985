from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from windvane.vision.augment import operations as ops
from windvane.vision.augment.randaugment import operation_arguments

Affine = tuple[float, float, float, float, float, float]
FILL = (128, 128, 128)
NEAREST = Image.Resampling.NEAREST


def transform(image: Image.Image, matrix: Affine) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, NEAREST, fillcolor=FILL)


def solarize_add(image: Image.Image, addition: int) -> Image.Image:
    return image.point([min(255, value + addition) if value < 128 else value for value in range(256)] * 3)


# What Pillow makes of one image, for operations in which the original (test_original.py) does the same. A shear goes by
# the distance from the first row's center, hence the half slope.
PILLOW: dict[str, Callable[..., Image.Image]] = {
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "invert": ImageOps.invert,
    "rotate": lambda image, degrees: image.rotate(degrees, NEAREST, fillcolor=FILL),
    "posterize": ImageOps.posterize,
    "color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "shear_x": lambda image, slope: transform(image, (1, slope, -slope / 2, 0, 1, 0)),
    "shear_y": lambda image, slope: transform(image, (1, 0, 0, slope, 1, -slope / 2)),
    "translate_x": lambda image, pixels: transform(image, (1, 0, pixels, 0, 1, 0)),
    "translate_y": lambda image, pixels: transform(image, (1, 0, 0, 0, 1, pixels)),
    "solarize_add": solarize_add,
}


def draw_images(seed: int, n: int, height: int, width: int, darkest: int = 0, brightest: int = 255) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(darkest, brightest + 1, (n, 3, height, width), dtype=np.uint8))


def with_pillow(name: str, images: Tensor, amount: tuple[float, ...]) -> Tensor:
    done = [PILLOW[name](Image.fromarray(image.permute(1, 2, 0).numpy()), *amount) for image in images]
    return torch.from_numpy(np.stack([np.asarray(image) for image in done])).permute(0, 3, 1, 2)


def difference(first: Tensor, second: Tensor) -> int:
    return int((first.int() - second.int()).abs().max())


def tolerance(name: str, amount: tuple[float, ...]) -> int:
    """Gray levels: the original truncates what Pillow rounds before it is scaled by 1 - factor."""
    return 1 + math.ceil(abs(1 - amount[0])) if name in {"color", "sharpness"} else 1


@pytest.mark.parametrize("name", PILLOW)
@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    magnitude=st.sampled_from([0, 1, 3, 5, 7, 9, 10, 13, 15, 17, 20, 25, 30]),
    negative=st.booleans(),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    values=st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted),
)
def test_equals_pillow(
    name: str, seed: int, magnitude: int, negative: bool, height: int, width: int, values: list[int]
) -> None:
    images = draw_images(seed, 3, height, width, *values)
    before = images.clone()
    operation = getattr(ops, name)
    possible = operation_arguments(magnitude, height, width)[operation]
    amount = possible[negative:][:1] if len(possible) == 2 else possible
    ours = operation(images, *amount)
    assert ours.dtype == torch.uint8 and ours.shape == images.shape
    assert difference(ours, with_pillow(name, images, amount)) <= tolerance(name, amount)
    assert torch.equal(images, before)  # what came in is left as it was


@pytest.mark.parametrize("name", PILLOW)
@pytest.mark.parametrize("magnitude", [0, 10, 15, 20])
@pytest.mark.parametrize("size", [(32, 32), (224, 224), (160, 230)])
def test_equals_pillow_at_real_sizes(name: str, magnitude: int, size: tuple[int, int]) -> None:
    noise = draw_images(magnitude, 2, *size)
    waves = 127 * (1 + torch.sin(torch.arange(noise.numel()).view(noise.shape) / 1000))
    images = torch.cat([noise, waves.to(torch.uint8)])
    operation = getattr(ops, name)
    possible = operation_arguments(magnitude, *size)[operation]
    for amount in [(each,) for each in possible] or [()]:
        found = difference(operation(images, *amount), with_pillow(name, images, amount))
        assert found <= tolerance(name, amount)


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 30), width=st.integers(1, 30), half=st.integers(0, 40), data=st.data())
def test_cutout(height: int, width: int, half: int, data: st.DataObject) -> None:
    images = draw_images(0, 3, height, width)
    inside = st.tuples(st.integers(0, height - 1), st.integers(0, width - 1))
    centers = data.draw(st.lists(inside, min_size=3, max_size=3))
    expected = images.clone()
    for image, (row, column) in zip(expected, centers, strict=True):
        image[:, max(0, row - half) : row + half, max(0, column - half) : column + half] = 128
    assert torch.equal(ops.cutout(images, half, torch.tensor(centers).T), expected)


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_posterize_keeps_upper_bits(bits: int) -> None:
    values = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert len(ops.posterize(values, bits).unique()) == 2**bits
