from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, make_case
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from toys import Ticking

from windvane.data.task import Task
from windvane.models import FAMILIES, base_model, linear
from windvane.models.base import DataSplit, TrainingContext
from windvane.models.encoding import encoder_settings, fit_encoder
from windvane.models.search_space import fill_defaults
from windvane.runtime.columns.table import Table

FAMILY = FAMILIES["linear"]
CONFIG = {"C": 10.0}


def test_it_is_the_model_of_scikit_learn(case: Case) -> None:
    model: Any = case.create_model(FAMILY)
    model.train_until(1)
    task = case.context.task
    settings = encoder_settings(fill_defaults({}, FAMILY.search_space(task)))
    _, features = fit_encoder(settings, case.train.table, case.train.target, task)
    rows = model.encoder.transform(case.test.table)
    if task.is_classification:
        other = LogisticRegression(C=1.0, max_iter=2000).fit(features, case.train.target)
        np.testing.assert_allclose(model.predict(case.test.table), other.predict_proba(rows), atol=2e-2)
        other.coef_, other.intercept_ = model.coefficients, model.intercept
        np.testing.assert_allclose(model.predict(case.test.table), other.predict_proba(rows), rtol=1e-12, atol=1e-12)
    else:
        other = Ridge(alpha=1.0).fit(features, case.train.target)
        np.testing.assert_allclose(model.predict(case.test.table), other.predict(rows), rtol=1e-8)


def test_portions_come_to_the_same_as_one_long_fit() -> None:
    X, y = load_iris(return_X_y=True)
    train = DataSplit(Table(X, 4), y)
    model: Any = FAMILY.create_model(CONFIG, train, train, TrainingContext(Task("multiclass", 150, 4, 3), seed=0))
    model.train_until(1)
    assert model.finished and 1 < model.iterations < len(linear._PORTIONS)
    features = model.encoder.transform(train.table)
    whole = LogisticRegression(C=10.0, max_iter=5000, tol=1e-8).fit(features, y)
    np.testing.assert_allclose(model.predict(train.table), whole.predict_proba(features), atol=1e-2)


def test_a_deadline_after_the_end_of_the_training_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_case("regression").create_model(FAMILY)
    monkeypatch.setattr(base_model, "time", Ticking())
    model.train_until(1, deadline=1.0)  # the training begins at 0, and any later look at the clock shows 1
    assert model.finished


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_the_clock_stops_the_optimiser_and_it_continues(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_PORTIONS", (4, 32, 64, 128, 256, 512))
    case = make_case(kind, n=5000)
    config = {"C": 1000.0, "scale": "robust"}
    full, short = (case.create_model(FAMILY, config) for _ in range(2))
    full.train_until(1)
    with monkeypatch.context() as patch:
        patch.setattr(base_model, "time", Ticking())
        short.train_until(1, deadline=1.0)  # the first portion begins at 0, the second would at 1
    assert full.finished and full.iterations > 1
    assert not short.finished and short.iterations == 1
    settings = encoder_settings(fill_defaults(config, FAMILY.search_space(case.context.task)))
    encoder, features = fit_encoder(settings, case.train.table, case.train.target, case.context.task)
    with pytest.warns(ConvergenceWarning):
        first = LogisticRegression(C=1000.0, max_iter=4).fit(features, case.train.target)
    rows = encoder.transform(case.test.table)
    np.testing.assert_allclose(short.predict(case.test.table), first.predict_proba(rows), rtol=1e-12, atol=1e-12)
    short.save(tmp_path)
    continued = case.create_model(FAMILY, config, checkpoint=tmp_path)
    continued.train_until(1)
    assert continued.finished and continued.iterations == full.iterations
    np.testing.assert_array_equal(continued.predict(case.test.table), full.predict(case.test.table))
