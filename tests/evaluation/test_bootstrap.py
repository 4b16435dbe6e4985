"""The bootstrap knows how much a loss varies from sample to sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from windvane.evaluation.bootstrap import bootstrap, bootstrap_interval, bootstrap_standard_error
from windvane.evaluation.decisions.calibration import CALIBRATION_ERROR, expected_calibration_error
from windvane.evaluation.predictions import Predictions
from windvane.runtime.columns.table import Table


@pytest.mark.parametrize("cost", [1.0, 50.0])
def test_the_standard_error_is_that_of_a_share_in_its_own_units(cost: float) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(2000) % 2
    wrong = rng.random(2000) < 0.2
    found = bootstrap_standard_error(lambda target, wrong, weight: cost * float(wrong.mean()), y, wrong)
    assert found == pytest.approx(cost * np.sqrt(0.2 * 0.8 / 2000), rel=0.3)


def test_a_rare_class_makes_a_loss_unsure() -> None:
    y = (np.arange(1000) < 10).astype(int)
    wrong = np.arange(1000) % 2 == 0  # half of each class

    def balanced(y: Any, wrong: Any, weight: Any) -> float:
        return float(np.mean([np.average(wrong[y == code], weights=weight[y == code]) for code in (0, 1)]))

    found = bootstrap_standard_error(balanced, y, wrong, np.ones(1000))
    assert found == pytest.approx(0.5 * np.sqrt(0.25 / 10), rel=0.35)  # of the ten rows


def test_resampled_losses_are_limited_in_time() -> None:
    assert len(bootstrap(lambda rows: 0.0, 10, 7, seed=0)) == 7
    assert len(bootstrap(lambda rows: 0.0, 10, 7, seed=0, max_seconds=-1.0)) == 0


@pytest.mark.parametrize("sharpness", [1.0, 1.3])
def test_the_interval_of_a_distance_holds_its_score_and_what_many_rows_have(sharpness: float) -> None:
    """The percentiles alone lie above both: resampled rows are noisier than rows."""
    rng = np.random.default_rng(0)

    def draw(n: int) -> tuple[Any, Any]:
        logit = 1.5 * rng.normal(size=n)
        second = 1 / (1 + np.exp(-sharpness * logit))
        return (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(int), np.column_stack([1 - second, second])

    truth = expected_calibration_error(*draw(200_000))
    held, above = 0, 0
    for seed in range(20):
        target, probabilities = draw(150)
        rows = np.arange(len(target))
        predictions = Predictions(Table(np.zeros((len(target), 1)), 1), rows, target, probabilities)
        low, high = predictions.interval(CALIBRATION_ERROR, seed) or (np.nan, np.nan)
        score = expected_calibration_error(target, probabilities)
        assert 0 <= low <= score <= high
        held += low <= truth <= high
        resampled = bootstrap(
            lambda rows, y=target, p=probabilities: expected_calibration_error(y[rows], p[rows]), 150, 60, seed=seed
        )
        above += bootstrap_interval(resampled)[0] > truth
    assert above > 15
    assert held > (14 if sharpness > 1 else 8)  # the distance of calibrated probabilities is never quite 0
