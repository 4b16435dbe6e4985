"""Every kind of image comes out upright, opaque and in eight bits; whatever is damaged is named, never a crash."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from windvane.data.images import checks
from windvane.data.images.checks import check_images, map_blocks
from windvane.errors import InputError
from windvane.runtime.images import decode_image, eight_bit_factor, to_rgb


def colors(height: int = 12, width: int = 20, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats(kind: str, tmp_path: Path) -> None:
    pixels = colors()
    content = encoded(pixels, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decode_image(content), pixels)
    (tmp_path / "no_suffix").write_bytes(content)
    assert np.array_equal(decode_image(tmp_path / "no_suffix"), pixels)


def test_arrays_of_one_to_four_channels() -> None:
    grey = colors()[:, :, 0]
    for array in (grey, grey[:, :, None]):
        assert np.array_equal(decode_image(array), np.stack([grey] * 3, axis=2))
    assert np.array_equal(decode_image(colors()), colors())
    half = np.full((2, 2, 4), [10, 20, 30, 51], dtype=np.uint8)  # an alpha of 0.2 on white
    assert decode_image(half)[0, 0].tolist() == [206, 208, 210]
    assert decode_image(half[:, :, 2:])[0, 0].tolist() == [210, 210, 210]


def test_grey_with_and_without_alpha() -> None:
    grey = colors()[:, :, 0]
    assert np.array_equal(decode_image(encoded(grey)), np.stack([grey] * 3, axis=2))
    clear = Image.merge("LA", [Image.fromarray(grey), Image.new("L", (20, 12), 0)])
    assert (decode_image(encoded(clear)) == 255).all()
    opaque = Image.merge("LA", [Image.fromarray(grey), Image.new("L", (20, 12), 255)])
    assert np.array_equal(decode_image(encoded(opaque)), np.stack([grey] * 3, axis=2))


def test_transparency_lies_on_white() -> None:
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 51))
    assert decode_image(encoded(image))[0, 0].tolist() == [206, 208, 210]
    keyed = encoded(Image.new("RGB", (4, 4), (10, 20, 30)), transparency=(10, 20, 30))
    assert (decode_image(keyed) == 255).all()
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    assert decode_image(encoded(palette))[0, 0].tolist() == [200, 100, 50]
    assert (decode_image(encoded(palette, transparency=1)) == 255).all()
    assert (decode_image(encoded(palette, transparency=b"\xff\x00")) == 255).all()
    premultiplied = Image.new("RGBA", (2, 2), (10, 20, 30, 255)).convert("RGBa")
    assert to_rgb(premultiplied)[0, 0].tolist() == [10, 20, 30]
    assert (to_rgb(Image.new("La", (2, 2), (0, 0))) == 255).all()
    assert decode_image(encoded(Image.new("1", (3, 3), 1))).max() == 255


def test_sixteen_bits_keep_their_high_ones() -> None:
    deep = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        out = decode_image(encoded(deep, kind))
        assert np.array_equal(out[:, :, 0].ravel(), np.arange(256))
        assert np.array_equal(out[:, :, 0], out[:, :, 2])
    dark = np.full((3, 3), 200, dtype=np.uint16)  # dark, not light, however small its largest value
    assert (decode_image(encoded(dark)) == 1).all()


def test_floats_and_long_integers() -> None:
    unit = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    assert np.array_equal(decode_image(encoded(unit, "TIFF"))[:, :, 0].ravel(), np.arange(256))
    assert np.array_equal(to_rgb(Image.fromarray(unit * 2000 - 500))[:, :, 0].ravel(), np.arange(256))
    assert np.array_equal(to_rgb(Image.fromarray((unit * 255).astype(np.int32)))[:, :, 0], (unit * 255).astype(int))
    wild = np.array([[np.nan, np.inf], [0.0, 1.0]], dtype=np.float32)
    assert to_rgb(Image.fromarray(wild)).shape == (2, 2, 3)


def test_cmyk() -> None:
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    assert np.abs(decode_image(encoded(image, "JPEG", quality=95)).astype(int) - [0, 255, 255]).max() <= 4


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.abs(decode_image(content)[0, 0].astype(int) - [255, 0, 0]).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_orientation_of_the_camera(orientation: int, kind: str) -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :16] = 255  # white at the upper left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: upright.swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(np.ascontiguousarray(stored), kind, exif=exif)
    out = decode_image(content)
    assert out.shape == upright.shape
    assert np.abs(out.astype(int) - upright).mean() < 2
    (look,) = check_images([content])
    assert (look.height, look.width) == (16, 32)


def test_damaged_notes_of_the_camera_do_not_matter() -> None:
    content = encoded(colors(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert decode_image(content).shape == (12, 20, 3)


def test_what_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    photo = encoded(colors(64, 64), "JPEG")
    cases = {
        b"": "it is empty",
        b"hello": "it is no image of a known format",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n": "it is no image of a known format",
        photo[: len(photo) // 2]: "truncated",
        encoded(colors(64, 64))[:2000]: "truncated",
    }
    for content, words in cases.items():
        with pytest.raises(InputError, match=words):
            decode_image(content)
    (tmp_path / "empty.png").touch()
    with pytest.raises(InputError, match="it is empty"):
        decode_image(tmp_path / "empty.png")
    with pytest.raises(InputError, match="no such file"):
        decode_image(tmp_path / "none.png")


def test_too_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = encoded(Image.new("1", (30_000, 3_000)))  # 11 kB for 90 million pixels
    (look,) = check_images([bomb])
    assert look.problem == "30,000 x 3,000 pixels are more than the 89,478,485 that are decoded"
    (look,) = check_images([encoded(Image.new("1", (60_000, 3_000)))])  # here Pillow itself refuses
    assert look.problem == "it has more than the 89,478,485 pixels that are decoded"


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").write_bytes(encoded(colors()))

    def refuse(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)  # who runs tests as root may read everything
    assert check_images([tmp_path / "a.png"])[0].problem == "permission denied"


SOUND = {
    kind: encoded(colors(24, 24), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000")
}


@given(st.sampled_from(sorted(SOUND)), st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8))
@settings(deadline=None, max_examples=150)
def test_damaged_bytes_never_crash(kind: str, changes: list[tuple[int, int]]) -> None:
    content = bytearray(SOUND[kind])
    for place, value in changes:
        content[place % len(content)] = value
    (look,) = check_images([bytes(content)])
    assert (look.problem == "") == (look.height > 0)


def test_the_check_of_a_large_photo_decodes_a_smaller_copy_and_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    photo = encoded(Image.new("RGB", (2100, 1400), (1, 2, 3)), "JPEG")
    (look,) = check_images([photo])
    assert (look.height, look.width, look.exact) == (1400, 2100, False)
    assert decode_image(photo, 512).shape == (700, 1050, 3)
    assert decode_image(photo).shape == (1400, 2100, 3)

    def never(*args: Any) -> Any:
        raise AssertionError("decoded again")

    monkeypatch.setattr(checks, "decode_with_size", never)
    assert check_images([photo]) == [look]


def test_a_changed_file_is_looked_at_again(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(colors(5, 5)))
    first = check_images([file])
    file.write_bytes(encoded(colors(7, 9)))
    assert (check_images([file])[0].height, first[0].height) == (7, 5)


def test_remembered_checks_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "MAX_REMEMBERED", 3)
    monkeypatch.setattr(checks, "_checks", {})
    contents = [encoded(colors(seed=seed)) for seed in range(8)]
    assert len({look.digest for look in check_images(contents)}) == 8
    assert len(checks._checks) <= 3


def test_digest_tells_shapes_apart() -> None:
    flat = np.zeros((4, 9, 3), dtype=np.uint8)
    first, second, third = check_images([flat, flat.reshape(9, 4, 3), flat.copy()])
    assert first.digest != second.digest
    assert first.digest == third.digest


def test_map_blocks_keeps_the_order() -> None:
    assert map_blocks(lambda block: [i * i for i in block], 1000) == [i * i for i in range(1000)]
    assert map_blocks(list, 0) == []


def test_eight_bit_factor() -> None:
    assert eight_bit_factor(0, 1, whole=False) == 255
    assert eight_bit_factor(0, 1, whole=True) == 1
    assert eight_bit_factor(0, 254.5, whole=False) == 1
    assert eight_bit_factor(0, 65535, whole=True) == 1 / 257
    assert eight_bit_factor(0, 65535, whole=False) is None
    assert eight_bit_factor(-1, 1, whole=False) is None
    assert eight_bit_factor(0, float("nan"), whole=False) is None
