"""Decode the images of a run within its time.

The order is random, with the first images of every class before others, so that what the time does not reach is left
out evenly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from windvane.data.images.checks import ImageCheck, check_images, decode_squares
from windvane.data.images.listing import ImageListing, Skipped
from windvane.data.images.sources import no_labels_error
from windvane.data.images.summary import describe_skipped
from windvane.errors import InputError
from windvane.runtime.columns.column_values import is_missing
from windvane.runtime.columns.table import Integers
from windvane.runtime.images import Item, Pixels
from windvane.search.strategy.budget import Budget, SlowdownMeter

DECODE_SHARE = 0.25  # of the budget, within which images are decoded
FIRST_DECODE_SHARE = 0.35  # the same for the first images of each class
SIZES_SHARE = 0.03  # within which the sizes of images are looked up
STEP, MIN_SIZE, MAX_SIZE = 32, 32, 224  # of the width and height at which images are kept, in pixels
MAX_PIXEL_BYTES = 2 * 2**30  # of all kept images
SAMPLED, SIZES_AT_ONCE = 64, 8  # images whose sizes decide at which size all are kept; between looks at the clock
FIRST_OF_CLASS = 8  # images of each class that are decoded before others
FIRST_OF_ALL = 16  # images that are decoded however late it is


@dataclass(frozen=True)
class DecodedImages:
    """The labelled images that were decoded in time, in random order, and what became of the others."""

    rows: list[int]  # positions in the listing
    items: list[Item]
    places: Integers  # of their pixels
    checks: list[ImageCheck]
    pixels: Pixels  # of all labelled images, also of those that cannot be used
    skipped: list[Skipped]
    n_late: int  # that the time did not reach
    seconds_per_image: float

    def take(self, kept: Sequence[int]) -> DecodedImages:
        """Return the images at some positions; the time did not reach the others."""
        return replace(
            self,
            rows=[self.rows[i] for i in kept],
            items=[self.items[i] for i in kept],
            places=self.places[kept],
            checks=[self.checks[i] for i in kept],
            n_late=self.n_late + len(self.rows) - len(kept),
        )


class ImageDecoder:
    """Decodes the images of a listing that train or validate; the constructor decodes the first few.

    Raises InputError if no image is labelled, and, in `finish`, if none can be read.
    """

    def __init__(self, listing: ImageListing, folder: Path, seed: int, budget: Budget) -> None:
        self._listing, self._budget = listing, budget
        self._meter, self._began = SlowdownMeter(), time.monotonic()
        used = [i for i, split in enumerate(listing.splits) if split != "test"]
        problems = {
            i: listing.problems[i] or ("it has no label" if is_missing(listing.labels[i]) else "") for i in used
        }
        candidates = [i for i in used if not problems[i]]
        self._skipped = [Skipped(listing.names[i], problem) for i, problem in problems.items() if problem]
        self._skipped += listing.skipped
        order, self._n_first = _decoding_order([listing.labels[i] for i in candidates], seed)
        self._candidates = [candidates[i] for i in order]
        self._items = [listing.items[i] for i in self._candidates]
        if not self._items:
            if all(is_missing(listing.labels[i]) for i in used):
                raise no_labels_error(listing)
            raise self._unreadable()
        self._pixels = _create_pixels(self._items, folder, budget.instant(SIZES_SHARE))
        self._n_begun = min(FIRST_OF_ALL, self._n_first)
        self._checks = self._decode(0, self._n_begun, math.inf)

    def slowdown(self) -> float:
        """Measure how many seconds a second of a core takes here so far."""
        return self._meter.read()

    def finish(self) -> DecodedImages:
        """Decode the other images, as far as the time goes."""
        n_images = len(self._items)
        checks = [
            *self._checks,
            *self._decode(self._n_begun, self._n_first, self._budget.instant(FIRST_DECODE_SHARE)),
            *self._decode(self._n_first, n_images, self._budget.instant(DECODE_SHARE)),
        ]
        self._pixels.flush()
        n_reached = sum(check is not None for check in checks)
        seconds_per_image = (time.monotonic() - self._began) / max(1, n_reached)
        self._skipped += [self._skip(place, c.problem) for place, c in enumerate(checks) if c is not None and c.problem]
        sound = [(place, check) for place, check in enumerate(checks) if check is not None and not check.problem]
        rows = [self._candidates[place] for place, _ in sound]
        kept = of_learned_classes(self._listing, rows)
        late = [self._candidates[place] for place, check in enumerate(checks) if check is None]
        self._skipped += self._not_learned(np.delete(rows, kept).tolist(), late)
        if not kept:
            raise self._unreadable()
        places = [sound[i][0] for i in kept]
        return DecodedImages(
            rows=[rows[i] for i in kept],
            items=[self._items[place] for place in places],
            places=np.array(places),
            checks=[sound[i][1] for i in kept],
            pixels=self._pixels,
            skipped=self._skipped,
            n_late=n_images - n_reached,
            seconds_per_image=seconds_per_image,
        )

    def _decode(self, start: int, stop: int, deadline: float) -> list[ImageCheck | None]:
        return decode_squares(self._items, self._pixels, np.arange(start, stop), deadline)

    def _skip(self, place: int, problem: str) -> Skipped:
        return Skipped(self._listing.names[self._candidates[place]], problem)

    def _not_learned(self, rows: Sequence[int], late: Sequence[int]) -> list[Skipped]:
        """Say why the classes of some images have no training image; the time did not reach the images `late`."""
        listing = self._listing
        listed = {str(label) for label, split in zip(listing.labels, listing.splits, strict=True) if split == "train"}
        not_reached = {str(listing.labels[i]) for i in late if listing.splits[i] == "train"}
        skipped = []
        for i in rows:
            label = str(listing.labels[i])
            reason = f"its class {label!r} is not in the training split"
            if label in not_reached:
                reason = f"no training image of its class {label!r} was reached in the time"
            elif label in listed:
                reason = f"no training image of its class {label!r} can be read"
            skipped.append(Skipped(listing.names[i], reason))
        return skipped

    def _unreadable(self) -> InputError:
        words = ["source has no labelled image that can be read.", *describe_skipped(self._skipped)]
        return InputError(" ".join(words))


def of_learned_classes(listing: ImageListing, rows: Sequence[int]) -> list[int]:
    """Return the positions in `rows` of the images whose class has a training image among them."""
    labels = [str(listing.labels[i]) for i in rows]
    learned = {label for label, i in zip(labels, rows, strict=True) if listing.splits[i] == "train"}
    return [position for position, label in enumerate(labels) if label in learned]


def _decoding_order(labels: Sequence[Any], seed: int) -> tuple[Integers, int]:  # (n,)
    """Shuffle the images; a few of each class come before all others, and their number is returned too."""
    order = np.random.default_rng(seed).permutation(len(labels))
    seen: dict[str, int] = {}
    rounds = []  # in which an image comes: the first of each class, the second, ... , and then all others
    for i in order.tolist():
        seen[str(labels[i])] = seen.get(str(labels[i]), 0) + 1
        rounds.append(min(seen[str(labels[i])], FIRST_OF_CLASS + 1))
    n_first = sum(one <= FIRST_OF_CLASS for one in rounds)
    return order[np.argsort(rounds, kind="stable")], n_first


def _create_pixels(items: Sequence[Item], folder: Path, deadline: float) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Create a file for the images, mapped into memory; its size is the median of images that are looked at in time."""
    looked_at: list[ImageCheck] = []
    for i in range(0, SAMPLED, SIZES_AT_ONCE):
        looked_at += check_images(items[:SAMPLED][i : i + SIZES_AT_ONCE])
        if time.monotonic() >= deadline:
            break
    sides = [(check.height * check.width) ** 0.5 for check in looked_at if not check.problem]
    size = int(np.clip(STEP * round(float(np.median(sides or [MAX_SIZE])) / STEP), MIN_SIZE, MAX_SIZE))
    while size > MIN_SIZE and len(items) * size**2 * 3 > MAX_PIXEL_BYTES:
        size -= STEP
    shape = (len(items), size, size, 3)
    return np.lib.format.open_memmap(folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
