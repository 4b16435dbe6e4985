"""Importance is what shuffling a column costs, with the results of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse as sp
from sklearn.linear_model import LinearRegression

from windvane import AutoRegressor, load
from windvane.data.column_types import infer_schema
from windvane.data.files import to_frame
from windvane.errors import InputError
from windvane.evaluation.columns.importance import (
    MAX_ROWS,
    correlated_columns,
    encoded_columns,
    feature_importance,
)
from windvane.evaluation.metrics import Metric
from windvane.runtime.columns.table import Floats, Table
from windvane.runtime.ensemble import Ensemble

RNG = np.random.default_rng(0)
N = 400
# The share of explained variance of 2 a + b.
SHARE = Metric("share", lambda y, p: float(1 - np.mean((y - p) ** 2) / 5), needs="values")


class Sum:
    """Predicts 2 a + b; c is noise."""

    classes = targets = None
    ensemble = Ensemble((), 0.0)

    def __init__(self, X: Any) -> None:
        self.schema, self.seen = infer_schema(to_frame(X)), list[int]()

    def table(self, X: Any, owner: str = "") -> Table:
        return self.schema.transform(to_frame(X), owner=owner)

    def predict_raw(self, table: Table) -> Floats:
        self.seen.append(table.n_rows)
        return np.asarray(2 * table.matrix[:, 0] + table.matrix[:, 1])


def make(n: int) -> tuple[pd.DataFrame, Any]:
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(n, 3)), columns=["a", "b", "c"])
    return X, (2 * X["a"] + X["b"]).to_numpy()


def test_importance_is_what_shuffling_a_column_costs() -> None:
    X, y = make(2000)
    found = feature_importance(Sum(X), SHARE, X, y, n_repeats=5)
    assert list(found.index) == ["a", "b", "c"]
    assert found.index.name == "column"
    # A shuffled column misses by twice its variance: 2 * 4 / 5 and 2 * 1 / 5.
    np.testing.assert_allclose(found["importance"], [1.6, 0.4, 0.0], atol=0.1)
    assert found.loc["c", "importance"] == 0 == found.loc["c", "std"]
    pd.testing.assert_frame_equal(found, feature_importance(Sum(X), SHARE, X, y, n_repeats=5))


def test_of_many_rows_some_are_used_and_noise_stays_at_zero() -> None:
    X, y = make(3 * MAX_ROWS)

    class NeverQuiteRight(Sum):
        def predict_raw(self, table: Table) -> Floats:
            return super().predict_raw(table) + np.linspace(0, 0.1, table.n_rows)

    model = NeverQuiteRight(X)
    found = feature_importance(model, SHARE, X, y, n_repeats=2)
    assert max(model.seen[1:]) == MAX_ROWS  # all rows are predicted once
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
    for model in (Sum(X), Sum(given)) if form in ("array", "list") else (Sum(given),):
        found = feature_importance(model, SHARE, given, list(y), n_repeats=3)
        assert list(found.index) == (["0", "1", "2"] if form in ("array", "list") else ["a", "b", "c"])
        np.testing.assert_array_equal(found, feature_importance(Sum(X), SHARE, X, y, n_repeats=3))


def test_what_cannot_be_shuffled_is_refused() -> None:
    X, y = make(20)
    with pytest.raises(InputError, match="X is a sparse matrix"):
        feature_importance(Sum(X), SHARE, sp.csr_matrix(X), y, n_repeats=1)
    with pytest.raises(InputError, match="X and y have different lengths: 20 and 19"):
        feature_importance(Sum(X), SHARE, X, y[:-1], n_repeats=1)


def test_importance_is_that_of_scikit_learn() -> None:
    from sklearn.inspection import permutation_importance

    X, y = make(300)
    y = y + np.random.default_rng(1).normal(size=300)
    regressor = LinearRegression().fit(X.to_numpy(), y)
    expected = permutation_importance(regressor, X.to_numpy(), y, n_repeats=4, random_state=0)

    class Linear(Sum):
        def predict_raw(self, table: Table) -> Floats:
            return np.asarray(regressor.predict(table.matrix))

    metric = Metric("r2", regressor_score, needs="values")
    found = feature_importance(Linear(X), metric, X, y, n_repeats=4).loc[["a", "b", "c"]]
    np.testing.assert_allclose(found["importance"], expected.importances_mean)
    np.testing.assert_allclose(found["std"], expected.importances_std)


def regressor_score(y: Any, p: Any) -> float:
    from sklearn.metrics import r2_score

    return float(r2_score(y, p))


def test_texts_are_shuffled_and_unused_columns_are_zero() -> None:
    words = [f"{'good' if i % 2 else 'bad'} {i} {i * 7 % 13} word" for i in range(200)]
    X = pd.DataFrame({"one": 1.0, "note": words, "a": RNG.normal(size=200)})
    y = (np.arange(200) % 2).astype(float)

    class Reader(Sum):
        def predict_raw(self, table: Table) -> Floats:
            return np.array([float(text.startswith("good")) for text in table.texts[0]])

    model = Reader(X)
    assert encoded_columns(model.schema)["note"].texts == (0,)
    metric = Metric("right", lambda y, p: float(np.mean(y == p)), needs="values")
    found = feature_importance(model, metric, X.assign(other=0.0), y, n_repeats=3)
    assert list(found.index) == ["note", "one", "a", "other"]
    assert found.loc["note", "importance"] == pytest.approx(0.5, abs=0.1)
    assert (found.loc[["one", "a", "other"]] == 0).all(axis=None)


def test_matrix_places_follow_the_encoded_table() -> None:
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(RNG.integers(900, size=N), unit="D")
    X = pd.DataFrame({"c": RNG.choice(list("xy"), N), "when": days, "a": RNG.normal(size=N), "k": 1.0})
    schema = infer_schema(X)
    table = schema.transform(X)
    found = schema.matrix_places
    assert sorted(j for where in found.values() for j in where) == list(range(table.matrix.shape[1]))
    np.testing.assert_array_equal(table.matrix[:, found["a"][0]], X["a"])
    assert set(np.unique(table.matrix[:, found["c"][0]])) == {0.0, 1.0}
    assert len(found["when"]) > 2
    assert "k" not in found


def test_a_limit_in_time_leaves_columns_without_a_value_and_says_so() -> None:
    X, y = make(60)
    shown: list[tuple[int, int]] = []
    with pytest.warns(UserWarning, match=r"ended after 0 seconds: \d+ of \d+ columns are without a value"):
        found = feature_importance(Sum(X), SHARE, X, y, 5, 1e-9, lambda done, total: shown.append((done, total)))
    assert set(found.index) == set(X.columns) and found["importance"].isna().all() and shown == []
    feature_importance(Sum(X), SHARE, X, y, 2, on_column=lambda done, total: shown.append((done, total)))
    assert shown[-1] == (2 * X.shape[1], 2 * X.shape[1])


def test_a_group_is_shuffled_together() -> None:
    X, y = make(2000)
    found = feature_importance(Sum(X), SHARE, X, y, n_repeats=5, groups={"both": ["a", "b"]})
    assert list(found.index) == ["both", "c"]
    np.testing.assert_allclose(found["importance"], [2 * 5 / 5, 0.0], atol=0.1)
    alone = feature_importance(Sum(X), SHARE, X, y, n_repeats=5, groups={"both": ["c"]})
    assert list(alone.index) == ["a", "b", "both"]


def test_groups_of_correlated_columns() -> None:
    """Any two of a group have a rank correlation of at least 0.8; found among all pairs by scipy."""
    rng = np.random.default_rng(1)
    X, _ = make(500)
    X = X.assign(power=-(X["a"] ** 3), near=X["b"] + 0.3 * rng.normal(size=500), kind=rng.choice(["x", "y"], 500))
    X = X.assign(far=X["near"] + 0.7 * rng.normal(size=500), gaps=X["a"].where(rng.random(500) < 0.95), same=1.0)
    schema = infer_schema(X)
    groups = correlated_columns(encoded_columns(schema), schema.transform(X))
    assert sorted(map(sorted, groups)) == [["a", "gaps", "power"], ["b", "near"]]
    rho = X.drop(columns=["kind", "same"]).corr("spearman").abs()
    assert rho.loc["near", "far"] > 0.8 > rho.loc["b", "far"]  # the group of both would have a pair below
    for group in groups:
        assert (rho.loc[group, group] > 0.8).all(axis=None)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ("all", "groups='all' is not usable. Allowed: 'correlated'"),
        (["a"], "is not usable"),
        ({"g": ["a", "z"]}, r"groups\['g'\]='z'"),
        ({"g": ["a"], "h": ["a", "b"]}, "column 'a' is in 'g' and in 'h'"),
        ({"c": ["a", "b"]}, "groups has the name 'c', which is a column of no group"),
    ],
)
def test_bad_groups(groups: Any, message: str) -> None:
    X, y = make(100)
    with pytest.raises(InputError, match=message):
        feature_importance(Sum(X), SHARE, X, y, n_repeats=1, groups=groups)


def test_dropped_columns(tmp_path: Any) -> None:
    """Each model is trained again by scikit-learn; a copy of a column tells what the column tells."""
    X, y = make(300)
    X = X.assign(copy=X["a"])
    model = AutoRegressor(
        300, n_trials=1, n_jobs=1, families=[LinearRegression()], verbose=0, random_state=0, metric="rmse"
    ).fit(X[:200], y[:200])

    def loss(columns: list[str]) -> float:
        fitted = LinearRegression().fit(X.loc[:199, columns], y[:200])
        return float(np.sqrt(np.mean((fitted.predict(X.loc[200:, columns]) - y[200:]) ** 2)))

    found = model.feature_importance(X[200:], y[200:], method="drop")
    everything = loss(list(X))
    expected = {name: loss([other for other in X if other != name]) - everything for name in X}
    np.testing.assert_allclose(found["importance"], [expected[name] for name in found.index], atol=1e-6)
    assert found.index[0] == "b" and found["std"].isna().all()
    grouped = model.feature_importance(X[200:], y[200:], method="drop", groups="correlated")
    assert grouped.loc["a, copy", "importance"] == pytest.approx(loss(["b", "c"]) - everything, abs=1e-6)
    with pytest.warns(UserWarning, match="2 of 4 columns are without a value|3 of 4|4 of 4"):
        model.feature_importance(X[200:], y[200:], method="drop", time_budget=1e-9)
    with pytest.raises(InputError, match="method='remove'"):
        model.feature_importance(X, y, method="remove")
    model.save(tmp_path / "saved")
    with pytest.raises(InputError, match="method='drop' trains again, but the training data are not here"):
        load(tmp_path / "saved", families=[LinearRegression()]).feature_importance(X, y, method="drop")
