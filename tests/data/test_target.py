import datetime

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.exceptions import DataConversionWarning

from windvane.data.splits import SplitOptions, make_folds
from windvane.data.target import choose_positive, counted_rows, encode_target, similar_labels
from windvane.errors import InputError


@pytest.mark.parametrize(
    "make",
    [
        list,
        np.array,
        pd.Series,
        lambda y: pd.Series(y, index=range(10, 10 + len(y))),
        lambda y: pd.Series(y, dtype="category"),
        lambda y: pd.Series(y, dtype=object),
        pl.Series,
        pa.array,
        lambda y: np.array(y, dtype=object),
        tuple,
    ],
)
@pytest.mark.parametrize("y", [["b", "a", "c", "a"], [3, 1, 7, 1], [True, False, True, False], [2.0, 1.0, 3.0, 1.0]])
def test_labels(make, y):
    codes, classes = encode_target(make(y), "classification")
    assert codes.dtype == np.int64
    assert classes.tolist() == sorted(set(y))
    assert [classes[code] for code in codes] == y
    assert encode_target(make(y), "classification", classes)[0].tolist() == codes.tolist()


def test_the_type_of_labels_is_kept():
    for y in (np.array(["one", "two"]), np.array([1, 2], dtype=np.int8), np.array([False, True])):
        assert encode_target(y, "classification")[1].dtype == y.dtype
    assert encode_target(pd.Series([1, 2], dtype="Int64"), "classification")[1].dtype.kind == "i"


def test_labels_of_training_keep_their_codes():
    classes = np.array(["a", "b", "c"])
    codes, same = encode_target(["c", "a"], "classification", classes)
    assert codes.tolist() == [2, 0]
    assert same is classes


@pytest.mark.parametrize(
    "y",
    [
        [1, 2, 3],
        np.array([1, 2, 3], dtype=np.float32),
        pd.Series([1, 2, 3], dtype="Int64"),
        pl.Series([1, 2, 3]),
        ["1", "2.0", "3"],
        pd.Series([1, 2, 3], dtype="category"),
        np.array([1, 2.0, "3"], dtype=object),
    ],
)
def test_numbers(y):
    target, classes = encode_target(y, "regression")
    assert target.dtype == np.float64
    assert target.tolist() == [1.0, 2.0, 3.0]
    assert classes is None


@pytest.mark.parametrize("y", [np.array([[0], [1]]), pd.DataFrame({"y": [0, 1]}), pl.DataFrame({"y": [0, 1]})])
def test_a_column_vector_is_taken_with_a_warning(y):
    with pytest.warns(DataConversionWarning, match="column-vector"):
        codes, _ = encode_target(y, "classification")
    assert codes.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("y", "goal", "message"),
    [
        (None, "classification", "requires y to be passed, but the target y is None"),
        ([1, 1, 1], "classification", "y has one class only (1), but a classifier needs at least two classes."),
        (["a"], "classification", "y has one class only ('a')"),
        (["a", None, "b", None], "classification", "y has 2 missing values, the first in row 1; leave them out"),
        (pd.Series([1, pd.NA, 2], dtype="Int64"), "classification", "y has 1 missing value, the first in row 1"),
        ([0.0, 1.0, np.nan], "regression", "y has 1 missing value, the first in row 2"),
        (pd.Categorical(["a", None]), "classification", "y has 1 missing value, the first in row 1"),
        ([0.0, np.inf, -np.inf], "regression", "y has 2 infinite values, the first in row 1"),
        ([0.0, np.inf], "classification", "y has 1 infinite value"),
        ([0.5, 1.0], "classification", "Unknown label type: continuous"),
        ([1, "a", 2], "classification", "y has labels of several types"),
        (["1.5", "two", "x"], "regression", "y holds 'two' in row 1, but a regressor needs finite numbers."),
        (["1.5", "inf"], "regression", "y holds 'inf' in row 1"),
        (pd.Series(pd.date_range("2024", periods=3)), "regression", "but a regressor needs numbers, such as the days"),
        ([datetime.date(2024, 1, 1)], "regression", "but a regressor needs finite numbers."),
        (np.zeros((3, 2)), "regression", "y should be a 1d array, got an array of shape (3, 2) instead."),
        (np.array([1 + 1j, 2]), "regression", "Complex data not supported"),
        (3, "regression", "y cannot be used"),
        ("price", "regression", "y='price' is a text. Allowed: a value for each row, as in X.pop('price')."),
    ],
)
def test_errors(y, goal, message):
    with pytest.raises(InputError) as caught:
        encode_target(y, goal)
    assert message in str(caught.value)


@pytest.mark.parametrize("y", [["a", "z"], [1, 2]])
def test_labels_that_training_never_saw(y):
    with pytest.raises(InputError, match=r"which training never saw; its classes are 'a', 'b'\."):
        encode_target(y, "classification", np.array(["a", "b"]))


@pytest.mark.parametrize("weight", [[1, 0, 2], np.array([1, 0, 2], dtype=np.int8), pd.Series([1.0, 0.0, 2.0])])
def test_weights(weight):
    checked, rows = counted_rows(weight, 3)
    assert checked.dtype == np.float64
    assert checked.tolist() == pytest.approx([2 / 3, 4 / 3], abs=1e-7)
    assert rows.tolist() == [0, 2]
    assert counted_rows(None, 3) == (None, None)


@given(
    arrays(np.float64, 6, elements=st.floats(0.01, 100)).filter(lambda weight: np.ptp(weight) > 1e-4 * weight.max()),
    st.floats(1e-200, 1e200),
)
def test_a_factor_of_the_weights_is_nothing(weight, factor):
    expected, rows = counted_rows(weight, 6)
    assert rows is None
    assert expected.mean() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(expected / expected[0], weight / weight[0], rtol=1e-6)
    np.testing.assert_array_equal(counted_rows(weight * factor, 6)[0], expected)


@pytest.mark.parametrize("one", [1.0, 1 / 3, 1e-6, 1e308])
def test_equal_weights_are_none(one):
    assert counted_rows([one] * 7, 7) == (None, None)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ([1.0, 2.0], "sample_weight has the shape (2,), but must have (3,)"),
        ([[1.0], [2.0], [3.0]], "sample_weight has the shape (3, 1)"),
        (2.0, "sample_weight cannot be used: Input should have at least 1 dimension"),
        ("w", "sample_weight='w' is a text. Allowed: a value for each row, as in X.pop('w')."),
        ([1.0, -0.5, -1.0], "sample_weight[1] is -0.5, but weights must not be negative."),
        ([1.0, np.nan, 1.0], "Input sample_weight contains NaN"),
        ([1.0, np.inf, 1.0], "Input sample_weight contains infinity"),
        ([0, 0, 0], "sample_weight must contain at least one weight that is not zero."),
        (["a", "b", "c"], "sample_weight cannot be used: could not convert string to float: 'a'. Allowed: a number"),
    ],
)
def test_errors_of_weights(weight, message):
    with pytest.raises(InputError) as caught:
        counted_rows(weight, 3)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "target", "given", "found"),
    [
        ([0, 1], [1, 1, 0], None, (1, "as in scikit-learn")),
        ([False, True], [1, 1, 0], None, (1, "as in scikit-learn")),
        ([-1.0, 1.0], [1, 1, 0], None, (1, "as in scikit-learn")),
        ([1, 2], [1, 1, 0], None, (0, "as in scikit-learn")),
        ([2, 5], [1, 1, 0], None, (0, "the rarer one")),
        (["no", "yes"], [0, 0, 1], None, (1, "the rarer one")),
        (["no", "yes"], [1, 1, 0], None, (0, "the rarer one")),
        (["no", "yes"], [1, 0], None, (1, "the rarer one")),
        (["no", "yes"], [1, 1, 0], "yes", (1, "as chosen")),
        ([0, 1], [1, 0], "0", (0, "as chosen")),
        ([False, True], [1, 0], "False", (0, "as chosen")),
        ([0, 1], [1, 0], np.int64(0), (0, "as chosen")),
        (["a", "b", "c"], [0, 1, 2], None, (None, "")),
    ],
)
def test_the_positive_class(classes, target, given, found):
    assert choose_positive(given, np.array(classes), np.array(target)) == found


@pytest.mark.parametrize(
    ("classes", "earlier", "found"),
    [
        (["no", "yes"], "no", (0, "as in the run so far")),
        ([0, 1], np.int64(0), (0, "as in the run so far")),
        ([0, 1], "no", (1, "as in scikit-learn")),  # other data: the run will say so
        (["a", "b", "c"], "a", (None, "")),
    ],
)
def test_the_positive_class_of_the_run_that_is_resumed(classes, earlier, found):
    target = np.arange(len(classes))
    assert choose_positive(None, np.array(classes), target, earlier) == found
    if len(classes) == 2:
        assert choose_positive(classes[1], np.array(classes), target, earlier) == (1, "as chosen")


def test_a_positive_class_that_is_none():
    with pytest.raises(InputError, match=r"positive_class='maybe' is no class. Allowed: 'no' or 'yes'\."):
        choose_positive("maybe", np.array(["no", "yes"]), np.array([0, 1]))
    with pytest.raises(InputError, match="positive_class=1 is for two classes, but there are 3"):
        choose_positive(1, np.array([1, 2, 3]), np.array([0, 1, 2]))


def test_masked_targets_and_weights():
    with pytest.raises(InputError, match="y has 1 missing value, the first in row 1"):
        encode_target(np.ma.masked_array([1.0, 2.0, 3.0], mask=[0, 1, 0]), "regression")
    with pytest.raises(InputError, match="y has 1 missing value, the first in row 1"):
        encode_target(np.ma.masked_array(["a", "b", "a"], mask=[0, 1, 0]), "classification")
    assert encode_target(np.ma.masked_array([1, 0, 1]), "classification")[0].tolist() == [1, 0, 1]
    with pytest.raises(InputError, match="sample_weight contains NaN"):
        counted_rows(np.ma.masked_array([1.0, 2.0], mask=[0, 1]), 2)


def test_targets_of_any_kind_of_storage():
    for dtype in (">i8", "<f2", ">f4", "u8"):
        codes, classes = encode_target(np.array([0, 1, 1], dtype=dtype), "classification")
        assert (codes.tolist(), classes.tolist()) == ([0, 1, 1], [0, 1])
    assert encode_target([2**70, 2**71, 2**70], "classification")[0].tolist() == [0, 1, 0]
    codes, classes = encode_target(pd.Series(["\ud800", "b"], dtype=object), "classification")
    assert (codes.tolist(), classes.tolist()) == ([1, 0], ["b", "\ud800"])
    folds, _ = make_folds(np.arange(9.0), 2, seed=0, by=SplitOptions(groups=np.repeat([1, 2, 3], 3).astype(">i4")))
    assert len(folds) == 2


LEVELS = ["low", "medium", "high", "never"]


@pytest.mark.parametrize(
    "make",
    [
        lambda y: pd.Categorical(y, LEVELS, ordered=True),
        lambda y: pd.Series(pd.Categorical(y, LEVELS, ordered=True), index=[7, 5, 3, 1]),
        lambda y: pd.DataFrame({"level": pd.Categorical(y, LEVELS, ordered=True)}),
        lambda y: pl.Series(y, dtype=pl.Enum(LEVELS)),
        lambda y: pa.DictionaryArray.from_arrays([LEVELS.index(one) for one in y], LEVELS, ordered=True),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.DataConversionWarning")
def test_ordered_categories_keep_their_order(make):
    y = ["high", "low", "medium", "low"]
    codes, classes = encode_target(make(y), "classification")
    assert classes.tolist() == ["low", "medium", "high"]  # of those that occur
    assert codes.tolist() == [2, 0, 1, 0]
    assert codes.dtype == np.int64
    assert encode_target(y, "classification", classes)[0].tolist() == codes.tolist()


def test_ordered_numbers_may_fall():
    codes, classes = encode_target(pd.Categorical([1, 3, 2, 3], [3, 2, 1], ordered=True), "classification")
    assert (codes.tolist(), classes.tolist()) == ([2, 0, 1, 0], [3, 2, 1])


def test_categories_without_an_order_are_sorted():
    _, classes = encode_target(pd.Categorical(["high", "low"], ["low", "high"]), "classification")
    assert classes.tolist() == ["high", "low"]


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        (["yes", "no", "Yes", "no "], ["'yes' and 'Yes'", "'no' and 'no '"]),
        (["New York", "New  York"], ["'New York' and 'New  York'"]),
        (["a", "A"], []),  # letters are told apart by their case
        (["a", "a "], ["'a' and 'a '"]),
        ([1, True, None], []),
    ],
)
def test_labels_that_are_written_almost_alike(labels, named):
    found = similar_labels(labels)
    assert len(found) == bool(named)
    assert all(pair in found[0] for pair in named)
