"""What belongs together stays together in the held-out share."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.data.images.listing import ImageListing
from windvane.data.images.splits import group_images, hold_out_images, keep_together
from windvane.errors import InputError


def listing() -> ImageListing:
    names = ["x_1", "y_1", "x_2"]
    table = pd.DataFrame({"track": [5, 7, 5]})
    return ImageListing([b""] * 3, names, [None] * 3, ["train"] * 3, [""] * 3, table=table)


def test_groups_in_every_form() -> None:
    for groups in ([5, 7, 5], np.array(["x", "y", "x"]), "track", lambda name: name[0], pd.Series([1.0, 2.0, 1.0])):
        codes = group_images(groups, listing())
        assert codes[0] == codes[2] != codes[1]
    with pytest.raises(InputError, match=r"groups='trck'.*'track'"):
        group_images("trck", listing())
    with pytest.raises(InputError, match=r"groups=3 is not usable\. Allowed: a label for each image"):
        group_images(3, listing())
    with pytest.raises(InputError, match="groups has 2 values, but there are 3 images"):
        group_images([1, 2], listing())


@given(st.lists(st.integers(0, 6), min_size=8, max_size=8), st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7))))
@settings(deadline=None, max_examples=50)
def test_keep_together_against_a_slow_union(groups: list[int], pairs: list[tuple[int, int]]) -> None:
    slow = list(groups)
    for a, b in pairs:
        old, new = slow[a], slow[b]
        slow = [new if group == old else group for group in slow]
    fast = keep_together(np.array(groups), [list(pair) for pair in pairs])
    for i in range(8):
        for j in range(8):
            assert (fast[i] == fast[j]) == (slow[i] == slow[j])


def test_the_usual_share() -> None:
    for n, held in ((100, 20), (2500, 500), (4000, 500), (20_000, 2000)):
        splits, notes = hold_out_images(np.array(["train"] * n), np.arange(n) % 2, None, np.arange(n), 0)
        assert (splits == "valid").sum() == held
        assert notes[0].startswith(f"{held:,} of {n:,} training images were held out")


def test_given_splits_stay() -> None:
    splits = np.array(["train", "valid", "test"])
    same, notes = hold_out_images(splits, np.arange(3), None, np.arange(3), 0)
    assert np.array_equal(same, splits)
    assert notes == []
    with pytest.raises(InputError, match=r"valid=0.2 is given, but source has a validation split"):
        hold_out_images(splits, np.arange(3), 0.2, np.arange(3), 0)
    none, notes = hold_out_images(np.array(["train"] * 4), np.arange(4) % 2, 0, np.arange(4), 0)
    assert (none == "train").all()
    assert "No validation split" in notes[0]


def test_rare_labels_of_several_give_their_share() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((500, 4)) < [0.6, 0.3, 0.1, 0.04]).astype(np.int64)
    splits, _ = hold_out_images(np.array(["train"] * 500), labels, 0.25, np.arange(500), 0)
    held = labels[splits == "valid"].sum(axis=0) / labels.sum(axis=0)
    assert abs(held[3] - 0.25) < 0.06
    assert (np.abs(held - 0.25) < 0.1).all()
