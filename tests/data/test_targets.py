"""Several targets: every form that a user has them in becomes the same matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse as sp
from sklearn.preprocessing import MultiLabelBinarizer

from windvane.data.targets import are_several, encode_as_trained, encode_targets, strata_of
from windvane.errors import InputError

LISTS = [["b", "a"], ["c"], [], ["a"], ["c", "a"]]
INDICATOR = MultiLabelBinarizer().fit_transform(LISTS)  # of a, b, c


@pytest.mark.parametrize(
    "y",
    [
        LISTS,
        [set(row) for row in LISTS],
        pd.Series(LISTS),
        INDICATOR,
        INDICATOR.astype(float),
        INDICATOR.astype(bool),
        INDICATOR.tolist(),
        sp.csr_matrix(INDICATOR),
        pd.DataFrame(INDICATOR, columns=["a", "b", "c"]),
        pd.DataFrame(np.where(INDICATOR, "yes", "no"), columns=["a", "b", "c"]).assign(
            a=np.where(INDICATOR[:, 0], "no", "yes")  # the rarer value is the one that is there
        ),
    ],
    ids=lambda y: type(y).__name__,
)
def test_all_forms_of_labels_are_one_matrix(y: Any) -> None:
    assert are_several(y)
    matrix, targets = encode_targets(y, "classification")
    assert matrix.dtype == np.int64
    expected = INDICATOR.copy()
    if isinstance(y, pd.DataFrame) and y.iloc[0, 0] == "no":
        expected[:, 0] = y["a"] == "yes"
    np.testing.assert_array_equal(matrix, expected)
    again, _ = encode_targets(y, "classification", targets)
    np.testing.assert_array_equal(again, matrix)
    decided = targets.decide(matrix.astype(float))
    if targets.form == "lists":
        assert decided == [sorted(row) for row in LISTS]
    else:
        np.testing.assert_array_equal(decided, y.toarray() if sp.issparse(y) else y)


@pytest.mark.parametrize("y", [[1, 2], [[1], [2]], np.zeros((3, 1)), pd.DataFrame({"a": [1, 2]}), ["ab", "cd"], None])
def test_one_column_is_one_target(y: Any) -> None:
    assert not are_several(y)


def test_numbers_stay_what_they_are() -> None:
    frame = pd.DataFrame({"height": [1.5, 2.5], "weight": ["3", "4"]})
    matrix, targets = encode_targets(frame, "regression")
    np.testing.assert_array_equal(matrix, [[1.5, 3], [2.5, 4]])
    assert targets.titles == ["height", "weight"]
    swapped = frame[["weight", "height"]].assign(more=0)
    np.testing.assert_array_equal(encode_as_trained(swapped, None, targets), matrix)
    pd.testing.assert_frame_equal(targets.decide(matrix), frame.astype(float))


def test_the_value_that_means_there_can_be_chosen() -> None:
    frame = pd.DataFrame({"a": ["in", "out", "in"], "b": ["out", "out", "in"]})
    for value in ("in", "out"):
        matrix, _ = encode_targets(frame, "classification", positive=value)
        np.testing.assert_array_equal(matrix, frame == value)


@pytest.mark.parametrize(
    ("y", "goal", "words"),
    [
        (pd.DataFrame({"a": [0, 1], "b": [1, 1]}), "classification", "'b' of y cannot be used: y has one class"),
        (
            pd.DataFrame({"a": [0, 1], "b": [1, np.nan]}),
            "regression",
            "'b' of y cannot be used: y has 1 missing",
        ),
        (np.array([[0, 1], [1, 2], [1, 0]]), "classification", "'y1' of y has 3 classes. Allowed for several targets"),
        (np.zeros((2, 2, 2)), "regression", r"shape \(2, 2, 2\)"),
        ([[], []], "classification", "no label in any row"),
        ([["a"], ["a"], []], "classification", "one label only"),
        ([["a", "b"], ["a"]], "classification", "'a' is in every row"),
        ([["a", 1], ["b"], []], "classification", "labels of several types"),
    ],
)
def test_errors_name_the_column(y: Any, goal: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        encode_targets(y, goal)


def test_new_rows_have_the_targets_of_training() -> None:
    _, lists = encode_targets(LISTS, "classification")
    _, columns = encode_targets(INDICATOR, "classification")
    for y, known, words in (
        ([["a"], ["z", "b"]], lists, "'z' in row 1, which training never saw"),
        (INDICATOR, lists, "learned lists of labels"),
        (LISTS, columns, "learned the columns y0, y1, y2"),
        (INDICATOR[:, :2], columns, "has 2 columns, but the model learned 3"),
    ):
        with pytest.raises(InputError, match=words):
            encode_targets(y, "classification", known)


def test_folds_are_stratified_by_the_rarest_label() -> None:
    matrix = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0], [1, 0, 1]])
    assert strata_of(matrix).tolist() == [3, 1, 0, 2, 3]  # b has 1 row, c 2, a 4
    numbers = np.array([[1.0, 5.0], [2.0, 9.0], [3.0, 7.0]])
    assert strata_of(numbers).tolist() == [1.0, 2.5, 2.5]
