"""Check many images at once: which can be decoded, how large they are, and the digest of their pixels."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar
from warnings import catch_warnings, simplefilter

import numpy as np

from windvane.runtime.columns.table import Integers
from windvane.runtime.images import Item, Pixels, decode_with_size, describe_problem, resize_square, warning_filters
from windvane.settings import available_cores

T = TypeVar("T")

CHECKED_SIZE = 512  # at which a check decodes large JPEG files, in a fraction of the time
BLOCK = 128  # images that a thread takes at a time
MAX_REMEMBERED = 500_000  # in the memory of a process


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """Result of decoding an image once."""

    height: int  # in pixels, upright; 0 if it cannot be decoded
    width: int
    digest: bytes  # of its pixels
    exact: bool  # whether these were all pixels, or those of a smaller copy
    problem: str = ""  # why it cannot be decoded


def check_images(items: Any) -> list[ImageCheck]:
    """Decode every image once, in threads; results for files and encoded bytes are remembered in the process."""
    return _map_quietly(lambda block: [_check(items[i]) for i in block], len(items))


def decode_squares(
    items: Sequence[Item], out: Pixels, positions: Integers, deadline: float = math.inf
) -> list[ImageCheck | None]:
    """Decode the images at `positions`, in that order and in threads, to squares in `out`, of shape (n, s, s, 3).

    Returns a result for each position; None for those that were not reached before `deadline`, a `time.monotonic`
    instant. What cannot be decoded stays as it is in `out`.
    """

    def decode_block(block: range) -> list[ImageCheck | None]:
        return [
            None if time.monotonic() >= deadline else _decode(items[i], out.shape[1], out[i])
            for i in positions[block.start : block.stop].tolist()
        ]

    return _map_quietly(decode_block, len(positions))


def map_blocks(function: Callable[[range], list[T]], n: int) -> list[T]:
    """Apply a function to blocks of the numbers 0 to n - 1, one thread per core; it returns one result per number."""
    blocks = [range(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
    if len(blocks) <= 1:
        return [result for block in blocks for result in function(block)]
    with ThreadPoolExecutor(min(available_cores(), len(blocks))) as threads:
        return [result for results in threads.map(function, blocks) for result in results]


def _map_quietly(function: Callable[[range], list[T]], n: int) -> list[T]:
    with warning_filters, catch_warnings():  # here, not in the threads
        simplefilter("ignore")
        return map_blocks(function, n)


def _check(item: Item) -> ImageCheck:
    key = _key(item)
    if key is not None and key in _checks:
        return _checks[key]
    check = _decode(item, CHECKED_SIZE)
    if key is not None:
        with _checks_lock:
            if len(_checks) >= MAX_REMEMBERED:
                _checks.clear()
            _checks[key] = check
    return check


def _decode(item: Item, size: int, square: Pixels | None = None) -> ImageCheck:
    """Decode an image whose sides keep `size` pixels if they have them, and fill a square of that size, if given."""
    try:
        pixels, (height, width) = decode_with_size(item, size)
        if square is not None:
            square[:] = resize_square(pixels, size)
        key = b"%dx%d" % (height, width)
        digest = blake2b(np.ascontiguousarray(pixels).data, digest_size=16, key=key).digest()
        return ImageCheck(height, width, digest, pixels.shape[:2] == (height, width))
    except Exception as error:  # as in decode_image
        return ImageCheck(0, 0, b"", True, describe_problem(item, error))


_checks: dict[Any, ImageCheck] = {}
_checks_lock = threading.Lock()


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
