"""Decode one image of any encoding to RGB bytes of shape (h, w, 3), upright and opaque.

Files are read by Pillow, of the formats `FORMATS` only (other plugins start programs). Of an animation the first frame
counts. The EXIF orientation is applied. Transparent images are laid on white. Gray becomes three equal channels; 16
bits a channel become 8; CMYK is converted as Pillow does, without a color profile.
"""

from __future__ import annotations

import io
import math
import os
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from .errors import InputError

Pixels = NDArray[np.uint8]
Item = Path | bytes | Pixels
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
MAX_PIXELS = 89_478_485  # of one image: 256 MB of RGB, as in Pillow
BACKGROUND = 255  # behind transparent pixels
CENTER_SHARE = 7 / 8  # of the short side, that the central square keeps: 224 of 256 pixels
_ORIENTED = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # where Pillow finds an orientation
warning_filters = threading.Lock()  # filters of warnings belong to the process


def decode_image(item: Item, at_least: int | None = None) -> Pixels:  # (h, w, 3)
    """Decode a file, its bytes, or a uint8 array (h, w) or (h, w, c) with up to 4 channels to RGB bytes (h, w, 3)."""
    # Two channels are gray and alpha. With `at_least`, a larger JPEG file is decoded at a half, a quarter or an eighth
    # of its size if both sides keep that many pixels, which is faster. Raises `InputError` with the reason only.
    try:
        try:
            return decode_with_size(item, at_least)[0]
        except Warning:  # only if the user's filters turn warnings of Pillow into errors
            with warning_filters, catch_warnings():
                simplefilter("ignore")
                return decode_with_size(item, at_least)[0]
    except Exception as error:  # decoders raise whatever damaged bytes lead to: SyntaxError, struct.error, KeyError
        raise InputError(describe_problem(item, error)) from error


def decode_with_size(
    item: Item, at_least: int | None
) -> tuple[Pixels, tuple[int, int]]:  # (h, w, 3), full height, width
    from PIL import Image

    if isinstance(item, np.ndarray):
        pixels = _from_array(item)
        return pixels, (pixels.shape[0], pixels.shape[1])
    with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item, formats=_formats()) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width:,} x {height:,} pixels are more than the {MAX_PIXELS:,} that are decoded")
        if at_least is not None:
            image.draft(None, (at_least, at_least))
        image.load()
        if _turn_upright(image):
            width, height = height, width
        return to_rgb(image), (height, width)


def describe_problem(item: Item, error: Exception) -> str:
    """Return in words why an image cannot be decoded."""
    from PIL import Image, UnidentifiedImageError

    if (isinstance(item, bytes) and not item) or (isinstance(item, Path) and _is_empty(item)):
        return "it is empty"
    if isinstance(error, UnidentifiedImageError):
        return f"it is no image of a known format ({', '.join(FORMATS)})"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than the {MAX_PIXELS:,} pixels that are decoded"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, MemoryError):
        return "the memory does not suffice to decode it"
    return str(error).strip() or type(error).__name__


def _is_empty(file: Path) -> bool:
    try:
        return os.stat(file).st_size == 0
    except OSError:
        return False


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this build of Pillow supports."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _turn_upright(image: Any) -> bool:
    """Apply the EXIF orientation; return whether height and width were swapped."""
    from PIL import ImageOps

    if image.format != "TIFF" and not any(name in image.info for name in _ORIENTED):
        return False
    before = image.size
    with suppress(Exception):  # the pixels are sound, the metadata are damaged
        ImageOps.exif_transpose(image, in_place=True)
    return bool(image.size != before)


def to_rgb(image: Any) -> Pixels:  # (h, w, 3)
    """Return RGB bytes (h, w, 3) of a loaded image of Pillow, of any mode."""
    from PIL import Image

    if image.mode == "F" or image.mode.startswith("I"):
        return _from_array(_from_wide(np.asarray(image)))
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (BACKGROUND, BACKGROUND, BACKGROUND, 255))
        image = Image.alpha_composite(ground, image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _from_wide(values: NDArray[Any]) -> Pixels:  # (h, w)
    """Convert 16 or 32 bits a pixel to 8; by the range of the image if no usual one holds."""
    whole = values.dtype.kind in "iu"
    finite = np.nan_to_num(values.astype(np.float64))
    low, high = float(finite.min()), float(finite.max())
    factor = eight_bit_factor(low, high, whole)
    if factor is None:
        finite, factor = finite - low, 255 / (high - low or 1.0)
    return np.rint(finite * (1 / 257 if whole and values.itemsize == 2 else factor)).astype(np.uint8)


def eight_bit_factor(low: float, high: float, whole: bool) -> float | None:
    """Return the factor that brings values to a byte, or None for values without a usual range.

    255 for fractions of 0 to 1, 1 for values up to 255, 1 / 257 for integers of 16 bits.
    """
    if not (low >= 0 and math.isfinite(high)):
        return None
    if not whole and high <= 1:
        return 255.0
    if high <= 255:
        return 1.0
    return 1 / 257 if whole and high <= 65535 else None


def _from_array(array: Pixels) -> Pixels:  # (h, w, 3)
    if array.ndim == 2:
        array = array[:, :, None]
    colors, alpha = (array[:, :, :-1], array[:, :, -1:]) if array.shape[2] in (2, 4) else (array, None)
    if colors.shape[2] == 1:
        colors = np.repeat(colors, 3, axis=2)
    if alpha is not None:
        share = alpha / np.float32(255)
        colors = np.rint(colors * share + BACKGROUND * (1 - share)).astype(np.uint8)
    return colors


def resize_square(pixels: Pixels, size: int) -> Pixels:
    """Resize RGB bytes (h, w, 3) to a square (size, size, 3); bicubic."""
    from PIL import Image

    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0))


def pixel_features(pixels: Pixels, size: int, deadline: float = math.inf) -> NDArray[np.float32]:
    """Return the pixels, from 0 to 1, of small copies of images (n, s, s, 3), of shape (n, size x size x 3).

    After `deadline`, a `time.monotonic` instant, those of the first images alone.
    """
    small = [resize_square(pixels[0], size)]
    for one in pixels[1:]:
        if time.monotonic() >= deadline:
            break
        small.append(resize_square(one, size))
    return np.reshape(small, (len(small), -1)).astype(np.float32) / np.float32(255)


def crop_center(pixels: Pixels, size: int) -> Pixels:
    """Resize the short side of RGB bytes (h, w, 3) to 8/7 of a size, and crop the central square (size, size, 3)."""
    from PIL import Image

    height, width = pixels.shape[:2]
    side = CENTER_SHARE * min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)  # the rest need not be resized
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=3.0))
