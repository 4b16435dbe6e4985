from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import pytest
from cases import Case, Ticking, make_case

from windvane.models import FAMILIES, boosting_catboost

FAMILY = FAMILIES["catboost"]
QUICK = {"learning_rate": 0.2, "depth": 3}


def test_early_stopping_finishes_and_the_best_iteration_predicts(case: Case) -> None:
    model: Any = case.start(FAMILY, QUICK)
    model.grow(10**6)
    assert model.finished and model.best_iteration < model.iterations
    assert model.best_iteration == 1 + int(np.argmin(model.curve.losses))
    best = case.start(FAMILY, QUICK)
    best.grow(model.best_iteration)
    np.testing.assert_allclose(model.predict(case.test.table), best.predict(case.test.table), rtol=1e-12, atol=1e-12)


def test_the_curve_is_the_loss_of_the_validation_part(case: Case) -> None:
    weight = np.random.default_rng(0).uniform(size=len(case.valid.target))
    model: Any = replace(case, valid=replace(case.valid, weight=weight)).start(FAMILY)
    model.grow(5)
    found, target = model.predict(case.valid.table), case.valid.target
    if case.setting.task.is_classification:
        loss = np.average(-np.log(found[np.arange(len(target)), target]), weights=weight)
    else:
        units = model.units
        loss = np.sqrt(np.average((units.shrink(found) - units.shrink(target)) ** 2, weights=weight))
    assert model.curve.losses[model.best_iteration - 1] == pytest.approx(loss, rel=1e-5)


def test_it_continues_from_the_moment_that_the_clock_stopped_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosting_catboost, "time", Ticking())
    case = make_case("binary", n=3000)
    one, two = case.start(FAMILY), case.start(FAMILY)
    one.grow(64, until=6.0)  # one look before the first tree, one after each
    assert one.iterations == 6 and not one.finished
    one.grow(64)
    two.grow(64)
    np.testing.assert_array_equal(one.predict(case.test.table), two.predict(case.test.table))


def test_a_checkpoint_has_the_trees_that_predict_and_no_others(tmp_path: Path) -> None:
    case = make_case("multiclass")
    model: Any = case.start(FAMILY, QUICK)
    model.grow(10**6)
    assert model.best_iteration < model.iterations
    model.save(tmp_path)
    booster = catboost.CatBoost().load_model(str(tmp_path / "model.cbm"))
    assert booster.tree_count_ == model.best_iteration < model.booster.tree_count_
    np.testing.assert_array_equal(
        FAMILY.load(tmp_path, case.setting).predict(case.test.table), model.predict(case.test.table)
    )
