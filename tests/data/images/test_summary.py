"""What was found, in words."""

from __future__ import annotations

import numpy as np

from windvane.data.images.duplicates import Duplicate
from windvane.data.images.listing import Skipped
from windvane.data.images.summary import describe_balance, describe_duplicates, describe_sizes, describe_skipped


def test_sizes() -> None:
    assert describe_sizes(np.array([[28, 32], [28, 32]])) == "Each has 32 x 28 pixels (width x height)."
    words = describe_sizes(np.array([[10, 40], [20, 50], [30, 60]]))
    assert words == "Pixels: width 40 to 60, height 10 to 30, median 50 x 20."


def test_balance() -> None:
    assert describe_balance(np.array([0, 0, 1, 1]), ("a", "b")) == "Each class has 2 training images."
    even = describe_balance(np.array([0, 0, 1, 1, 1]), ("a", "b"))
    assert even == "The classes are about equally large: b has 3 training images (60%), a has 2."
    uneven = describe_balance(np.array([0] * 9 + [1]), ("a", "b"))
    assert uneven.startswith("The classes are unequal: a has 9 training images (90%), b has 1.")
    assert describe_balance(np.array([[1, 0], [1, 0], [1, 1]]), ("a", "b")).startswith(
        "The classes are unequal: a has 3"
    )


def test_skipped() -> None:
    assert describe_skipped([]) == []
    skipped = [Skipped(str(i), "it is empty") for i in range(7)] + [Skipped("x", str(i)) for i in range(8)]
    lines = describe_skipped(skipped)
    assert lines[0] == "15 left out."
    assert lines[1] == "Left out because it is empty: 0, 1, 2, 3, 4 and 2 more."
    assert lines[-1].startswith("Left out for 4 other reasons")


def test_duplicates() -> None:
    assert describe_duplicates([]) == []
    leak = Duplicate(("a", "b"), ("train", "test"), True)
    twice = Duplicate(("c", "d"), ("train", "train"), False)
    lines = describe_duplicates([leak] * 7 + [twice])
    assert lines[0].startswith(
        "7 images are in two splits, pixel for pixel, which inflates the score: a (train) = b (test)"
    )
    assert lines[0].endswith("and 2 more.")
    assert lines[1] == "1 image is twice in one split, pixel for pixel: c (train) = d (train)."
    assert lines[2] == "1 image is there under two labels, one of them wrong: c (train) = d (train)."


def test_one_reason_more_is_named_not_counted() -> None:
    lines = describe_skipped([Skipped(f"{i}.png", f"reason {i}") for i in range(6)])
    assert lines[-1] == "Left out because reason 5: 5.png."
