"""What was found about images, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from windvane.data.images.duplicates import Duplicate
from windvane.data.images.folder import Skipped
from windvane.runtime.table import Integers

MOST_NAMED = 5  # examples of a kind
UNEVEN = 3  # times that the largest class is larger than the smallest


def describe_sizes(sizes: Integers) -> str:
    """Say how large images are.

    Parameters
    ----------
    sizes
        Height and width of each, shape (n, 2).

    Returns
    -------
    str
        A sentence.
    """
    low, middle, high = (np.percentile(sizes, q, axis=0, method="nearest") for q in (0, 50, 100))
    if (low == high).all():
        return f"Each has {low[1]} x {low[0]} pixels (width x height)."
    ends = f"width {low[1]} to {high[1]}, height {low[0]} to {high[0]}"
    return f"Pixels: {ends}, median {middle[1]} x {middle[0]}."


def describe_balance(labels: Integers, classes: Sequence[str]) -> str:
    """Say whether the classes are about equally large.

    Parameters
    ----------
    labels
        Class numbers of shape (n,), or 0 and 1 of shape (n, c).
    classes
        Their names.

    Returns
    -------
    str
        A sentence, with the largest and the smallest class.
    """
    counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(classes))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] == counts[least]:
        return f"Each class has {counts[most]:,} training images."
    ends = (
        f"{classes[most]} has {counts[most]:,} training images ({counts[most] / len(labels):.0%}), "
        f"{classes[least]} has {counts[least]:,}"
    )
    if counts[most] < UNEVEN * counts[least]:
        return f"The classes are about equally large: {ends}."
    return f"The classes are unequal: {ends}. Accuracy alone would flatter; look at each class."


def describe_skipped(skipped: Sequence[Skipped]) -> list[str]:
    """Say what was left out, by reason.

    Parameters
    ----------
    skipped
        All of it.

    Returns
    -------
    list of str
        A sentence each; none where nothing was.
    """
    if not skipped:
        return []
    by_reason = Counter(one.reason for one in skipped)
    lines = [f"{len(skipped):,} left out."]
    for reason, count in by_reason.most_common(MOST_NAMED):
        names = [one.name for one in skipped if one.reason == reason][:MOST_NAMED]
        more = f" and {count - len(names):,} more" if count > len(names) else ""
        lines.append(f"Left out because {reason}: {', '.join(names)}{more}.")
    if len(by_reason) > MOST_NAMED:
        lines.append(f"Left out for {len(by_reason) - MOST_NAMED} other reasons: see `skipped`.")
    return lines


def describe_duplicates(duplicates: Sequence[Duplicate]) -> list[str]:
    """Say which images are in two parts, twice in one, or under two labels.

    Parameters
    ----------
    duplicates
        All pairs.

    Returns
    -------
    list of str
        A sentence each; none where there are no pairs.
    """
    leaks = [one for one in duplicates if one.leaks]
    others = [one for one in duplicates if not one.leaks]
    differ = [one for one in duplicates if not one.same_label]
    lines = []
    if leaks:
        lines.append(f"{_images(leaks)} in two parts, pixel for pixel, which flatters the score: {_named(leaks)}.")
    if others:
        lines.append(f"{_images(others)} twice in one part, pixel for pixel: {_named(others)}.")
    if differ:
        lines.append(f"{_images(differ)} there under two labels, one of them wrong: {_named(differ)}.")
    return lines


def _images(pairs: Sequence[Duplicate]) -> str:
    return f"{len(pairs):,} images are" if len(pairs) > 1 else "1 image is"


def _named(pairs: Sequence[Duplicate]) -> str:
    words = [f"{one.names[0]} ({one.splits[0]}) = {one.names[1]} ({one.splits[1]})" for one in pairs[:MOST_NAMED]]
    return ", ".join(words) + (f" and {len(pairs) - MOST_NAMED:,} more" if len(pairs) > MOST_NAMED else "")
