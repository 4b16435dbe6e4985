from __future__ import annotations

import math

import numpy as np
import pytest

from windvane.data.task import Task
from windvane.models.base import DataSplit
from windvane.models.early_stopping import EarlyStopping, validation_loss
from windvane.models.targets.target_scaler import TargetScaler
from windvane.runtime.columns.table import Table


def test_best_is_the_first_lowest_and_what_is_not_finite_is_worst() -> None:
    early_stopping = EarlyStopping(5, [math.nan, 3.0, 2.0, 2.0, math.inf])
    assert early_stopping.best == 3 and early_stopping.losses == [math.inf, 3.0, 2.0, 2.0, math.inf]
    assert early_stopping.update(1.0) and early_stopping.best == 6
    assert not early_stopping.update(1.0) and early_stopping.best == 6


def test_patience_grows_with_the_best_iteration() -> None:
    for best, least, patience in ((1, 50, 50), (1, 5, 20), (200, 50, 80)):
        early_stopping = EarlyStopping(least, [1 / (i + 1) for i in range(best)])
        waited = 0
        while not early_stopping.should_stop:
            early_stopping.update(9.0)
            waited += 1
        assert waited == patience + 1 and early_stopping.best == best


def test_the_loss_that_stops_early_counts_weights() -> None:
    validation = DataSplit(Table(np.empty((2, 0)), 0), np.array([0, 1]), np.array([1.0, 3.0]))
    found = np.array([[0.5, 0.5], [1.0, 0.0]])
    expected = (math.log(2) + 3 * math.log(1e15)) / 4
    assert validation_loss(found, validation, Task("binary", 2, 0, 2), TargetScaler()) == pytest.approx(expected)
    numbers = validation_loss(np.array([2.0, 5.0]), validation, Task("regression", 2, 0), TargetScaler(9.0, 2.0))
    assert numbers == pytest.approx((1 + 3 * 4) / 4)
