from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import tiny_recipe
from PIL import Image

from windvane.vision.augment.crop import (
    GRAY,
    crop_batch,
    random_horizontal_flip,
    random_resized_crop,
    random_shift,
    sample_crop_size,
)


def batch(n: int = 6, size: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randint(256, (n, 3, size, size), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def test_a_shift_moves_whole_pixels() -> None:
    images = batch(50)
    moved = random_shift(images, 2, torch.Generator().manual_seed(1))
    offsets = set()
    for image, found in zip(images, moved, strict=True):
        padded = np.pad(image.numpy(), ((0, 0), (2, 2), (2, 2)), constant_values=GRAY)
        fits = [(y, x) for y in range(5) for x in range(5) if np.array_equal(padded[:, y : y + 16, x : x + 16], found)]
        assert len(fits) == 1
        offsets.update(fits)
    assert {y for y, _ in offsets} == {x for _, x in offsets} == set(range(5))


def test_half_of_the_images_are_flipped() -> None:
    images = batch(200, 4)
    found = random_horizontal_flip(images, torch.Generator().manual_seed(0))
    same = (found == images).flatten(1).all(dim=1)
    turned = (found == images.flip(-1)).flatten(1).all(dim=1)
    assert bool((same ^ turned).all())
    assert 80 < int(same.sum()) < 120


@settings(deadline=None, max_examples=20)
@given(smallest=st.floats(0.01, 0.9))
def test_parts_are_within_their_limits(smallest: float) -> None:
    heights, widths = sample_crop_size(*torch.rand(2, 500, dtype=torch.float64), smallest)
    assert float(heights.max()) <= 1 and float(widths.max()) <= 1
    inside = (heights < 1) & (widths < 1)
    area, ratio = (heights * widths)[inside], (widths / heights)[inside]
    assert float(area.min()) >= smallest - 1e-9
    assert 3 / 4 - 1e-9 <= float(ratio.min()) <= float(ratio.max()) <= 4 / 3 + 1e-9


def test_an_inception_crop_is_a_part_enlarged() -> None:
    """Against PIL's bilinear enlargement of the same part, on smooth images."""
    steps = torch.linspace(0, 255, 32)
    image = torch.stack([steps.expand(32, 32), steps[:, None].expand(32, 32), torch.full((32, 32), 99.0)])
    images = image.to(torch.uint8).expand(8, 3, 32, 32).contiguous()
    found = random_resized_crop(images, 0.2, torch.Generator().manual_seed(3))
    draws = torch.rand(4, 8, generator=torch.Generator().manual_seed(3))
    heights, widths = sample_crop_size(draws[0], draws[1], 0.2)
    for i in range(8):
        height, width = 32 * float(heights[i]), 32 * float(widths[i])
        top, left = (32 - height) * float(draws[2, i]), (32 - width) * float(draws[3, i])
        picture = Image.fromarray(images[i].permute(1, 2, 0).numpy())
        box = (left, top, min(32, left + width), min(32, top + height))
        wanted = np.array(picture.resize((32, 32), Image.Resampling.BILINEAR, box=box)).transpose(2, 0, 1)
        assert np.abs(found[i].numpy().astype(int) - wanted).max() <= 4  # PIL stops at the edge of the part


def test_the_recipe_decides() -> None:
    images = batch()
    assert torch.equal(crop_batch(images, tiny_recipe(), torch.Generator()), images)
    for crop in ("random_shift", "random_resized_crop"):
        recipe = tiny_recipe(crop=crop, horizontal_flip=True)
        first, again, other = (crop_batch(images, recipe, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
        assert first.dtype == torch.uint8 and first.shape == images.shape
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
