"""Images in memory: `ImageDataset`, decoded on demand, and `ImageSplits` for training, validation and test."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from windvane.data.images.checks import map_blocks
from windvane.data.images.duplicates import Duplicate
from windvane.data.images.listing import Skipped
from windvane.data.images.summary import describe_balance, describe_duplicates, describe_sizes, describe_skipped
from windvane.errors import InputError
from windvane.runtime.columns.table import Integers
from windvane.runtime.images import CENTER_SHARE, Item, Pixels, crop_center, decode_image, resize_square

_PURPOSES = {"train": "to train", "valid": "to validate", "test": "to test"}


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images of one split, decoded on demand.

    Examples
    --------
    >>> import numpy as np
    >>> images = ImageDataset([np.zeros((8, 6, 3), np.uint8)], None, (), ("black",))
    >>> images.load_array(4).shape
    (1, 4, 4, 3)
    """

    items: Sequence[Item]  # files, encoded bytes, or uint8 arrays of shape (h, w) or (h, w, c)
    # Class numbers of shape (n,); 0 and 1 of shape (n, c) for several labels per image; None if unknown.
    labels: Integers | None
    classes: tuple[str, ...]  # names of the c classes
    names: tuple[str, ...]  # name of each image, for reports
    sizes: Integers | None = None  # height and width of each image, shape (n, 2); None if unknown

    def __len__(self) -> int:
        return len(self.items)

    def decode(self, index: int, at_least: int | None = None) -> Pixels:
        """Decode one image: uint8 RGB of shape (h, w, 3), upright, on white where transparent.

        With `at_least`, large JPEG files are decoded faster, at a fraction of their size, if both sides keep that many
        pixels.
        """
        try:
            return decode_image(self.items[index], at_least)
        except InputError as error:
            raise InputError(f"{self.names[index]} cannot be decoded: {error}.") from error

    def load(self, index: int, size: int, *, center: bool = False) -> Pixels:
        """Decode one image to a square of shape (size, size, 3): all of it, stretched, or its center."""
        if center:
            return crop_center(self.decode(index, math.ceil(size / CENTER_SHARE)), size)
        return resize_square(self.decode(index, size), size)

    def load_array(self, size: int, *, center: bool = False) -> Pixels:
        """Decode all images, in threads, to an array of shape (n, size, size, 3); for datasets that fit in memory."""
        squares = np.empty((len(self), size, size, 3), dtype=np.uint8)

        def fill(block: range) -> list[None]:
            for i in block:
                squares[i] = self.load(i, size, center=center)
            return [None for _ in block]

        map_blocks(fill, len(self))
        return squares

    def take(self, indices: Any) -> ImageDataset:
        """Return the images at these positions, or where a boolean mask is true."""
        indices = np.asarray(indices)
        chosen = np.arange(len(self))[indices if indices.size else np.zeros(0, dtype=np.int64)]
        return replace(
            self,
            items=tuple(self.items[i] for i in chosen),
            labels=None if self.labels is None else self.labels[chosen],
            names=tuple(self.names[i] for i in chosen),
            sizes=None if self.sizes is None else self.sizes[chosen],
        )


@dataclass(frozen=True, eq=False)
class ImageSplits:
    """Images to learn from, in splits.

    Examples
    --------
    >>> print(read_images("flowers/").summary())  # doctest: +SKIP
    """

    train: ImageDataset  # all splits have the classes of this one
    valid: ImageDataset | None
    test: ImageDataset | None
    skipped: tuple[Skipped, ...]  # what was left out, and why
    duplicates: tuple[Duplicate, ...]  # pairs of images with equal pixels
    notes: tuple[str, ...] = ()  # what else the user should know
    seconds: float = 0.0  # time of reading and checking

    def summary(self) -> str:
        """Describe counts, sizes, class balance, skipped images, duplicates and notes, one line each."""
        splits = {words: one for name, words in _PURPOSES.items() if (one := getattr(self, name)) is not None}
        counts = ", ".join(f"{len(one):,} {words}" for words, one in splits.items())
        lines = [f"{sum(map(len, splits.values())):,} images of {len(self.train.classes)} classes: {counts}."]
        sizes = [one.sizes for one in splits.values() if one.sizes is not None]
        if sizes:
            lines.append(describe_sizes(np.concatenate(sizes)))
        if self.train.labels is not None:
            lines.append(describe_balance(self.train.labels, self.train.classes))
        lines += describe_skipped(self.skipped) + describe_duplicates(self.duplicates)
        return "\n".join([*lines, *self.notes])
