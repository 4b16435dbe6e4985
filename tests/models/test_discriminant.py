from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import make_case, take
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis

from windvane.data.table import Table
from windvane.data.task import Task
from windvane.models import FAMILIES

FAMILY = FAMILIES["discriminant"]


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("prior", ["shares", "uniform"])
@pytest.mark.parametrize("which", ["ledoit_wolf", "linear", "quadratic"])
def test_it_is_the_model_of_scikit_learn(kind: Any, prior: str, which: str) -> None:
    case = make_case(kind)
    case = replace(case, train=take(case.train, np.flatnonzero((case.train.target > 0) | (case.train.target % 2 == 0))))
    config = {"kind": which, "prior": prior} | ({} if which == "ledoit_wolf" else {"shrinkage": 0.3})
    model: Any = case.start(FAMILY, config)
    model.grow(1)
    rows = model._encoder.fit_transform(case.train.table, case.train.target, case.setting.task)
    n_classes = case.setting.task.n_classes
    priors = None if prior == "shares" else np.full(n_classes, 1 / n_classes)
    if which == "quadratic":
        other: Any = QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=0.3, priors=priors, tol=0)
    else:
        shrinkage = "auto" if which == "ledoit_wolf" else 0.3
        other = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=priors)
    other.fit(rows, case.train.target)
    assert 1e-4 < model.sharpness < 2
    expected = softmax(model.sharpness * other.predict_log_proba(model._encoder.transform(case.test.table)), axis=1)
    np.testing.assert_allclose(model.predict(case.test.table), expected, atol=1e-9)


@pytest.mark.parametrize("which", ["ledoit_wolf", "quadratic"])
def test_a_class_of_one_row_is_left_out(which: str) -> None:
    case = make_case("multiclass")
    rare = np.append(np.flatnonzero(case.train.target != 1), np.flatnonzero(case.train.target == 1)[:1])
    model = replace(case, train=take(case.train, rare)).start(FAMILY, {"kind": which})
    model.grow(1)
    found = model.predict(case.test.table)
    assert (found[:, 1] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


def test_one_column_has_a_covariance_too() -> None:
    rng = np.random.default_rng(0)
    target = np.arange(400) % 2
    case = make_case("binary")
    table = Table((rng.normal(size=400) * np.where(target == 1, 5, 1))[:, None], 1)
    part = replace(case.train, table=table, target=target)
    model: Any = replace(case, train=part, valid=part).start(FAMILY, {"kind": "quadratic", "shrinkage": 1e-4})
    model.grow(1)
    assert ((model.predict(table)[:, 1] > 0.5) == (np.abs(table.matrix[:, 0]) > 1.8)).mean() > 0.9


def test_it_is_for_classes_and_dense_tables_of_some_columns() -> None:
    table, sparse = make_case("binary", n=50).train.table, make_case("binary", n=50, sparse=True).train.table
    assert FAMILY.supports(Task("binary", 100, 5, 2), table)
    assert not FAMILY.supports(Task("regression", 100, 5), table)
    assert not FAMILY.supports(Task("binary", 100, 5, 2), sparse)
    wide = Table(np.zeros((3, 1001)), 1001)
    assert not FAMILY.supports(Task("binary", 3, 1001, 2), wide)


def test_the_temperature_cures_what_is_far_too_sure() -> None:
    # Thirty copies of one noisy column count thirty times, since a covariance shrunk to its diagonal sees no copies.
    rng = np.random.default_rng(0)
    target = np.arange(2000) % 2
    table = Table(np.tile((target + rng.normal(size=2000))[:, None], 30) + rng.normal(size=(2000, 30)) / 100, 30)
    case = make_case("binary")
    part = replace(case.train, table=table, target=target)
    model: Any = replace(case, train=part, valid=part).start(FAMILY, {"kind": "quadratic", "shrinkage": 1.0})
    model.grow(1)

    def loss() -> float:
        return float(-np.log(np.maximum(model.predict(table)[np.arange(2000), target], 1e-15)).mean())

    assert 0.02 < model.sharpness < 0.06 and loss() < 0.65
    model.sharpness = 1.0
    assert loss() > 2
