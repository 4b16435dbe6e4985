"""Labels are text in natural order; the training split defines the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from windvane.data.images.labels import encode_labels, spread_labels
from windvane.errors import InputError


def every(n: int) -> Any:
    return np.ones(n, dtype=np.bool_)


@pytest.mark.parametrize(
    "labels",
    [
        [10, 2, 2],
        ["10", "2", "2"],
        [10.0, 2.0, 2.0],
        np.array([10, 2, 2]),
        pd.Series([10, 2, 2]),
        pd.Categorical(["10", "2", "2"]),
        pl.Series([10, 2, 2]),
        np.array([[10], [2], [2]]),
        pd.DataFrame({"y": [10, 2, 2]}),
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_one_label_each(labels: Any) -> None:
    encoded = encode_labels(spread_labels(labels), every(3))
    assert encoded.classes == ("2", "10")
    assert encoded.codes.tolist() == [1, 0, 0]
    assert encoded.codes.dtype == np.int64
    assert encoded.problems == ("", "", "")


@pytest.mark.parametrize(
    "labels",
    [
        [["b", "a"], [], ("b",)],
        [{"b", "a"}, [], np.array(["b"])],
        pd.DataFrame({"b": [1, 0, 1], "a": [1, 0, 0]}),
        pd.Series([["a", "b"], [], ["b"]]),
    ],
    ids=lambda labels: type(labels).__name__,
)
def test_several_labels_each(labels: Any) -> None:
    encoded = encode_labels(spread_labels(labels), every(3))
    assert encoded.classes == ("a", "b")
    assert encoded.codes.tolist() == [[1, 1], [0, 0], [0, 1]]
    assert encoded.problems == ("", "", "")


def test_rows_of_zeros_and_ones() -> None:
    encoded = encode_labels(spread_labels(np.array([[0, 1], [1, 1]])), every(2))
    assert encoded.classes == ("0", "1")
    assert encoded.codes.tolist() == [[0, 1], [1, 1]]


def test_missing_and_unseen_labels_are_problems() -> None:
    trains = np.array([True, True, True, True, True, False, False])
    encoded = encode_labels(["a", None, float("nan"), pd.NA, "b", "c", "a"], trains)
    assert encoded.classes == ("a", "b")
    assert encoded.problems[1:4] == ("it has no label",) * 3
    assert encoded.problems[5] == "its class 'c' is not in the training split"
    several = encode_labels([["a"], None, ["a", "z"]], np.array([True, True, False]))
    assert several.problems == ("", "it has no label", "its class 'z' is not in the training split")
    assert encode_labels([None, None], every(2)).classes == ()


def test_labels_that_are_none() -> None:
    for wrong in ("abc", 7, {"a": 1}, np.array([[0, 2], [1, 1]]), np.zeros((2, 2, 2))):
        with pytest.raises(InputError, match="labels"):
            spread_labels(wrong)
    with pytest.raises(InputError, match="Image 1 has a list of labels, image 0 one label"):
        encode_labels(["a", ["b"]], every(2))
