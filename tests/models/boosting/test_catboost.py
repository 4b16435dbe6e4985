from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import pytest
from cases import Case, Ticking, make_case

from windvane.models import FAMILIES, base_model
from windvane.models.boosting import catboost as catboost_family

FAMILY = FAMILIES["catboost"]
QUICK = {"learning_rate": 0.2, "depth": 3}


def test_early_stopping_finishes_and_the_best_iteration_predicts(case: Case) -> None:
    model: Any = case.create_model(FAMILY, QUICK)
    model.train_until(10**6)
    assert model.finished and model.best_iteration < model.iterations
    assert model.best_iteration == 1 + int(np.argmin(model.early_stopping.losses))
    best = case.create_model(FAMILY, QUICK)
    best.train_until(model.best_iteration)
    np.testing.assert_allclose(model.predict(case.test.table), best.predict(case.test.table), rtol=1e-12, atol=1e-12)


def test_the_curve_is_the_loss_of_the_validation_part(case: Case) -> None:
    weight = np.random.default_rng(0).uniform(size=len(case.validation.target))
    model: Any = replace(case, validation=replace(case.validation, weight=weight)).create_model(FAMILY)
    model.train_until(5)
    found, target = model.predict(case.validation.table), case.validation.target
    if case.context.task.is_classification:
        loss = np.average(-np.log(found[np.arange(len(target)), target]), weights=weight)
    else:
        target_scaler = model.target_scaler
        loss = np.sqrt(
            np.average((target_scaler.transform(found) - target_scaler.transform(target)) ** 2, weights=weight)
        )
    assert model.early_stopping.losses[model.best_iteration - 1] == pytest.approx(loss, rel=1e-5)


def test_it_continues_from_the_moment_that_the_clock_stopped_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Ticking()
    for module in (base_model, catboost_family):
        monkeypatch.setattr(module, "time", clock)
    case = make_case("binary", n=3000)
    one, two = case.create_model(FAMILY), case.create_model(FAMILY)
    one.train_until(64, deadline=6.0)  # one look before the first tree, one after each
    assert one.iterations == 6 and not one.finished
    one.train_until(64)
    two.train_until(64)
    np.testing.assert_array_equal(one.predict(case.test.table), two.predict(case.test.table))


def test_a_checkpoint_has_the_trees_that_predict_and_no_others(tmp_path: Path) -> None:
    case = make_case("multiclass")
    model: Any = case.create_model(FAMILY, QUICK)
    model.train_until(10**6)
    assert model.best_iteration < model.iterations
    model.save(tmp_path)
    booster = catboost.CatBoost().load_model(str(tmp_path / "model.cbm"))
    assert booster.tree_count_ == model.best_iteration < model.booster.tree_count_
    np.testing.assert_array_equal(
        FAMILY.load(tmp_path, case.context).predict(case.test.table), model.predict(case.test.table)
    )
