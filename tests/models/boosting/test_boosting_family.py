from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from cases import Case

from windvane.data.task import Task
from windvane.models import FAMILIES

QUICK = {
    "lightgbm": {"learning_rate": 0.2},
    "catboost": {"learning_rate": 0.2, "depth": 3},
    "xgboost": {"learning_rate": 0.2},
}
NEEDS_EXTRA = pytest.mark.skipif(not find_spec("xgboost"), reason="XGBoost is an extra")
HERE = ["lightgbm", "catboost", pytest.param("xgboost", marks=NEEDS_EXTRA)]


@pytest.mark.parametrize("name", ["lightgbm", "catboost"])
def test_the_best_iteration_predicts_as_a_training_that_ends_there(case: Case, name: str) -> None:
    family = FAMILIES[name]
    model: Any = case.create_model(family, QUICK[name])
    model.train_until(10**6)
    best = case.create_model(family, QUICK[name])
    best.train_until(model.best_iteration)
    np.testing.assert_allclose(model.predict(case.test.table), best.predict(case.test.table), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", HERE)
def test_early_stopping_finishes(case: Case, name: str) -> None:
    model: Any = case.create_model(FAMILIES[name], QUICK[name])
    model.train_until(10**6)
    assert model.finished and model.best_iteration < model.iterations
    assert model.best_iteration == 1 + int(np.argmin(model.early_stopping.losses))


@pytest.mark.parametrize("name", HERE)
def test_the_curve_is_the_loss_of_the_validation_part(case: Case, name: str) -> None:
    weight = np.random.default_rng(0).uniform(size=len(case.validation.target))
    weighted = replace(case, validation=replace(case.validation, weight=weight))
    model: Any = weighted.create_model(FAMILIES[name])
    model.train_until(5)
    found, target = model.predict(case.validation.table), case.validation.target
    if case.context.task.is_classification:
        loss = np.average(-np.log(found[np.arange(len(target)), target]), weights=weight)
    else:
        scaler = model.target_scaler
        loss = np.average((scaler.transform(found) - scaler.transform(target)) ** 2, weights=weight)
        loss = loss if name == "lightgbm" else np.sqrt(loss)  # the others watch its root
    assert model.early_stopping.losses[model.best_iteration - 1] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("name", QUICK)
def test_many_columns_and_classes_are_kept_earlier(name: str) -> None:
    usual, slow = Task("binary", 1000, 20, 2), Task("multiclass", 1000, 617, 26)
    assert [FAMILIES[name].checkpoint_iterations({}, task)[0] for task in (usual, slow)] == [16, 4]
