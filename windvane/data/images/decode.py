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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from windvane.errors import InputError
from windvane.runtime.columns.table import Integers
from windvane.settings import available_cores

Pixels = NDArray[np.uint8]
Item = Path | bytes | Pixels
T = TypeVar("T")

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
MAX_PIXELS = 89_478_485  # of one image: 256 MB of RGB, as in Pillow
BACKGROUND = 255  # behind transparent pixels
CHECKED_SIZE = 512  # at which a check decodes large JPEG files, in a fraction of the time
BLOCK = 128  # images that a thread takes at a time
MAX_REMEMBERED = 500_000  # in the memory of a process

_ORIENTED = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")  # where Pillow finds an orientation


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """Result of decoding an image once."""

    height: int  # in pixels, upright; 0 if it cannot be decoded
    width: int
    digest: bytes  # of its pixels
    exact: bool  # whether these were all pixels, or those of a smaller copy
    problem: str = ""  # why it cannot be decoded


def decode_image(item: Item, at_least: int | None = None) -> Pixels:  # (h, w, 3)
    """Decode a file, its bytes, or a uint8 array (h, w) or (h, w, c) with up to 4 channels to RGB bytes (h, w, 3)."""
    # Two channels are gray and alpha. With `at_least`, a larger JPEG file is decoded at a half, a quarter or an eighth
    # of its size if both sides keep that many pixels, which is faster. Raises `InputError` with the reason only.
    try:
        try:
            return _decode(item, at_least)[0]
        except Warning:  # only if the user's filters turn warnings of Pillow into errors
            with _filters, catch_warnings():
                simplefilter("ignore")
                return _decode(item, at_least)[0]
    except Exception as error:  # decoders raise whatever damaged bytes lead to: SyntaxError, struct.error, KeyError
        raise InputError(_reason(item, error)) from error


def check_images(items: Any) -> list[ImageCheck]:
    """Decode every image once, in threads, to know beforehand which cannot be decoded."""
    # Results about files (of that size and date) and encoded bytes are remembered in the process.
    with _filters, catch_warnings():  # here, not in the threads
        simplefilter("ignore")
        return map_blocks(lambda block: [_check(items[i]) for i in block], len(items))


def decode_squares(
    items: Sequence[Item], out: Pixels, positions: Integers, deadline: float = math.inf
) -> list[ImageCheck | None]:
    """Decode the images at `positions`, in that order and in threads, to squares in `out`, of shape (n, s, s, 3).

    Returns a result for each position; None for those that were not reached before `deadline`, a `time.monotonic`
    instant. What cannot be decoded stays as it is in `out`.
    """

    def decode_block(block: range) -> list[ImageCheck | None]:
        return [
            None if time.monotonic() >= deadline else _decode_square(items[i], out[i])
            for i in positions[block.start : block.stop].tolist()
        ]

    with _filters, catch_warnings():
        simplefilter("ignore")
        return map_blocks(decode_block, len(positions))


def _decode_square(item: Item, out: Pixels) -> ImageCheck:
    size = len(out)
    try:
        pixels, shape = _decode(item, size)
        out[:] = resize_square(pixels, size)
        return _check_of(pixels, shape)
    except Exception as error:  # as in decode_image
        return ImageCheck(0, 0, b"", True, _reason(item, error))


def resize_square(pixels: Pixels, size: int) -> Pixels:
    """Resize RGB bytes (h, w, 3) to a square (size, size, 3); bicubic."""
    from PIL import Image

    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0))


def map_blocks(work: Callable[[range], list[T]], n: int) -> list[T]:
    """Apply a function to blocks of the numbers 0 to n - 1, one thread per core; it returns one result per number."""
    blocks = [range(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
    if len(blocks) <= 1:
        return [result for block in blocks for result in work(block)]
    with ThreadPoolExecutor(min(available_cores(), len(blocks))) as threads:
        return [result for results in threads.map(work, blocks) for result in results]


def eight_bit_factor(low: float, high: float, whole: bool) -> float | None:
    """Return the factor that brings values to a byte, or None for values without a usual range."""
    # 255 for fractions of 0 to 1, 1 for values up to 255, 1 / 257 for integers of 16 bits.
    if not (low >= 0 and math.isfinite(high)):
        return None
    if not whole and high <= 1:
        return 255.0
    if high <= 255:
        return 1.0
    return 1 / 257 if whole and high <= 65535 else None


def _check(item: Item) -> ImageCheck:
    key = _key(item)
    if key is not None and key in _checks:
        return _checks[key]
    try:
        check = _check_of(*_decode(item, CHECKED_SIZE))
    except Exception as error:  # as in decode_image
        check = ImageCheck(0, 0, b"", True, _reason(item, error))
    if key is not None:
        with _checks_lock:
            if len(_checks) >= MAX_REMEMBERED:
                _checks.clear()
            _checks[key] = check
    return check


def _check_of(pixels: Pixels, shape: tuple[int, int]) -> ImageCheck:
    """Describe an image of this height and width, given the pixels that were decoded of it."""
    height, width = shape
    digest = blake2b(np.ascontiguousarray(pixels).data, digest_size=16, key=b"%dx%d" % (height, width)).digest()
    return ImageCheck(height, width, digest, pixels.shape[:2] == (height, width))


_checks: dict[Any, ImageCheck] = {}
_checks_lock = threading.Lock()
_filters = threading.Lock()  # filters of warnings belong to the process


def _key(item: Item) -> Any:
    """Return what identifies an encoded image; None for arrays, which need no decoding."""
    if isinstance(item, bytes):
        return blake2b(item, digest_size=16).digest()
    if isinstance(item, Path):
        try:
            facts = item.stat()
        except OSError:
            return None
        return str(item.absolute()), facts.st_size, facts.st_mtime_ns
    return None


def _decode(item: Item, at_least: int | None) -> tuple[Pixels, tuple[int, int]]:  # (h, w, 3), full height, width
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
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:  # the pixels are sound, the metadata are damaged
        return bool(image.size != before)
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


def _reason(item: Item, error: Exception) -> str:
    """Return in words why an image cannot be decoded."""
    from PIL import Image, UnidentifiedImageError

    empty = len(item) == 0 if isinstance(item, bytes) else isinstance(item, Path) and _is_empty(item)
    if empty:
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
