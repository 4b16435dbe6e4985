from __future__ import annotations

import warnings

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from windvane.models.base import DataSplit
from windvane.models.linear import fit_until_deadline
from windvane.runtime.columns.table import Table

X, y = load_iris(return_X_y=True)
TRAIN = DataSplit(Table(X, 4), y)


def estimator() -> LogisticRegression:
    return LogisticRegression(C=10.0, tol=1e-8, warm_start=True)


def test_portions_come_to_the_same_as_one_long_fit() -> None:
    portioned = estimator()
    assert fit_until_deadline(portioned, X, TRAIN, (10, 30, 3000), np.inf)
    whole = LogisticRegression(C=10.0, tol=1e-8, max_iter=5000).fit(X, y)
    np.testing.assert_allclose(portioned.predict_proba(X), whole.predict_proba(X), atol=2e-3)


def test_the_clock_ends_it_after_the_first_portion() -> None:
    stopped, first = estimator(), LogisticRegression(C=10.0, tol=1e-8, max_iter=5)
    assert not fit_until_deadline(stopped, X, TRAIN, (5, 50), -np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first.fit(X, y)
    np.testing.assert_array_equal(stopped.coef_, first.coef_)


def test_it_ends_where_nothing_is_left_to_gain_or_to_do() -> None:
    assert fit_until_deadline(estimator(), X, TRAIN, (3000,), -np.inf)
    assert fit_until_deadline(estimator(), X, TRAIN, (2, 2), np.inf)
