"""Images to learn from: what is given is looked at once, so that no epoch is stopped by an image that cannot be read.

`read_images` brings folders, tables, arrays and datasets to one form. Every image is decoded once, in threads; what
cannot be decoded is left out and named. Images with equal pixels are found, and those that are trained on and judged
are named. Where no validation part is given, one is held out: a share of each class, with groups and duplicates kept
together.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from warnings import warn

import numpy as np
from numpy.typing import NDArray

from windvane.data.images.dataset import ImageDataset, ImageSplits
from windvane.data.images.decode import ImageCheck, check_images
from windvane.data.images.duplicates import Duplicate, find_duplicates
from windvane.data.images.folder import ImageListing, Skipped
from windvane.data.images.labels import encode_labels, spread_labels
from windvane.data.images.sources import Columns, list_images
from windvane.data.images.splits import group_images, hold_out_images, keep_together
from windvane.data.images.summary import describe_skipped
from windvane.errors import InputError


def read_images(
    source: Any,
    *,
    labels: Any = None,
    groups: Any = None,
    valid: float | None = None,
    columns: Columns | None = None,
    seed: int = 0,
) -> ImageSplits:
    """Read images to learn from.

    Parameters
    ----------
    source
        A folder with a sub-folder for each class, or with train, valid (or val, validation) and test above these; a
        table (Parquet, CSV, Feather, pandas, polars, Arrow) with a column of images; arrays of shape (n, h, w),
        (n, h, w, c) or (n, c, h, w) with numbers of 0 to 255, 0 to 1, or whole ones up to 65535; a list of arrays,
        files, encoded bytes or images of Pillow; a dataset of the library ``datasets``; or a mapping of the names of
        parts to any of these.
    labels
        For a source that has none: a label for each image, a list of labels for each, or rows of 0 and 1; a mapping
        where the source is one. Class names are text, in natural order.
    groups
        Images that belong together (frames of one track, pictures of one patient) and are not divided by the held-out
        share: a label for each image, the name of a column, or a function of an image's name.
    valid
        Share of the training images to hold out, 0 for none. None: the part that is given; where none is, a tenth, or
        up to a fifth to have 500.
    columns
        Of a table.
    seed
        Of the held-out share.

    Returns
    -------
    Images
        At least two images of two classes to train on.

    Raises
    ------
    InputError
        Where nothing usable is found, or an argument is not usable; says what came and what is allowed.
    """
    start = time.perf_counter()
    columns = columns or Columns()
    _check_share(valid)
    listing = _with_labels(source, labels, columns)
    parts = np.array(listing.parts)
    looks, problems = _look(listing)
    fine = np.array([not problem for problem in problems], dtype=np.bool_)
    encoded = encode_labels(listing.labels, (parts == "train") & fine)
    problems = [problem or other for problem, other in zip(problems, encoded.problems, strict=True)]
    kept = np.flatnonzero([not problem for problem in problems])
    skipped = [Skipped(*pair) for pair in zip(listing.names, problems, strict=True) if pair[1]] + listing.skipped
    _refuse_too_little(encoded.classes, parts[kept], skipped, columns)
    whole = ImageDataset(
        tuple(listing.items[i] for i in kept),
        encoded.codes[kept],
        encoded.classes,
        tuple(listing.names[i] for i in kept),
        np.array([(looks[i].height, looks[i].width) for i in kept], dtype=np.int64),
    )
    clusters = find_duplicates(whole.items, [looks[i] for i in kept])
    by_group = np.arange(len(kept)) if groups is None else group_images(groups, listing)[kept]
    together = keep_together(by_group, clusters)
    parts, notes = hold_out_images(parts[kept], encoded.codes[kept], valid, together, seed)
    if listing.empty:
        notes = [f"Without images: {', '.join(listing.empty)}.", *notes]
    return ImageSplits(
        train=whole.take(parts == "train"),
        valid=whole.take(parts == "valid") if (parts == "valid").any() else None,
        test=whole.take(parts == "test") if (parts == "test").any() else None,
        skipped=tuple(skipped),
        duplicates=tuple(_pair(clusters, whole, parts)),
        notes=tuple(notes),
        seconds=time.perf_counter() - start,
    )


def read_unlabelled(source: Any, *, columns: Columns | None = None) -> ImageDataset:
    """Read images to predict on.

    Parameters
    ----------
    source
        As for `read_images`, or a folder of images at any depth, or one file. Labels are not looked at.
    columns
        Of a table.

    Returns
    -------
    ImageSet
        Without labels and classes. A warning names what cannot be decoded and is left out.

    Raises
    ------
    InputError
        Where nothing usable is found.
    """
    listing = list_images(source, columns or Columns(), labelled=False)
    looks, problems = _look(listing)
    kept = [i for i, problem in enumerate(problems) if not problem]
    skipped = [Skipped(*pair) for pair in zip(listing.names, problems, strict=True) if pair[1]] + listing.skipped
    if not kept:
        raise InputError(" ".join(["source has no image that can be read.", *describe_skipped(skipped)]))
    if skipped:
        warn(" ".join(describe_skipped(skipped)), UserWarning, stacklevel=2)
    sizes = np.array([(looks[i].height, looks[i].width) for i in kept], dtype=np.int64)
    return ImageDataset(tuple(listing.items[i] for i in kept), None, (), tuple(listing.names[i] for i in kept), sizes)


def _check_share(valid: float | None) -> None:
    if valid is not None and not (isinstance(valid, int | float) and 0 <= valid < 1):
        raise InputError(f"valid={valid!r} is not usable. Allowed: a share from 0 (none) to below 1, or None.")


def _with_labels(source: Any, labels: Any, columns: Columns) -> ImageListing:
    """List the images, with the labels that are given beside them."""
    listing = list_images(source, columns)
    if labels is None:
        return listing
    if isinstance(source, dict) and isinstance(labels, dict):
        if list(source) != list(labels):
            raise InputError(f"labels has the parts {', '.join(labels)}, but source has {', '.join(source)}.")
        given = [label for part in labels.values() for label in spread_labels(part)]
    else:
        given = spread_labels(labels)
    if any(label is not None for label in listing.labels) and not columns.label and listing.table is None:
        raise InputError("labels is given, but the folders of source are classes already.")
    if len(given) != len(listing.items):
        raise InputError(f"labels has {len(given)} entries, but there are {len(listing.items)} images.")
    return replace(listing, labels=given)


def _look(listing: ImageListing) -> tuple[list[ImageCheck], list[str]]:
    """Look at every image; and say of each why it cannot be used."""
    looks = check_images(listing.items)
    return looks, [known or look.problem for known, look in zip(listing.problems, looks, strict=True)]


def _refuse_too_little(
    classes: Sequence[str], parts: NDArray[Any], skipped: Sequence[Skipped], columns: Columns
) -> None:
    words = " ".join(describe_skipped(skipped))
    if not (parts == "train").any():
        hint = "" if columns.label else " A folder has a sub-folder for each class; a table a column of labels."
        raise InputError(f"source has no training image that can be read and has a label.{hint} {words}".strip())
    if len(classes) < 2:
        raise InputError(
            f"source has one class only ({', '.join(classes)}), but at least two are needed. {words}".strip()
        )


def _pair(clusters: list[list[int]], whole: ImageDataset, parts: NDArray[Any]) -> list[Duplicate]:
    """Pair the first image of each cluster, one of the training part if there is one, with each of the others."""
    pairs = []
    for cluster in clusters:
        first, *others = sorted(cluster, key=lambda i: parts[i] != "train")
        for i in others:
            same = whole.labels is None or bool(np.all(whole.labels[first] == whole.labels[i]))
            pairs.append(Duplicate((whole.names[first], whole.names[i]), (str(parts[first]), str(parts[i])), same))
    return pairs
