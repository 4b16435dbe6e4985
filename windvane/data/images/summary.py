"""Findings about images, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from windvane.data.images.duplicates import Duplicate
from windvane.data.images.listing import Skipped
from windvane.runtime.columns.table import Integers

MAX_NAMED = 5  # examples of a finding
UNBALANCED = 3  # ratio of the largest class to the smallest


def describe_sizes(sizes: Integers) -> str:
    """Describe the heights and widths of images, shape (n, 2), in a sentence."""
    low, middle, high = (np.percentile(sizes, q, axis=0, method="nearest") for q in (0, 50, 100))
    if (low == high).all():
        return f"Each has {low[1]} x {low[0]} pixels (width x height)."
    ends = f"width {low[1]} to {high[1]}, height {low[0]} to {high[0]}"
    return f"Pixels: {ends}, median {middle[1]} x {middle[0]}."


def describe_balance(labels: Integers, classes: Sequence[str]) -> str:
    """Describe whether the classes are balanced, in a sentence with the largest and the smallest one."""
    # Labels are class numbers (n,), or 0 and 1 of shape (n, c).
    counts = labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=len(classes))
    most, least = int(counts.argmax()), int(counts.argmin())
    if counts[most] == counts[least]:
        return f"Each class has {counts[most]:,} training images."
    ends = (
        f"{classes[most]} has {counts[most]:,} training images ({counts[most] / len(labels):.0%}), "
        f"{classes[least]} has {counts[least]:,}"
    )
    if counts[most] < UNBALANCED * counts[least]:
        return f"The classes are about equally large: {ends}."
    return f"The classes are unequal: {ends}. Accuracy alone would mislead; look at each class."


def describe_skipped(skipped: Sequence[Skipped], consequence: str = "left out") -> list[str]:
    """Describe the images that are `skipped`, by reason; one sentence each."""
    if not skipped:
        return []
    by_reason = Counter(one.reason for one in skipped)
    lines = [f"{len(skipped):,} {consequence}."]
    # A single reason more is named, too: that takes no more room than to count it.
    n_named = MAX_NAMED + 1 if len(by_reason) == MAX_NAMED + 1 else MAX_NAMED
    for reason, count in by_reason.most_common(n_named):
        names = [one.name for one in skipped if one.reason == reason][:MAX_NAMED]
        more = f" and {count - len(names):,} more" if count > len(names) else ""
        lines.append(f"{consequence.capitalize()} because {reason}: {', '.join(names)}{more}.")
    if len(by_reason) > n_named:
        lines.append(f"{consequence.capitalize()} for {len(by_reason) - n_named} other reasons.")
    return lines


def describe_duplicates(duplicates: Sequence[Duplicate]) -> list[str]:
    """Describe which images are in two splits, twice in one, or have two labels; one sentence each."""
    leaks = [one for one in duplicates if one.leaks]
    others = [one for one in duplicates if not one.leaks]
    differ = [one for one in duplicates if not one.same_label]
    lines = []
    if leaks:
        lines.append(f"{_images(leaks)} in two splits, pixel for pixel, which inflates the score: {_named(leaks)}.")
    if others:
        lines.append(f"{_images(others)} twice in one split, pixel for pixel: {_named(others)}.")
    if differ:
        lines.append(f"{_images(differ)} there under two labels, one of them wrong: {_named(differ)}.")
    return lines


def _images(pairs: Sequence[Duplicate]) -> str:
    return f"{len(pairs):,} images are" if len(pairs) > 1 else "1 image is"


def _named(pairs: Sequence[Duplicate]) -> str:
    words = [f"{one.names[0]} ({one.splits[0]}) = {one.names[1]} ({one.splits[1]})" for one in pairs[:MAX_NAMED]]
    return ", ".join(words) + (f" and {len(pairs) - MAX_NAMED:,} more" if len(pairs) > MAX_NAMED else "")
