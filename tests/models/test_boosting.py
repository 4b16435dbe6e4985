"""LightGBM and CatBoost: what is theirs alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from cases import Case, make_case

from windvane.data.table import Table
from windvane.models import FAMILIES
from windvane.models.base import Part

BOOSTERS = ("lightgbm", "catboost")
QUICK = {"lightgbm": {"learning_rate": 0.2}, "catboost": {"learning_rate": 0.2, "depth": 3}}


@pytest.mark.parametrize("name", BOOSTERS)
def test_early_stopping_finishes_and_the_best_iteration_predicts(name: str, case: Case) -> None:
    model: Any = case.start(FAMILIES[name], QUICK[name])
    model.grow(10**6)
    assert model.finished and model.best_iteration < model.iterations
    assert model.best_iteration == 1 + int(np.argmin(model.curve.losses))
    best = case.start(FAMILIES[name], QUICK[name])
    best.grow(model.best_iteration)
    np.testing.assert_allclose(model.predict(case.test.table), best.predict(case.test.table), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BOOSTERS)
def test_the_curve_is_the_loss_of_the_validation_part(name: str, case: Case) -> None:
    weight = np.random.default_rng(0).uniform(size=len(case.valid.target))
    model: Any = replace(case, valid=replace(case.valid, weight=weight)).start(FAMILIES[name])
    model.grow(5)
    found, target = model.predict(case.valid.table), case.valid.target
    if case.setting.task.is_classification:
        loss = np.average(-np.log(found[np.arange(len(target)), target]), weights=weight)
    else:
        units = model._units
        loss = np.average((units.shrink(found) - units.shrink(target)) ** 2, weights=weight)
        loss = np.sqrt(loss) if name == "catboost" else loss
    assert model.curve.losses[model.best_iteration - 1] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("name", BOOSTERS)
def test_units_of_the_target_do_not_matter(name: str) -> None:
    case = make_case("regression")
    moved = replace(case, train=replace(case.train, target=case.train.target * 1e-6 + 1e3))
    moved = replace(moved, valid=replace(case.valid, target=case.valid.target * 1e-6 + 1e3))
    found = []
    for one in (case, moved):
        model = one.start(FAMILIES[name])
        model.grow(16)
        found.append(model.predict(case.test.table))
    np.testing.assert_allclose((found[1] - 1e3) * 1e6, found[0], rtol=0.02)


def test_lightgbm_without_any_split_is_finished_and_predicts_the_prior() -> None:
    case = make_case("binary", n=60)
    blank = Table(np.zeros((36, 1)), 1)
    flat = replace(case, train=Part(blank, case.train.target), valid=Part(blank.take(np.arange(12)), case.valid.target))
    model = flat.start(FAMILIES["lightgbm"])
    model.grow(100)
    assert model.finished and model.iterations < 100
    np.testing.assert_allclose(model.predict(blank)[:, 1], case.train.target.mean(), rtol=1e-6)


def test_catboost_continues_from_the_moment_that_the_clock_stopped_it() -> None:
    import time

    case = make_case("binary", n=3000)
    one, two = case.start(FAMILIES["catboost"]), case.start(FAMILIES["catboost"])
    one.grow(64, until=time.monotonic() + 0.1)
    assert 0 < one.iterations < 64
    one.grow(64)
    two.grow(64)
    np.testing.assert_array_equal(one.predict(case.test.table), two.predict(case.test.table))
