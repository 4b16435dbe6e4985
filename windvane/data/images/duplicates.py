"""Which images are the same, pixel by pixel, however they are named or encoded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from windvane.data.images.decode import ImageCheck, Item, decode_image
from windvane.errors import InputError


@dataclass(frozen=True)
class Duplicate:
    """Two images with equal pixels.

    Attributes
    ----------
    names
        What they are called.
    splits
        The parts they are in: "train", "valid" or "test".
    same_label
        Whether they bear the same label; True where there are none.
    """

    names: tuple[str, str]
    splits: tuple[str, str]
    same_label: bool

    @property
    def leaks(self) -> bool:
        """Whether they are in different parts."""
        return self.splits[0] != self.splits[1]


def find_duplicates(items: Sequence[Item], looks: Sequence[ImageCheck]) -> list[list[int]]:
    """Find the images that have equal pixels.

    Parameters
    ----------
    items
        The images.
    looks
        What a first look has found about each; none has a problem.

    Returns
    -------
    list of list of int
        Clusters of at least two positions, in order of their first ones.
    """
    clusters: list[list[int]] = []
    for positions in _alike(range(len(looks)), (look.digest for look in looks)):
        if all(looks[i].exact for i in positions):
            clusters.append(positions)
        else:  # smaller copies are equal; are they?
            clusters += _alike(positions, (_whole_digest(items[i], i) for i in positions))
    return clusters


def _alike(positions: Iterable[int], keys: Iterable[Hashable]) -> list[list[int]]:
    by_key: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in zip(positions, keys, strict=True):
        by_key[key].append(i)
    return [found for found in by_key.values() if len(found) > 1]


def _whole_digest(item: Item, i: int) -> Hashable:
    try:
        return blake2b(decode_image(item).tobytes(), digest_size=16).digest()
    except InputError:
        return i
