from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse as sp
from sklearn.linear_model import LinearRegression

from windvane.errors import InputError
from windvane.fitted import MOST_IMPORTANCE_ROWS, feature_importance


class Sum:
    """Scores by the share of explained variance of 2 a + b; c is noise."""

    def predict(self, X: pd.DataFrame) -> Any:
        X = X.set_axis(["a", "b", "c"], axis=1)
        return 2 * X["a"] + X["b"]

    def fit(self, X: Any, y: Any) -> Sum:
        return self

    def score(self, X: pd.DataFrame, y: Any) -> float:
        return float(1 - np.mean((np.asarray(y) - self.predict(X)) ** 2) / 5)


def make(n: int) -> tuple[pd.DataFrame, Any]:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(n, 3)), columns=["a", "b", "c"])
    return X, (2 * X["a"] + X["b"]).to_numpy()


def test_importance_is_what_shuffling_a_column_costs() -> None:
    X, y = make(2000)
    found = feature_importance(Sum(), X, y, n_repeats=5, seed=0)
    assert list(found.index) == ["a", "b", "c"]
    assert found.index.name == "column"
    # A shuffled column misses by twice its variance: 2 * 4 / 5 and 2 * 1 / 5.
    np.testing.assert_allclose(found["importance"], [1.6, 0.4, 0.0], atol=0.1)
    assert found.loc["c", "importance"] == 0 == found.loc["c", "std"]
    pd.testing.assert_frame_equal(found, feature_importance(Sum(), X, y, n_repeats=5, seed=0))


def test_of_many_rows_some_are_used_and_noise_stays_at_zero() -> None:
    X, y = make(3 * MOST_IMPORTANCE_ROWS)
    seen = []

    class Counting(Sum):
        def predict(self, X: pd.DataFrame) -> Any:
            seen.append(len(X))
            return super().predict(X) + np.linspace(0, 0.1, len(X))  # never quite right

    found = feature_importance(Counting(), X, y, n_repeats=2, seed=0)
    assert max(seen) == MOST_IMPORTANCE_ROWS
    np.testing.assert_allclose(found.loc[["a", "b", "c"], "importance"], [1.6, 0.4, 0.0], atol=0.1)
    assert found.loc["c", "importance"] == 0


@pytest.mark.parametrize("form", ["array", "list", "polars", "arrow"])
def test_tables_of_other_libraries(form: str) -> None:
    X, y = make(200)
    given: Any = {"array": X.to_numpy, "list": X.to_numpy().tolist}.get(form, lambda: X)()
    if form == "polars":
        given = pytest.importorskip("polars").DataFrame(X.to_dict("list"))
    elif form == "arrow":
        given = pytest.importorskip("pyarrow").table(X.to_dict("list"))
    found = feature_importance(Sum(), given, list(y), n_repeats=3, seed=1)
    assert list(found.index) == (["0", "1", "2"] if form in ("array", "list") else ["a", "b", "c"])
    np.testing.assert_array_equal(found, feature_importance(Sum(), X, y, n_repeats=3, seed=1))


def test_what_cannot_be_shuffled_is_refused() -> None:
    X, y = make(20)
    with pytest.raises(InputError, match="X is a sparse matrix"):
        feature_importance(Sum(), sp.csr_matrix(X), y, n_repeats=1, seed=0)
    with pytest.raises(InputError, match="X and y have different lengths: 20 and 19"):
        feature_importance(Sum(), X, y[:-1], n_repeats=1, seed=0)


def test_importance_of_a_fitted_estimator_is_that_of_scikit_learn() -> None:
    from sklearn.inspection import permutation_importance

    X, y = make(300)
    model = LinearRegression().fit(X, y)
    expected = permutation_importance(model, X, y, n_repeats=4, random_state=3).importances_mean
    found = feature_importance(model, X, y, n_repeats=4, seed=3)
    np.testing.assert_allclose(found.loc[["a", "b", "c"], "importance"], expected)
