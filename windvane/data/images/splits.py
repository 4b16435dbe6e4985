"""Which images train and which validate: what belongs together stays together, each class holds out its share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.images.duplicates import connect
from windvane.data.images.listing import ImageListing
from windvane.data.splits import hold_out
from windvane.errors import InputError, check_choice
from windvane.pages.texts import counted
from windvane.runtime.columns.table import Integers

SHARE, MAX_SHARE, ENOUGH = 0.1, 0.2, 500  # a tenth validates; of few images more, until there are enough


def group_images(groups: Any, listing: ImageListing) -> Integers:  # (n,)
    """Return group numbers (n,), from a label per image, the name of a column, or a function of image names."""
    n = len(listing.items)
    if callable(groups):
        function: Callable[[str], Any] = groups
        groups = [function(name) for name in listing.names]
    elif isinstance(groups, str):
        table = pd.DataFrame() if listing.table is None else listing.table
        check_choice("groups", groups, table.columns)
        groups = table[groups].tolist()
    if not hasattr(groups, "__len__"):
        raise InputError(
            f"groups={groups!r} is not usable. Allowed: a label for each image, the name of a column, or a function of "
            "the name of an image."
        )
    if len(groups) != n:
        raise InputError(f"groups has {counted(len(groups), 'value')}, but there are {n} images.")
    _, codes = np.unique(np.asarray([str(group) for group in groups]), return_inverse=True)
    return codes.astype(np.int64)


def keep_together(groups: Integers, clusters: list[list[int]]) -> Integers:  # (n,)
    """Join groups (n,) that share an image, given clusters of positions of images with equal pixels."""
    pairs = [(int(groups[first]), int(groups[i])) for first, *others in clusters for i in others]
    return np.asarray(connect(pairs, int(groups.max()) + 1)[groups])


def share_to_hold_out(valid: float | None, n_images: int) -> float:
    """Return the share of the images that validates: the one given, or the default."""
    return valid if valid is not None else max(SHARE, min(MAX_SHARE, ENOUGH / n_images))


def hold_out_images(
    splits: NDArray[np.str_], labels: Integers, valid: float | None, together: Integers, seed: int
) -> tuple[NDArray[np.str_], list[str]]:
    """Move a share of the training images to validation, unless there is a validation split."""
    # `splits` has "train", "valid" or "test" for each image; `labels` are class numbers (n,), or 0 and 1 of shape
    # (n, c); `valid` is the share, 0 for none, None for the default; images of one number in `together` stay together.
    # Returns the new splits and notes in words.
    trains = np.flatnonzero(splits == "train")
    if (splits == "valid").any():
        if valid is not None:
            raise InputError(f"valid={valid!r} is given, but source has a validation split. Leave it out.")
        return splits, []
    share = share_to_hold_out(valid, len(trains))
    if share == 0:
        return splits, ["No validation split: no score can select a model without bias."]
    fold = hold_out(_strata(labels[trains]), share, together[trains], seed=seed)
    splits = splits.copy()
    splits[trains[fold.validation]] = "valid"
    words = f"{len(fold.validation):,} of {len(trains):,} training images were held out to validate (seed {seed})"
    return splits, [f"{words}; images that belong together stay together."]


def _strata(labels: Integers) -> Integers:  # (n,)
    """Return the class of each image; of several the rarest, and one number more for none."""
    if labels.ndim == 1:
        return labels
    counts = labels.sum(axis=0)  # (c,)
    rarest = np.where(labels == 1, counts, len(labels) + 1).argmin(axis=1)
    return np.asarray(np.where(labels.any(axis=1), rarest, labels.shape[1]))
