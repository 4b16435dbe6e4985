from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import make_case

from windvane.data.task import Task
from windvane.models import FAMILIES
from windvane.models.targets.target_scaler import TargetScaler
from windvane.runtime.output import Output


def test_numbers_get_mean_0_and_spread_1_and_come_back() -> None:
    target, weight = np.array([1.0, 2.0, 4.0]) + 1e6, np.array([1.0, 1.0, 2.0])
    target_scaler = TargetScaler.of(target, weight, Task("regression", 3, 1))
    shrunk = target_scaler.transform(target)
    assert np.average(shrunk, weights=weight) == pytest.approx(0, abs=1e-9)
    assert np.average(shrunk**2, weights=weight) == pytest.approx(1)
    back = Output(0, mean=target_scaler.mean, scale=target_scaler.scale).from_values(shrunk)
    np.testing.assert_allclose(back, target, rtol=1e-15)


def test_a_constant_comes_back_exactly_and_huge_numbers_are_finite() -> None:
    task = Task("regression", 3, 1)
    constant = TargetScaler.of(np.full(3, 0.1), np.array([0.3, 0.2, 0.1]), task)
    assert (constant.mean, constant.scale) == (0.1, 0.0)
    np.testing.assert_array_equal(constant.transform(np.full(3, 0.1)), 0.0)
    output = Output(0, mean=constant.mean, scale=constant.scale)
    np.testing.assert_array_equal(output.from_values(np.array([0.0, -3.0])), 0.1)
    huge = np.array([1e300, 1.0, -1e300])
    scaler = TargetScaler.of(huge, None, task)
    back = Output(0, mean=scaler.mean, scale=scaler.scale).from_values(scaler.transform(huge))
    np.testing.assert_allclose(back, huge, rtol=1e-12, atol=1e285)


def test_classes_stay() -> None:
    target = np.array([0, 1, 1])
    assert TargetScaler.of(target, None, Task("binary", 3, 1, 2)).transform(target) is target


@pytest.mark.parametrize("name", ["lightgbm", "catboost", "linear", "mlp", "network"])
def test_units_of_the_target_do_not_matter(name: str) -> None:
    case = make_case("regression")
    moved = replace(case, train=replace(case.train, target=case.train.target * 1e-6 + 1e3))
    moved = replace(moved, validation=replace(case.validation, target=case.validation.target * 1e-6 + 1e3))
    losses = []
    for one in (case, moved):
        model = one.create_model(FAMILIES[name])
        model.train_until(16)
        found = model.predict(case.test.table)
        losses.append(case.loss(found if one is case else (found - 1e3) * 1e6))
    # Not equal, since a rounding error of the target may turn a split.
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_answers_a_constant_target_with_the_constant(name: str) -> None:
    case = make_case("regression")
    if not FAMILIES[name].supports(case.context.task, case.train.table):
        pytest.skip("predicts classes alone")
    constant = replace(case, train=replace(case.train, target=np.full_like(case.train.target, 0.1)))
    model = constant.create_model(FAMILIES[name])
    model.train_until(16)
    np.testing.assert_allclose(model.predict(case.test.table), 0.1, rtol=1e-12)


def test_catboost_knows_the_class_that_its_training_set_lacks() -> None:
    case = make_case("binary")
    one = replace(case, train=replace(case.train, target=np.ones_like(case.train.target)))
    model = one.create_model(FAMILIES["catboost"])
    model.train_until(16)
    found = model.predict(case.test.table)
    assert found.shape == (len(case.test.target), 2) and np.all(found[:, 1] > 0.5)
