"""Find images with equal pixels, whatever their name or encoding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from windvane.data.images.checks import ImageCheck
from windvane.errors import InputError
from windvane.runtime.images import Item, decode_image


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


def find_duplicates(items: Sequence[Item], checks: Sequence[ImageCheck]) -> list[list[int]]:
    """Return the positions of images with equal pixels, in clusters, by their checks, none of which has a problem."""
    clusters: list[list[int]] = []
    for positions in _alike(range(len(checks)), (check.digest for check in checks)):
        if all(checks[i].exact for i in positions):
            clusters.append(positions)
        else:  # their smaller copies are equal; are they?
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
