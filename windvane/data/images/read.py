"""Read images to learn from: every image is decoded once up front, so no epoch stops at one that cannot be read.

What cannot be decoded is left out and named. Images with equal pixels are found, and pairs across splits are named.
Without a validation split a share of each class is held out, with groups and duplicates kept together.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.images.checks import ImageCheck, check_images
from windvane.data.images.dataset import ImageDataset, ImageSplits
from windvane.data.images.duplicates import Duplicate, find_duplicates
from windvane.data.images.labels import encode_labels, spread_labels
from windvane.data.images.listing import ImageListing, Skipped
from windvane.data.images.sources import Columns, list_images
from windvane.data.images.splits import group_images, hold_out_images, keep_together
from windvane.data.images.summary import describe_skipped
from windvane.errors import InputError, check_usable, warn_user
from windvane.pages.texts import counted


def read_images(
    source: Any,
    *,
    labels: Any = None,
    groups: Any = None,
    valid: float | None = None,
    columns: Columns | None = None,
    seed: int = 0,
) -> ImageSplits:
    """Read labelled images.

    Parameters
    ----------
    source
        A folder with a sub-folder for each class, or with train, valid (or val, validation) and test above these; a
        table (Parquet, CSV, Feather, pandas, polars, Arrow) with a column of images; arrays of shape (n, h, w),
        (n, h, w, c) or (n, c, h, w) with values of 0 to 255, 0 to 1, or integers up to 65535; a list of arrays, files,
        encoded bytes or images of Pillow; a dataset of the library ``datasets``; or a mapping of split names to any of
        these.
    labels
        For a source without labels: one label per image, a list of labels per image, or rows of 0 and 1; a mapping if
        the source is one. Class names are text, in natural order.
    groups
        Images that belong together (frames of one track, pictures of one patient) and stay in one split: a label for
        each image, the name of a column, or a function of the name of an image.
    valid
        Fraction of the training images to hold out, 0 for none. None for the given validation split, or else a tenth,
        up to a fifth if that is needed to have 500.
    columns
        Which columns of a table hold what.
    seed
        Seed of the hold-out.

    Returns
    -------
    ImageSplits
        At least two images of two classes to train on.

    Examples
    --------
    >>> data = read_images("flowers/")  # doctest: +SKIP
    >>> print(data.summary())  # doctest: +SKIP
    """
    start = time.perf_counter()
    columns = columns or Columns()
    usable = valid is None or (isinstance(valid, int | float) and 0 <= valid < 1)
    check_usable("valid", valid, usable, "a share from 0 (none) to below 1, or None")
    listing = list_labelled(source, labels, columns)
    splits = np.array(listing.splits)
    checks, problems = _check(listing)
    fine = np.array([not problem for problem in problems], dtype=np.bool_)
    encoded = encode_labels(listing.labels, (splits == "train") & fine)
    problems = [problem or other for problem, other in zip(problems, encoded.problems, strict=True)]
    kept = np.flatnonzero([not problem for problem in problems])
    skipped = listing.left_out(problems)
    _check_enough(encoded.classes, splits[kept], skipped, columns)
    whole = replace(_dataset(listing, checks, kept), labels=encoded.codes[kept], classes=encoded.classes)
    clusters = find_duplicates(whole.items, [checks[i] for i in kept])
    by_group = np.arange(len(kept)) if groups is None else group_images(groups, listing)[kept]
    together = keep_together(by_group, clusters)
    splits, notes = hold_out_images(splits[kept], encoded.codes[kept], valid, together, seed)
    if listing.empty:
        notes = [f"Without images: {', '.join(listing.empty)}.", *notes]
    return ImageSplits(
        train=whole.take(splits == "train"),
        valid=whole.take(splits == "valid") if (splits == "valid").any() else None,
        test=whole.take(splits == "test") if (splits == "test").any() else None,
        skipped=tuple(skipped),
        duplicates=tuple(_pair(clusters, whole, splits)),
        notes=tuple(notes),
        seconds=time.perf_counter() - start,
    )


def read_unlabelled(source: Any, *, columns: Columns | None = None) -> ImageDataset:
    """Read images to predict on.

    Parameters
    ----------
    source
        As for `read_images`, or a folder of images at any depth, or one file. Labels are ignored.
    columns
        Which columns of a table hold what.

    Returns
    -------
    ImageDataset
        Without labels and classes. A warning names the images that cannot be decoded and are left out.

    Examples
    --------
    >>> new = read_unlabelled("new_photos/")  # doctest: +SKIP
    """
    listing = list_images(source, columns or Columns(), labelled=False)
    checks, problems = _check(listing)
    kept = np.flatnonzero([not problem for problem in problems])
    skipped = listing.left_out(problems)
    if not len(kept):
        raise InputError(" ".join(["source has no image that can be read.", *describe_skipped(skipped)]))
    if skipped:
        warn_user(" ".join(describe_skipped(skipped)))
    return _dataset(listing, checks, kept)


def list_labelled(source: Any, labels: Any, columns: Columns, argument: str = "labels") -> ImageListing:
    """List the images of a source for training, with labels that are passed separately, or None."""
    # `argument` is what the user knows the labels by.
    listing = list_images(source, columns)
    if labels is None:
        return listing
    if isinstance(source, dict) and isinstance(labels, dict):
        if list(source) != list(labels):
            raise InputError(f"{argument} has the splits {', '.join(labels)}, but source has {', '.join(source)}.")
        given = [label for part in labels.values() for label in spread_labels(part, argument)]
    else:
        given = spread_labels(labels, argument)
    if any(label is not None for label in listing.labels) and not columns.label and listing.table is None:
        raise InputError(f"{argument} is given, but the folders of source are classes already.")
    if not listing.items and isinstance(source, str | os.PathLike):
        raise InputError(
            f"{argument} is given, but {str(source)!r} has no folders of classes, and its files have no order that "
            "labels could follow. Allowed: a list of files, in the order of the labels."
        )
    if len(given) != len(listing.items):
        raise InputError(
            f"{argument} has {counted(len(given), 'value')}, but there are {len(listing.items)} images. "
            "Allowed: a label for each."
        )
    return replace(listing, labels=given)


def _check(listing: ImageListing) -> tuple[list[ImageCheck], list[str]]:
    """Decode every image once; return why each cannot be used, mostly empty."""
    checks = check_images(listing.items)
    return checks, [known or check.problem for known, check in zip(listing.problems, checks, strict=True)]


def _dataset(listing: ImageListing, checks: Sequence[ImageCheck], kept: NDArray[np.intp]) -> ImageDataset:
    """Return the images at the positions that are kept, without labels."""
    items, names = tuple(listing.items[i] for i in kept), tuple(listing.names[i] for i in kept)
    sizes = np.array([(checks[i].height, checks[i].width) for i in kept], dtype=np.int64)
    return ImageDataset(items, None, (), names, sizes)


def _check_enough(classes: Sequence[str], splits: NDArray[Any], skipped: Sequence[Skipped], columns: Columns) -> None:
    words = " ".join(describe_skipped(skipped))
    if not (splits == "train").any():
        hint = "" if columns.label else " A folder has a sub-folder for each class; a table a column of labels."
        raise InputError(f"source has no training image that can be read and has a label.{hint} {words}".strip())
    if len(classes) < 2:
        raise InputError(
            f"source has one class only ({', '.join(classes)}), but at least two are needed. {words}".strip()
        )


def _pair(clusters: list[list[int]], whole: ImageDataset, splits: NDArray[Any]) -> list[Duplicate]:
    """Pair the first image of each cluster, a training image if there is one, with each of the others."""
    pairs = []
    for cluster in clusters:
        first, *others = sorted(cluster, key=lambda i: splits[i] != "train")
        for i in others:
            same = whole.labels is None or bool(np.all(whole.labels[first] == whole.labels[i]))
            pairs.append(Duplicate((whole.names[first], whole.names[i]), (str(splits[first]), str(splits[i])), same))
    return pairs
