"""Pictures in a page are the images, small."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image
from toys import check_html

from windvane.vision.report.gallery import SIDE, encode, gallery


def opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_small_images_stay_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 20, 3), dtype=np.uint8)
    assert encode(pixels).startswith("data:image/png;base64,")
    assert np.array_equal(np.asarray(opened(encode(pixels))), pixels)


def test_large_images_become_small() -> None:
    pixels = np.full((300, 600, 3), [200, 100, 50], dtype=np.uint8)
    small = opened(encode(pixels))
    assert small.size == (SIDE, SIDE // 2)
    assert np.abs(np.asarray(small).astype(int) - [200, 100, 50]).max() <= 4
    assert len(encode(pixels)) < 2000


def test_a_gallery_is_well_formed_and_escaped() -> None:
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    html = gallery([(pixels, "<b>cat</b> 99%", 'a"b.png')] * 2, label="Wrong")
    check_html(html)
    assert html.count("<img") == 2
    assert "<b>" not in html
    assert 'alt="a&quot;b.png"' in html
