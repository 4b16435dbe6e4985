"""Find images with equal pixels, whatever their name or encoding, and images that look the same."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise, takewhile

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from windvane.data.images.checks import ImageCheck, map_blocks
from windvane.errors import InputError
from windvane.runtime.columns.table import Integers
from windvane.runtime.images import Item, Pixels, decode_image

_HASH_SIDE = 16  # the hash has a bit for each of 16 x 16 pairs of neighbouring cells
_MAX_BITS = 12  # that differ between images that look the same
_MARGIN = 2.0  # of brightness between neighbours; less is noise
_MAX_GRAY = 5.0  # mean difference of their cells, of 255
_MIN_CONTRAST = 4.0  # standard deviation of the cells below which a hash is noise
MAX_CLUSTER = 0.05  # of the images
CELLS_SHARE = 0.3  # of the time for a search for copies; comparing takes twice as long as the cells
_MAX_BUCKET = 64  # images that share a band of the hash and are compared with each other

Images = Pixels | Sequence[Pixels]  # a sequence of parts of an array on disk is never read as a whole


@dataclass(frozen=True)
class Duplicate:
    """Two images with equal pixels."""

    names: tuple[str, str]
    splits: tuple[str, str]  # "train", "valid" or "test"
    same_label: bool  # True without labels

    @property
    def leaks(self) -> bool:
        """Whether they are in different splits."""
        return self.splits[0] != self.splits[1]


def find_duplicates(items: Sequence[Item], checks: Sequence[ImageCheck], deadline: float = math.inf) -> list[list[int]]:
    """Return the positions of images with equal pixels, in clusters; each has a check without a problem.

    After `deadline`, a `time.monotonic` instant, large images count as equal where their smaller copies are.
    """
    clusters: list[list[int]] = []
    for positions in _equal_by(range(len(checks)), (check.digest for check in checks)):
        if all(checks[i].exact for i in positions) or time.monotonic() >= deadline:
            clusters.append(positions)
        else:  # their smaller copies are equal; are they?
            clusters += _equal_by(positions, (_whole_digest(items[i], i) for i in positions))
    return clusters


def _equal_by(positions: Iterable[int], keys: Iterable[Hashable]) -> list[list[int]]:
    by_key: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in zip(positions, keys, strict=True):
        by_key[key].append(i)
    return [found for found in by_key.values() if len(found) > 1]


def _whole_digest(item: Item, i: int) -> Hashable:
    try:
        return blake2b(decode_image(item).tobytes(), digest_size=16).digest()
    except InputError:
        return i


def find_copies(pixels: Images, deadline: float = math.inf) -> tuple[list[list[int]], int]:
    """Return the positions of images (s, s, 3) that look the same, in clusters, and how many images were compared.

    Two images look the same if few bits of their difference hashes (dHash, 256 bits) differ, and their cells are about
    equally bright. Clusters so large that they are a common look, not copies, are left out. Compared are as many of the
    first images as the time before `deadline`, a `time.monotonic` instant, allows.
    """
    now = time.monotonic()
    cells = _all_gray_cells(pixels, now + CELLS_SHARE * (deadline - now))
    largest = max(2, MAX_CLUSTER * len(cells))
    return [one for one in _near_duplicates(cells) if len(one) <= largest], len(cells)


def count_copies(pixels: Images, others: Images, deadline: float = math.inf) -> int | None:
    """Count the images that look like one of the others, by `find_copies`; None if that lasts beyond `deadline`."""
    n, both = len(pixels), [*pixels, *others]
    clusters, n_compared = find_copies(both, deadline)
    if n_compared < len(both):
        return None
    return sum(sum(i < n for i in one) for one in clusters if max(one) >= n)


def _all_gray_cells(pixels: Images, deadline: float) -> NDArray[np.float32]:
    """Return the cells (m, 16, 17) of the first images, as many as the time allows."""

    def cells_of(block: range) -> list[NDArray[np.uint8] | None]:
        return [None if time.monotonic() >= deadline else _gray_cells(pixels[i]) for i in block]

    found = list(takewhile(lambda one: one is not None, map_blocks(cells_of, len(pixels))))
    return np.array(found, dtype=np.float32).reshape(-1, _HASH_SIDE, _HASH_SIDE + 1)


def _near_duplicates(cells: NDArray[np.float32]) -> list[list[int]]:
    if len(cells) < 2:
        return []
    bits = (cells[:, :, 1:] > cells[:, :, :-1] + _MARGIN).reshape(len(cells), -1)  # (n, 256)
    sharp = np.flatnonzero(cells.std(axis=(1, 2)) >= _MIN_CONTRAST)
    # At most 12 bits differ, so at least 4 of the 16 bands are equal.
    bands = np.packbits(bits, axis=1).view(np.uint16).astype(np.int32)  # (n, 16)
    pairs: list[tuple[int, int]] = []
    for band in bands.T:
        order = sharp[np.argsort(band[sharp], kind="stable")]
        starts = np.flatnonzero(np.diff(band[order], prepend=-1, append=-1))
        for start, stop in pairwise(starts.tolist()):
            bucket = order[start : min(stop, start + _MAX_BUCKET)]
            if len(bucket) > 1:
                pairs += _similar_pairs(bucket, bits, cells)
    return _equal_by(range(len(cells)), connect(sorted(set(pairs)), len(cells)).tolist())


def connect(pairs: Sequence[tuple[int, int]], n: int) -> Integers:  # (n,)
    """Number the groups into which pairs join 0 to n - 1."""
    left, right = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    links = coo_matrix((np.ones(len(left)), (left, right)), shape=(n, n))
    return np.asarray(connected_components(links, directed=False)[1], dtype=np.int64)


def _similar_pairs(
    bucket: NDArray[np.intp], bits: NDArray[np.bool_], cells: NDArray[np.float32]
) -> list[tuple[int, int]]:
    differing = (bits[bucket][:, None] != bits[bucket][None]).sum(axis=2)  # (b, b)
    found = []
    for i, j in zip(*np.nonzero(np.triu(differing <= _MAX_BITS, k=1)), strict=True):
        one, other = int(bucket[i]), int(bucket[j])
        if np.abs(cells[one] - cells[other]).mean() <= _MAX_GRAY:
            found.append((one, other))
    return found


def _gray_cells(pixels: Pixels) -> NDArray[np.uint8]:  # (16, 17)
    from PIL import Image

    size = (_HASH_SIDE + 1, _HASH_SIDE)
    return np.asarray(Image.fromarray(pixels).convert("L").resize(size, Image.Resampling.BOX))
