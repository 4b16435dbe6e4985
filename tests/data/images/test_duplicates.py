"""Images are the same by their pixels, not by their bytes or by a smaller copy."""

from __future__ import annotations

import io
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

from windvane.data.images import duplicates
from windvane.data.images.checks import check_images
from windvane.data.images.duplicates import (
    Duplicate,
    count_copies,
    find_copies,
    find_duplicates,
)
from windvane.runtime.images import Item


def encoded(pixels: Any, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind, **options)
    return stream.getvalue()


def test_equal_pixels_in_any_encoding() -> None:
    one, other = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    grey = one[:, :, 0]
    items: list[Item] = [encoded(one, "PNG"), grey, encoded(one, "BMP"), other, encoded(grey, "PNG"), one]
    assert find_duplicates(items, check_images(items)) == [[0, 2, 5], [1, 4]]
    assert find_duplicates(items[:2], check_images(items[:2])) == []


def test_large_photos_are_compared_whole() -> None:
    """Two photos whose copies of an eighth of the size are equal, and one of them twice."""
    photo = np.full((4096, 4096), 128, dtype=np.uint8)
    striped = photo.copy()
    striped[::2, 1000:1016] = 138
    striped[1::2, 1000:1016] = 118
    items: list[Item] = [encoded(pixels, "JPEG", quality=95) for pixels in (photo, striped, photo)]
    looks = check_images(items)
    assert looks[0].digest == looks[1].digest
    assert find_duplicates(items, looks) == [[0, 2]]


def test_leaks() -> None:
    assert Duplicate(("a", "b"), ("train", "test"), True).leaks
    assert not Duplicate(("a", "b"), ("test", "test"), True).leaks


def test_images_that_look_the_same_are_found() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    different = coarse.repeat(4, axis=1).repeat(4, axis=2)  # (12, 32, 32, 3)
    noisy = np.clip(different[:3] + rng.normal(0, 3, (3, 32, 32, 3)), 0, 255).astype(np.uint8)
    flat = np.full((4, 32, 32, 3), 128, np.uint8)  # their hash is noise
    assert find_copies(np.concatenate([different, noisy, flat])) == ([[0, 12], [1, 13], [2, 14]], 19)
    assert find_copies(different[:1]) == ([], 1)
    assert find_copies(flat) == ([], 4)


def test_copies_between_two_sets_are_counted_but_a_common_look_is_not() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    images = coarse.repeat(8, axis=1).repeat(8, axis=2)  # (60, 64, 64, 3)
    new, old = images[:20].copy(), images[18:]
    assert count_copies(new, old) == 2
    assert count_copies(new[:18], old) == 0
    assert count_copies(new, old, deadline=0.0) is None
    new[:10] = new[0]
    assert find_copies(np.concatenate([new, images[20:]])) == ([], 60)  # 10 of 60 are more than a twentieth


def test_a_deadline_leaves_the_last_images_out_of_the_search_for_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    images[5], images[39] = images[2], images[3]
    assert find_copies(images) == ([[2, 5], [3, 39]], 40)
    assert find_copies(images, 0.0) == ([], 0)
    ticks = itertools.count()
    monkeypatch.setattr(duplicates.time, "monotonic", lambda: float(next(ticks)))
    assert find_copies(images, 100.0) == ([[2, 5]], 29)  # a look at the clock an image, and 0.3 of the time
