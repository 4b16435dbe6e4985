import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse as sp
from sklearn.model_selection import KFold, PredefinedSplit

from windvane.data.rows import order_notes, take_rows, take_split
from windvane.errors import InputError

X = pd.DataFrame({"a": [1.0, 2.0, 3.0]}, index=[10, 11, 12])
ROWS = np.array([0, 2])


def test_the_same_labels_in_another_order_are_reported():
    y = pd.Series([0, 1, 2], index=[10, 12, 11])
    (note,) = order_notes(X, {"y": y, "groups": None})
    assert note == (
        "y has the index labels of X in another order: row 1 is 11 in X, but 12 in y. Rows are matched by position, as "
        "in scikit-learn. If the labels are to decide, pass y.loc[X.index]; if the positions are right, pass "
        "y.to_numpy() or y.reset_index(drop=True)."
    )
    assert y.loc[X.index].index.equals(X.index)
    assert len(order_notes(X, {"y": y, "sample_weight": y, "groups": y.to_frame(), "time": y})) == 4
    assert len(order_notes(X["a"], {"y": y})) == 1


@pytest.mark.parametrize(
    "index",
    [
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]),
        pd.date_range("2024-01-01", periods=3),
        ["x", 1, None],
        [1, 1, 2],
        pd.CategoricalIndex(["u", "v", "w"]),
    ],
)
def test_labels_of_any_type(index):
    frame = X.set_axis(index, axis=0)
    y = frame["a"].iloc[::-1]
    (note,) = order_notes(frame, {"y": y})
    assert ("y.loc[X.index]" in note) == frame.index.is_unique
    assert order_notes(frame, {"y": frame["a"]}) == []


@pytest.mark.parametrize(
    "other",
    [
        pd.Series([0, 1, 2]),  # labels of another table
        pd.Series([0, 1, 2], index=[10, 11, 11]),
        pd.Series([0, 1], index=[11, 10]),
        np.array([0, 1, 2]),
        [0, 1, 2],
        pl.Series([0, 1, 2]),
        None,
    ],
)
def test_labels_that_are_no_match_say_nothing(other):
    assert order_notes(X, {"y": other}) == []
    assert order_notes(X.to_numpy(), {"y": pd.Series([0, 1, 2], index=[2, 1, 0])}) == []
    assert order_notes(sp.csr_matrix(X), {"y": pd.Series([0, 1, 2], index=[2, 1, 0])}) == []


@pytest.mark.parametrize(
    "make",
    [
        *(list, tuple, np.array, pd.Series, pl.Series, pd.Categorical),
        lambda v: pd.Series(v, index=[7, 8, 9]),
        lambda v: pd.array(v, dtype="string"),
        lambda v: pd.DataFrame({"y": v}),
    ],
)
def test_rows_are_taken_of_any_container(make):
    taken = take_rows(make(["a", "b", "c"]), ROWS, 3, "y")
    assert np.asarray(taken).ravel().tolist() == ["a", "c"]


def test_rows_of_another_table():
    assert take_rows(None, ROWS, 3, "y") is None
    with pytest.raises(InputError, match="groups has 2 values, but there are 3 rows"):
        take_rows([1, 2], ROWS, 3, "groups")
    with pytest.raises(InputError, match="y has no values"):
        take_rows(3, ROWS, 3, "y")


def test_positions_of_a_split_are_translated():
    rows = np.array([0, 2, 3, 5])
    masks = (np.array([True, True, True, False, False, False]), [3, 4, 5])
    (first, second), (train, valid) = take_split([masks, ([5, 1, 0], np.array([2]))], rows, 6)
    assert (first.tolist(), second.tolist()) == ([0, 1], [2, 3])
    assert (train.tolist(), valid.tolist()) == ([3, 0], [1])
    predefined = take_split(PredefinedSplit([0, 1, 0, 1, 0, -1]), rows, 6)
    assert predefined.test_fold.tolist() == [0, 0, 1, -1]
    splitter = KFold(3)
    assert take_split(splitter, rows, 6) is splitter
    assert take_split(None, rows, 6) is None
    (untouched,) = take_split([([7], ["a"])], rows, 6)  # refused where the folds are checked
    assert (untouched[0].tolist(), untouched[1].tolist()) == ([7], ["a"])
