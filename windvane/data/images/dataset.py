"""Images in memory: `ImageDataset`, one split, decoded on demand; `ImageSplits`, training, validation and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from windvane.data.images.decode import Item, Pixels, decode_image, map_blocks
from windvane.data.images.duplicates import Duplicate
from windvane.data.images.folder import Skipped
from windvane.data.images.summary import describe_balance, describe_duplicates, describe_sizes, describe_skipped
from windvane.runtime.table import Integers
from windvane.errors import InputError

PARTS = {"train": "to train", "valid": "to validate", "test": "to test"}


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images of one part, decoded only when asked.

    Attributes
    ----------
    items
        Files, encoded bytes, or arrays of bytes of shape (h, w) or (h, w, c).
    labels
        Class numbers of shape (n,); for several labels at once 0 and 1 of shape (n, c); None where unknown.
    classes
        Names of the c classes.
    names
        What a report calls each image.
    sizes
        Height and width of each image, shape (n, 2); None before anybody has looked.
    """

    items: Sequence[Item]
    labels: Integers | None
    classes: tuple[str, ...]
    names: tuple[str, ...]
    sizes: Integers | None = None

    def __len__(self) -> int:
        return len(self.items)

    def decode(self, index: int, at_least: int | None = None) -> Pixels:  # (h, w, 3)
        """Decode one image.

        Parameters
        ----------
        index
            Of the image.
        at_least
            Pixels that both sides need at least: large JPEG files are then decoded at a fraction of their size, in a
            fraction of the time. None for the whole size.

        Returns
        -------
        ndarray
            RGB bytes of shape (h, w, 3), upright, on white where transparent.

        Raises
        ------
        InputError
            Where it cannot be decoded any more.
        """
        try:
            return decode_image(self.items[index], at_least)
        except InputError as error:
            raise InputError(f"{self.names[index]} could be decoded before, but not now: {error}.") from error

    def take(self, indices: Any) -> ImageDataset:
        """Choose images.

        Parameters
        ----------
        indices
            Positions, or n truth values.

        Returns
        -------
        ImageSet
            Of these, in this order.
        """
        indices = np.asarray(indices)
        chosen = np.arange(len(self))[indices if indices.size else np.zeros(0, dtype=np.int64)]
        return replace(
            self,
            items=tuple(self.items[i] for i in chosen),
            labels=None if self.labels is None else self.labels[chosen],
            names=tuple(self.names[i] for i in chosen),
            sizes=None if self.sizes is None else self.sizes[chosen],
        )

    def load_array(self, size: int) -> Pixels:  # (n, size, size, 3)
        """Decode all images to squares; for sets that fit in memory.

        Parameters
        ----------
        size
            Pixels a side. Other shapes are stretched, so that nothing is cut off.

        Returns
        -------
        ndarray
            RGB bytes of shape (n, size, size, 3).
        """
        squares = np.empty((len(self), size, size, 3), dtype=np.uint8)

        def fill(block: range) -> list[None]:
            for i in block:
                squares[i] = resize_square(self.decode(i, size), size)
            return [None for _ in block]

        map_blocks(fill, len(self))
        return squares


@dataclass(frozen=True, eq=False)
class ImageSplits:
    """Images to learn from, in parts.

    Attributes
    ----------
    train, valid, test
        The parts; None where there is none. Their classes are the same: those of the training part.
    skipped
        What was left out, and why.
    duplicates
        Images with equal pixels, as pairs.
    notes
        What else the user should know.
    seconds
        That reading and the first look took.
    """

    train: ImageDataset
    valid: ImageDataset | None
    test: ImageDataset | None
    skipped: tuple[Skipped, ...]
    duplicates: tuple[Duplicate, ...]
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def summary(self) -> str:
        """Describe the images in words.

        Returns
        -------
        str
            A line each for counts, sizes, imbalance, what was skipped, duplicates and notes.
        """
        sets = {words: part for name, words in PARTS.items() if (part := getattr(self, name)) is not None}
        counts = ", ".join(f"{len(part):,} {words}" for words, part in sets.items())
        lines = [f"{sum(map(len, sets.values())):,} images of {len(self.train.classes)} classes: {counts}."]
        sizes = [part.sizes for part in sets.values() if part.sizes is not None]
        if sizes:
            lines.append(describe_sizes(np.concatenate(sizes)))
        if self.train.labels is not None:
            lines.append(describe_balance(self.train.labels, self.train.classes))
        lines += describe_skipped(self.skipped) + describe_duplicates(self.duplicates)
        return "\n".join([*lines, *self.notes])


def resize_square(pixels: Pixels, size: int) -> Pixels:  # (size, size, 3)
    """Bring an image to a square.

    Parameters
    ----------
    pixels
        RGB bytes of shape (h, w, 3).
    size
        Pixels a side.

    Returns
    -------
    ndarray
        Of shape (size, size, 3); bicubic.
    """
    from PIL import Image

    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0))
