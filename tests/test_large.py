"""Large data within a budget of 60 s; run by ``make test-slow``."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from windvane import AutoClassifier, AutoRegressor


@pytest.mark.slow
def test_two_million_rows() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2_000_000, 20))
    y = (X[:, 0] * X[:, 1] + X[:, 2] + rng.normal(size=len(X)) > 0).astype(int)
    started = time.monotonic()
    model = AutoClassifier(time_budget=60, n_jobs=2, verbose=0, random_state=0).fit(X, y)
    assert time.monotonic() - started < 63
    fresh = rng.normal(size=(20_000, 20))
    truth = (fresh[:, 0] * fresh[:, 1] + fresh[:, 2] + rng.normal(size=len(fresh)) > 0).astype(int)
    assert roc_auc_score(truth, model.predict_proba(fresh)[:, 1]) > 0.85  # the best possible is about 0.88
    assert {trial.rows for trial in model.trials_} != {None}  # samples came first


@pytest.mark.slow
def test_ten_thousand_columns() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 10_000))
    y = X[:, :5].sum(axis=1) + rng.normal(size=len(X))
    started = time.monotonic()
    model = AutoRegressor(time_budget=60, n_jobs=2, verbose=0, random_state=0).fit(X, y)
    assert time.monotonic() - started < 63
    assert model.performance_over_time_["ensemble"].iloc[-1] <= 1.02 * y.std()


@pytest.mark.slow
def test_ten_thousand_columns_and_classes() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 10_000))
    y = np.digitize(X[:, :3].sum(axis=1), [-1.5, 0, 1.5])
    started = time.monotonic()
    model = AutoClassifier(time_budget=60, n_jobs=2, verbose=0, random_state=0).fit(X, y)
    assert time.monotonic() - started < 63
    assert len(model.predict(X)) == 500
