from __future__ import annotations

import pytest
import torch
from pictures import tiny_recipe

from windvane.vision.augment.augreg import AUGREG_LEVELS
from windvane.vision.augment.batch import augment_batch, normalize

IMAGES = torch.randint(256, (12, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
LABELS = torch.arange(12) % 3


def test_without_augmentation_pixels_are_scaled_alone() -> None:
    pixels, targets = augment_batch(IMAGES, LABELS, 3, tiny_recipe(), torch.Generator())
    torch.testing.assert_close(pixels, IMAGES / 127.5 - 1.0)
    assert torch.equal(targets, torch.eye(3)[LABELS])


def test_every_color_has_its_own_range() -> None:
    recipe = tiny_recipe(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    found = normalize(IMAGES, recipe)
    for color in range(3):
        wanted = (IMAGES[:, color] / 255.0 - recipe.mean[color]) / recipe.std[color]
        torch.testing.assert_close(found[:, color], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("level", AUGREG_LEVELS)
def test_levels_vary_images_and_mix_targets(level: str) -> None:
    recipe = tiny_recipe(augreg=level)
    pixels, targets = augment_batch(IMAGES, LABELS, 3, recipe, torch.Generator().manual_seed(0))
    again, _ = augment_batch(IMAGES, LABELS, 3, recipe, torch.Generator().manual_seed(0))
    assert torch.equal(pixels, again)
    assert pixels.shape == IMAGES.shape
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(12))
    mixed = bool(((targets > 0) & (targets < 1)).any())
    assert mixed == (AUGREG_LEVELS[level].mixup_alpha > 0)
    assert torch.equal(pixels, normalize(IMAGES, recipe)) == (level == "none")
