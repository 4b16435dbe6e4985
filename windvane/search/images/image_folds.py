"""Which images validate: a split of the user, a share of the images, or folds; what belongs together stays together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from windvane.data.images.duplicates import find_copies, find_duplicates
from windvane.data.images.objects import ObjectGroups, find_object_groups, object_key
from windvane.data.images.splits import keep_together, share_to_hold_out
from windvane.data.splits import Fold, grouped_folds, hold_out
from windvane.errors import InputError
from windvane.runtime.columns.table import Floats, Integers
from windvane.search.images.decoding import DecodedImages
from windvane.search.strategy.budget import Budget
from windvane.search.strategy.policy import Policy, make_policy
from windvane.settings import Settings

COPIES_SHARE = 0.65  # of the budget, within which copies and views of one object are searched for
MIN_COPIES_SHARE = 0.02  # of the budget, for that search where all before was late
# Up to so many images, folds where the budget has so many CPU seconds for each image.
FOLD_RULES = (("cv5", 400, 0.6), ("cv3", 1000, 0.35))
NO_OBJECTS = (
    "The time did not suffice to find out whether names such as 012_3.jpg say which images show one object: if they "
    "do, the validation score is too good. groups=... names them."
)


@dataclass(frozen=True)
class ImageGroups:
    """Which images stay on one side of a split."""

    together: Integers  # (n,), equal numbers stay together
    objects: ObjectGroups | None  # what their names say, where the user does not
    warnings: tuple[str, ...] = ()  # about what was not searched for in time


def find_image_groups(
    decoded: DecodedImages,
    names: Sequence[str],
    target: Integers,
    matrix: Floats,
    given: Integers | None,
    seed: int,
    budget: Budget,
) -> ImageGroups:
    """Put together images of one group, which the user gives or the names show, and copies of an image."""
    now = time.monotonic()
    deadline = max(budget.instant(COPIES_SHARE), now + MIN_COPIES_SHARE * budget.seconds)
    has_time = now < budget.instant(COPIES_SHARE)
    objects = find_object_groups(names, target, matrix, seed) if given is None and has_time else None
    clusters = find_duplicates(decoded.items, decoded.checks, deadline)
    alike, n_compared = find_copies([decoded.pixels[i] for i in decoded.places.tolist()], deadline)
    warnings = []
    if n_compared < len(names):
        warnings.append(
            f"The time carried a search for copies among {n_compared:,} of {len(names):,} images: copies of the others "
            "may be on both sides of the split."
        )
    if given is None and not has_time and any(map(object_key, names)):
        warnings.append(NO_OBJECTS)
    groups = given if given is not None else np.arange(len(names)) if objects is None else objects.groups
    return ImageGroups(keep_together(groups, [*clusters, *alike]), objects, tuple(warnings))


def make_image_folds(
    target: Integers, together: Integers, given: NDArray[np.bool_], settings: Settings, valid: float | None
) -> tuple[list[Fold], Policy]:
    """Choose the validation rows: those that were given, a share, or folds."""
    if given.any():
        if valid is not None:
            raise InputError(f"valid={valid!r} is given, but the images have a validation split. Leave it out.")
        fold = Fold(np.flatnonzero(~given), np.flatnonzero(given))
        return [fold], make_policy("holdout", "the validation split given")
    names = [settings.policy if valid is None else "holdout"]
    if names == ["auto"]:
        seconds = settings.time_budget * settings.n_jobs if settings.n_trials is None else np.inf
        fitting = [one for one, most, cost in FOLD_RULES if len(target) <= most and cost * len(target) <= seconds]
        names = [*fitting, "holdout"]
    for name in names[:-1]:
        with suppress(InputError):  # too few images of a class: fewer folds may do
            return _split(name, target, together, settings.seed, valid)
    try:
        return _split(names[-1], target, together, settings.seed, valid)
    except InputError as error:
        raise InputError(
            f"{len(target):,} images of {len(np.unique(target))} classes, in {len(np.unique(together)):,} groups that "
            f"stay together, are too few to validate by {names[-1]}: {error} Allowed: several images of each class."
        ) from error


def _split(
    name: str, target: Integers, together: Integers, seed: int, valid: float | None
) -> tuple[list[Fold], Policy]:
    """Split by the policy of a name; raises InputError if there are too few images."""
    n_images, n_folds = len(target), make_policy(name, "").n_folds
    if n_folds == 1:
        folds = [hold_out(target, share_to_hold_out(valid, n_images), seed=seed, groups=together)]
        reason = f"{len(folds[0].validation):,} of {n_images:,} images validate"
    else:
        folds = grouped_folds(target, together, n_folds, seed=seed)
        reason = f"{n_images:,} images are few, and the budget carries the folds"
    if len(np.unique(together)) < n_images:
        reason += "; images of a group, and those that look the same, stay on one side"
    return folds, make_policy(name, reason)


def describe_splits(
    groups: ImageGroups, given: NDArray[np.bool_], names: Sequence[str], tests: Sequence[str]
) -> list[str]:
    """Return warnings about images that were taken for one object, and about splits of the user that share objects."""
    together, objects, found = groups.together, groups.objects, []
    if objects is not None and not given.any():
        found.append(
            f"{objects.describe()} The {objects.n_groups:,} groups stay on one side of the split. groups=... names "
            "others; groups=lambda name: name keeps every image apart."
        )
    elif objects is not None:
        found.append(objects.describe())
    on_both = np.isin(together, together[given]) & np.isin(together, together[~given])
    n_shared = int((on_both & given).sum())
    if n_shared:
        found.append(
            f"{n_shared:,} of {int(given.sum()):,} images of the validation split given look like training images, or "
            "show the same object: the validation score is too good. Without this split windvane keeps them together."
        )
    keys = {object_key(name) for name in names} if objects is not None else set()
    n_shared = sum(object_key(name) in keys for name in tests if object_key(name))
    if n_shared:
        found.append(
            f"{n_shared:,} of {len(tests):,} images of the test split have names of objects that train, too: if they "
            "are the same, the test score is too good."
        )
    return found
