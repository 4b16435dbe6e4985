from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cases import make_case

from windvane.data.task import Task
from windvane.models import FAMILIES
from windvane.models.target_scaler import TargetScaler
from windvane.runtime.output import Output


def test_numbers_get_mean_0_and_spread_1_and_come_back() -> None:
    target, weight = np.array([1.0, 2.0, 4.0]) + 1e6, np.array([1.0, 1.0, 2.0])
    target_scaler = TargetScaler.of(target, weight, Task("regression", 3, 1))
    shrunk = target_scaler.transform(target)
    assert np.average(shrunk, weights=weight) == pytest.approx(0, abs=1e-9)
    assert np.average(shrunk**2, weights=weight) == pytest.approx(1)
    back = Output(0, mean=target_scaler.mean, scale=target_scaler.scale).from_values(shrunk)
    np.testing.assert_allclose(back, target, rtol=1e-15)
    assert TargetScaler.of(np.ones(3), None, Task("regression", 3, 1)) == TargetScaler(1.0, 1.0)


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
