from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, Ticking, make_case
from sklearn.linear_model import LogisticRegression, Ridge

from windvane.models import FAMILIES, linear
from windvane.models.encoding import encoder_settings, fit_encoder
from windvane.models.search_space import fill_defaults

FAMILY = FAMILIES["linear"]


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


def test_a_deadline_after_the_end_of_the_training_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_case("regression").create_model(FAMILY)
    monkeypatch.setattr(linear, "time", Ticking())
    model.train_until(1, deadline=1.0)  # the training begins at 0, and any later look at the clock shows 1
    assert model.finished


def test_the_clock_stops_the_optimiser_and_it_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = make_case("multiclass", n=5000)
    config = {"C": 1000.0, "scale": "robust"}
    full, short = case.create_model(FAMILY, config), case.create_model(FAMILY, config)
    full.train_until(1)
    with monkeypatch.context() as patch:
        clock = Ticking()
        patch.setattr(linear, "time", clock)
        short.train_until(1, deadline=1.0)  # the first portion begins at 0, the second would at 1
    assert full.finished and not short.finished and short.iterations == 1
    assert np.isfinite(short.predict(case.test.table)).all()
    short.save(tmp_path)
    continued = case.create_model(FAMILY, config, checkpoint=tmp_path)
    continued.train_until(1)
    assert continued.finished
    np.testing.assert_allclose(continued.predict(case.test.table), full.predict(case.test.table), atol=2e-2)
