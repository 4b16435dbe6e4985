"""Tables of other libraries, nullable types, and scikit-learn's routing, settings and tools around the estimators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from windvane import AutoClassifier

OPTIONS: dict[str, Any] = {"families": ["linear"], "n_trials": 1, "n_jobs": 1, "random_state": 0, "verbose": 0}
N = 60
RNG = np.random.default_rng(0)
GROUPS = np.arange(N) // 3
WEIGHTS = RNG.uniform(0.5, 2, N)


def make_table() -> pd.DataFrame:
    """Integers, floats, booleans and texts, missing values in all but the integers."""
    table = pd.DataFrame(
        {
            "count": RNG.integers(0, 9, N),
            "size": RNG.normal(size=N).round(3),
            "flag": pd.Series(RNG.random(N) < 0.5, dtype=object),
            "colour": pd.Series(RNG.choice(["red", "green", "blue"], N), dtype=object),
        }
    )
    for name in ("size", "flag", "colour"):
        table.loc[RNG.random(N) < 0.1, name] = None
    return table


X = make_table()
Y = np.where(X["size"].fillna(0) + X["count"] / 9 > 0.4, "yes", "no")
DTYPES = {
    "count": ["int64", "Int64", "Int32", "UInt16", "float64", "int64[pyarrow]", "double[pyarrow]"],
    "size": ["float64", "Float64", "double[pyarrow]", "object"],
    "flag": ["object", "boolean", "bool[pyarrow]"],
    "colour": ["object", "str", "string", "string[pyarrow]", "category"],
}
Y_DTYPES = ["object", "str", "string", "string[pyarrow]", "category"]


def tables() -> st.SearchStrategy[pd.DataFrame]:
    """The table, each column in a type that holds the same values."""
    return st.fixed_dictionaries({name: st.sampled_from(types) for name, types in DTYPES.items()}).map(
        lambda types: pd.DataFrame({name: converted(X[name], dtype) for name, dtype in types.items()})
    )


def converted(values: pd.Series, dtype: str) -> pd.Series:
    return pd.Series(pd.array(values.where(values.notna(), None).tolist(), dtype=dtype), name=values.name)


@pytest.fixture(scope="module")
def fitted() -> AutoClassifier:
    return AutoClassifier(**OPTIONS).fit(X, Y)


@settings(max_examples=25, deadline=None)
@given(tables())
def test_a_type_does_not_change_a_prediction(fitted: AutoClassifier, table: pd.DataFrame) -> None:
    np.testing.assert_array_equal(fitted.predict_proba(table), fitted.predict_proba(X))


@settings(max_examples=3, deadline=None)
@given(tables(), st.sampled_from(Y_DTYPES))
def test_a_type_does_not_change_a_fit(fitted: AutoClassifier, table: pd.DataFrame, dtype: str) -> None:
    model = AutoClassifier(**OPTIONS).fit(table, converted(pd.Series(Y), dtype))
    np.testing.assert_allclose(model.predict_proba(X), fitted.predict_proba(X), rtol=0, atol=1e-12)
    assert model.classes_.tolist() == ["no", "yes"]


@pytest.mark.parametrize("convert", [pl.from_pandas, pa.Table.from_pandas], ids=["polars", "arrow"])
def test_tables_of_other_libraries(fitted: AutoClassifier, convert: Any) -> None:
    """Predictions are arrays, as those of every predictor of scikit-learn."""
    found = fitted.predict_proba(convert(X))
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, fitted.predict_proba(X))
    assert fitted.score(convert(X), Y) == fitted.score(X, Y)


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_frames_as_output_of_transformers(fitted: AutoClassifier, output: str) -> None:
    with sklearn.config_context(transform_output=output):
        model = clone(fitted).fit(X, Y)
        assert type(model.predict_proba(X)) is np.ndarray
        np.testing.assert_array_equal(model.predict_proba(X), fitted.predict_proba(X))
        refitted = clone(fitted).fit(X, Y).refit(X, Y)
        before = make_column_transformer((StandardScaler(), ["count", "size"]), remainder="passthrough")
        pipeline = make_pipeline(before, AutoClassifier(**OPTIONS)).fit(X, Y)
        assert pipeline[-1].feature_names_in_[0] == "standardscaler__count"
        assert pipeline.predict(X).shape == (N,)
    np.testing.assert_array_equal(refitted.predict_proba(X), clone(fitted).fit(X, Y).refit(X, Y).predict_proba(X))


class Recorder(AutoClassifier):
    """Remembers what `fit` was given."""

    def fit(self, X: Any, y: Any = None, *, groups: Any = None, sample_weight: Any = None) -> Recorder:  # type: ignore[override]
        self.given_ = {"groups": groups, "sample_weight": sample_weight, "n": len(X)}
        super().fit(X, y, groups=groups, sample_weight=sample_weight)
        return self


def test_metadata_is_routed() -> None:
    numbers = X[["count", "size"]].fillna(0)
    metadata = {"sample_weight": WEIGHTS, "groups": GROUPS}
    with sklearn.config_context(enable_metadata_routing=True):
        model = Recorder(**OPTIONS).set_fit_request(sample_weight=True, groups=True)
        model.set_score_request(sample_weight=True)
        folds = GroupKFold(2)
        done = cross_validate(model, numbers, Y, cv=folds, params=metadata, return_estimator=True)
        for (train, test), one, score in zip(
            folds.split(numbers, Y, GROUPS), done["estimator"], done["test_score"], strict=True
        ):
            np.testing.assert_array_equal(one.given_["sample_weight"], WEIGHTS[train])
            np.testing.assert_array_equal(one.given_["groups"], GROUPS[train])
            assert score == one.score(numbers.iloc[test], Y[test], sample_weight=WEIGHTS[test])
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), clone(model))
        pipeline.fit(numbers, Y, **metadata)
        np.testing.assert_array_equal(pipeline[-1].given_["groups"], GROUPS)
        search = GridSearchCV(clone(model), {"n_trials": [1, 2]}, cv=folds, n_jobs=1).fit(numbers, Y, **metadata)
        assert search.best_estimator_.given_["n"] == N
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError, match="sample_weight"):
            cross_validate(AutoClassifier(**OPTIONS), numbers, Y, cv=folds, params=metadata)


def test_the_same_without_routing() -> None:
    numbers = X[["count", "size"]].fillna(0)
    scores = cross_validate(Recorder(**OPTIONS), numbers, Y, cv=2, params={"sample_weight": WEIGHTS})
    assert np.isfinite(scores["test_score"]).all()


def test_to_optuna_and_to_onnx_name_what_is_missing(fitted: AutoClassifier, tmp_path: Path) -> None:
    study = fitted.to_optuna(tmp_path / "study.db")
    metric = fitted.predictor_.metric
    assert [trial.value for trial in study.trials] == [metric.score(trial.loss) for trial in fitted.trials_]
