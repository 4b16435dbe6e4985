import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.errors import InputError
from windvane.runtime.columns import column_values as values

CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from([0.5, 1.0, np.nan, "a", " a", "1", "?", "", "True"])
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (np.int8(1), "1"),
        (np.float32(0.1), "0.1"),
        (-0.0, "0"),
        (2**70, str(2**70)),
        (1.5, "1.5"),
        (np.inf, "inf"),
        (" a ", "a"),
        (b" a ", "a"),
        (True, "True"),
        (np.bool_(False), "False"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_canonical(value, text):
    assert values.to_canonical_text(value) == text


@pytest.mark.parametrize("value", [None, np.nan, np.float32("nan"), pd.NA, pd.NaT])
def test_missing(value):
    assert values.is_missing(value)


@pytest.mark.parametrize("value", [0, "", "nan", False, [], np.inf])
def test_not_missing(value):
    assert not values.is_missing(value)


@settings(deadline=None, max_examples=60)
@given(st.lists(CELLS, max_size=12))
def test_codes_equal_a_look_up_of_each_value(cells):
    vocabulary = ("1", "?", "True", "a")
    index = values.vocabulary_index(vocabulary)
    codes = values.to_codes(pd.Series(cells, dtype=object), index, 4.0)
    np.testing.assert_array_equal(codes, values.codes_of(cells, index, 4.0))
    for cell, code in zip(cells, codes, strict=True):
        if cell is None or cell != cell or cell == "":
            assert np.isnan(code)
        else:
            text = values.to_canonical_text(cell)
            assert code == (vocabulary.index(text) if text in vocabulary else 4.0)


@settings(deadline=None, max_examples=60)
@given(st.lists(CELLS, max_size=12))
def test_distinct_texts(cells):
    codes, texts = values.distinct_texts(pd.Series(cells, dtype=object))
    assert len(set(texts)) == len(texts)
    for cell, code in zip(cells, codes, strict=True):
        if code < 0:
            assert values.is_missing(cell) or values.to_canonical_text(cell) in values.MISSING_TEXTS
        else:
            assert texts[code] == values.to_canonical_text(cell)


def test_booleans_and_digits_stand_for_each_other():
    assert values.vocabulary_index(("False", "True")) == {"False": 0, "True": 1, "0": 0, "1": 1}
    assert values.vocabulary_index(("0", "1")) == {"False": 0, "True": 1, "0": 0, "1": 1}
    assert values.vocabulary_index(("1", "True")) == {"1": 0, "True": 1}


@pytest.mark.parametrize(
    "column",
    [
        [1, 2, None],
        np.array([1, 2, np.nan], dtype=np.float32),
        pd.array([1, 2, None], dtype="Int64"),
        pd.array([1, 2, None], dtype="float64[pyarrow]"),
        pd.array(["1", " 2.0", "NA"]),
        pd.array(["1", "2e0", None], dtype="string"),
        np.array([1, "2", "?"], dtype=object),
        np.array([1, 2, pd.NA], dtype=object),
        np.array([Decimal(1), Decimal("2.0"), None], dtype=object),
        np.array([True, 2, "nan"], dtype=object),
        np.array(["true", 2, ""], dtype=object),
        pd.Categorical([1, 2, None], categories=[1, 2, 3]),
        pd.Categorical(["1", "2", None], categories=["x", "1", "2"]),
    ],
)
def test_numbers(column):
    np.testing.assert_array_equal(values.to_numbers(pd.Series(column)), [1, 2, np.nan])


def test_missing_dates_are_missing_numbers():
    assert np.isnan(values.to_numbers(pd.Series([pd.NaT, pd.NaT]))).all()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["1", "?", "two", "three"], "Column 'c' holds 'two' (and 1 more), but must be a number as in training."),
        ([1, "1,234"], "Column 'c' holds '1,234', but must be a number"),
        (["1_000"], "Column 'c' holds '1_000', but"),
        ([1, [2]], "Column 'c' holds [2], but"),
        (pd.Categorical(["1", "x"]), "Column 'c' holds 'x', but"),
        (pd.to_datetime(["2024-01-01"]), "Column 'c' holds Timestamp('2024-01-01 00:00:00'), but"),
        ([datetime.date(2024, 1, 1)], "Column 'c' holds datetime.date(2024, 1, 1), but"),
    ],
)
def test_no_numbers(column, message):
    with pytest.raises(InputError) as caught:
        values.to_numbers(pd.Series(column, name="c"))
    assert message in str(caught.value)


def test_texts():
    column = pd.Series([" a b", None, 1.0, "?", np.nan], dtype=object)
    assert values.to_texts(column).tolist() == ["a b", "", "1", "", ""]
