from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest
from cases import Case, make_case

from windvane.models import FAMILIES
from windvane.models.base import Part
from windvane.runtime.columns.table import Table

FAMILY = FAMILIES["lightgbm"]
QUICK = {"learning_rate": 0.2}


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
        loss = np.average((units.shrink(found) - units.shrink(target)) ** 2, weights=weight)
    assert model.curve.losses[model.best_iteration - 1] == pytest.approx(loss, rel=1e-5)


def test_without_any_split_it_is_finished_and_predicts_the_prior() -> None:
    case = make_case("binary", n=60)
    blank = Table(np.zeros((36, 1)), 1)
    flat = replace(case, train=Part(blank, case.train.target), valid=Part(blank.take(np.arange(12)), case.valid.target))
    model = flat.start(FAMILY)
    model.grow(100)
    assert model.finished and model.iterations < 100
    np.testing.assert_allclose(model.predict(blank)[:, 1], case.train.target.mean(), rtol=1e-6)


def test_a_checkpoint_predicts_with_the_trees_up_to_the_best_and_resumes_with_all(case: Case, tmp_path: Path) -> None:
    model: Any = case.start(FAMILY, QUICK)
    model.grow(60)
    assert model.best_iteration < model.iterations
    model.save(tmp_path)
    n_trees = max(1, case.setting.task.n_classes) if case.setting.task.kind == "multiclass" else 1
    booster, everything = (lgb.Booster(model_file=tmp_path / name) for name in ("model.txt", "training.txt"))
    assert booster.num_trees() == n_trees * model.best_iteration
    assert everything.num_trees() == n_trees * model.iterations
    np.testing.assert_array_equal(
        FAMILY.load(tmp_path, case.setting).predict(case.test.table), model.predict(case.test.table)
    )
