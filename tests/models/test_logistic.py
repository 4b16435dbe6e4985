from __future__ import annotations

import warnings

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from windvane.models.base import Part
from windvane.models.logistic import descend
from windvane.runtime.columns.table import Table

X, y = load_iris(return_X_y=True)
TRAIN = Part(Table(X, 4), y)


def estimator() -> LogisticRegression:
    return LogisticRegression(C=10.0, tol=1e-8, warm_start=True)


def test_portions_come_to_the_same_as_one_long_fit() -> None:
    portioned = estimator()
    assert descend(portioned, X, TRAIN, (10, 30, 3000), np.inf)
    whole = LogisticRegression(C=10.0, tol=1e-8, max_iter=5000).fit(X, y)
    np.testing.assert_allclose(portioned.predict_proba(X), whole.predict_proba(X), atol=2e-3)


def test_the_clock_ends_it_after_the_first_portion() -> None:
    stopped, first = estimator(), LogisticRegression(C=10.0, tol=1e-8, max_iter=5)
    assert not descend(stopped, X, TRAIN, (5, 50), -np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first.fit(X, y)
    np.testing.assert_array_equal(stopped.coef_, first.coef_)


def test_it_ends_where_nothing_is_left_to_gain_or_to_do() -> None:
    assert descend(estimator(), X, TRAIN, (3000,), -np.inf)
    assert descend(estimator(), X, TRAIN, (2, 2), np.inf)
