"""Groups of images that show one object, such as the frames of a track: suggested by names, confirmed by features."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from windvane.runtime.columns.table import Floats, Integers

MAX_COMPARED = 3_000  # images
MIN_SHARE = 0.5  # of the images that belong to a group of two or more
MIN_GROUPS = 5  # of two or more images, and twice as many as classes: fewer are classes, days, cameras
MIN_LIFT, MIN_GAIN = 3.0, 0.25  # of the share of neighbours in the same group over that by chance


@dataclass(frozen=True, eq=False)
class ObjectGroups:
    """Groups of images that show one object."""

    groups: Integers  # group number of each image, (n,)
    n_groups: int  # of two or more images
    example: tuple[str, str]  # names of two images of one group
    share: float  # of images whose nearest neighbour within the class is of the same group
    chance: float  # the same if neighbours were drawn at random

    def describe(self) -> str:
        """Say in a sentence what was found."""
        one, other = self.example
        return (
            f"Names such as {one} and {other} say that they show the same object, and the images agree: "
            f"{self.share:.0%} of them are nearest to one of the same group, by chance {self.chance:.0%}."
        )


def object_key(name: str) -> str:
    """Return what the names of images of one object share, all but the last word; empty where that has no number.

    Examples
    --------
    >>> object_key("left/00007_00012_00003.ppm"), object_key("rose_12.jpg")
    ('00007_00012', '')
    """
    words = re.split(r"[\W_]+", PurePath(name).stem.strip("()_ "))
    start = "_".join(words[:-1])
    return start if re.search(r"\d", start) else ""


def find_object_groups(names: Sequence[str], target: Integers, features: Floats, seed: int = 0) -> ObjectGroups | None:
    """Group images by their names; None where the names suggest no groups, or `features` (n, p) do not confirm them."""
    keys = np.array([object_key(name) for name in names])
    stems = [PurePath(name).stem for name in names]
    if len(set(zip(stems, target.tolist(), strict=True))) > len(set(stems)):  # each class counts from the start
        keys = np.array([key and f"{code} {key}" for key, code in zip(keys, target, strict=True)])
    alone = np.array([key or f"\0{i}" for i, key in enumerate(keys.tolist())])
    _, groups, sizes = np.unique(alone, return_inverse=True, return_counts=True)
    grouped = sizes[groups] > 1
    n_groups, n_classes = int((sizes > 1).sum()), len(np.unique(target))
    if grouped.mean() < MIN_SHARE or n_groups < max(MIN_GROUPS, 2 * n_classes):
        return None
    share, chance = _same_group_neighbours(groups.astype(np.int64), target, features, np.random.default_rng(seed))
    if not share >= max(MIN_LIFT * chance, chance + MIN_GAIN):
        return None
    one, other = np.flatnonzero(groups == groups[np.flatnonzero(grouped)[0]])[:2].tolist()
    return ObjectGroups(groups.astype(np.int64), n_groups, (names[one], names[other]), share, chance)


def _same_group_neighbours(
    groups: Integers, target: Integers, features: Floats, rng: np.random.Generator
) -> tuple[float, float]:
    """Share of images whose nearest neighbour within the class is of their group, and that share by chance."""
    order = rng.permutation(int(groups.max()) + 1)[groups]  # whole groups in random order
    rows = np.argsort(order, kind="stable")[:MAX_COMPARED]
    groups, target = groups[rows], target[rows]
    centered = features[rows] - features[rows].mean(axis=0)
    lengths = np.linalg.norm(centered, axis=1, keepdims=True)
    unit = np.divide(centered, lengths, out=np.zeros_like(centered), where=lengths > 0)
    hits: list[NDArray[np.bool_]] = []
    chances: list[Floats] = []
    for code in np.unique(target):
        of_class = np.flatnonzero(target == code)
        same = groups[of_class][:, None] == groups[of_class]  # (c, c)
        others = same.sum(axis=1) - 1
        asked = np.flatnonzero(others > 0)
        if not len(asked):
            continue
        similar = unit[of_class[asked]] @ unit[of_class].T  # (a, c)
        similar[np.arange(len(asked)), asked] = -np.inf
        hits.append(same[asked, similar.argmax(axis=1)])
        chances.append(others[asked] / (len(of_class) - 1))
    if not hits:
        return 0.0, 1.0
    return float(np.concatenate(hits).mean()), float(np.concatenate(chances).mean())
