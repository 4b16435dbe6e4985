"""Shift is seen where it was made, and not where it was not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from windvane.data.column_types import infer_schema
from windvane.report.dataset_shift import measure_dataset_shift


def sides(shift: float, n: int = 500) -> tuple[pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(3)
    train, test = (pd.DataFrame(rng.normal(size=(n, 3)), columns=["a", "b", "c"]) for _ in range(2))
    test["b"] += shift
    for frame in (train, test):
        frame["d"] = rng.choice(["x", "y", None], n)
    return train, test


@pytest.mark.parametrize("shift", [0.0, 0.7, 3.0])
def test_the_shifted_column_is_named(shift: float) -> None:
    train, test = sides(shift)
    schema = infer_schema(train)
    found = measure_dataset_shift(schema.transform(train), schema.transform(test), schema.matrix_places, seed=0)
    assert found is not None
    assert found.is_visible == (shift > 0)
    if shift:
        first = found.columns[0]
        assert first.name == "b"
        assert first.importance > 0.3
        assert first.distance == pytest.approx(ks_2samp(train["b"], test["b"]).statistic)
        assert found.auc > (0.95 if shift == 3.0 else 0.6)


def test_columns_that_are_not_named_do_not_count() -> None:
    train, test = sides(3.0)
    schema = infer_schema(train)
    columns = {name: places for name, places in schema.matrix_places.items() if name != "b"}
    found = measure_dataset_shift(schema.transform(train), schema.transform(test), columns, seed=0)
    assert found is not None and not found.is_visible


def test_noise_is_that_of_the_statistic() -> None:
    rng = np.random.default_rng(0)
    train, test = sides(0.0, n=50)
    schema = infer_schema(train)
    found = measure_dataset_shift(schema.transform(train), schema.transform(test), schema.matrix_places, seed=0)
    assert found is not None
    # The AUC of random scores of two sides of 50.
    left, right = rng.normal(size=(4000, 50, 1)), rng.normal(size=(4000, 1, 50))
    assert found.standard_error == pytest.approx(np.std((left > right).mean(axis=(1, 2))), rel=0.1)


def test_nothing_to_compare() -> None:
    train, test = sides(0.0, n=60)
    schema = infer_schema(train)
    tables = schema.transform(train), schema.transform(test)
    assert measure_dataset_shift(tables[0], tables[1].take(np.arange(3)), schema.matrix_places, seed=0) is None
    assert measure_dataset_shift(*tables, {}, seed=0) is None
