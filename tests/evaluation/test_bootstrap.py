"""The bootstrap knows how much a loss varies from sample to sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from windvane.evaluation.bootstrap import bootstrap, bootstrap_standard_error


@pytest.mark.parametrize("cost", [1.0, 50.0])
def test_the_standard_error_is_that_of_a_share_in_its_own_units(cost: float) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(2000) % 2
    wrong = rng.random(2000) < 0.2
    found = bootstrap_standard_error(lambda rows: cost * float(wrong[rows].mean()), y)
    assert found == pytest.approx(cost * np.sqrt(0.2 * 0.8 / 2000), rel=0.3)


def test_a_rare_class_makes_a_loss_unsure() -> None:
    y = (np.arange(1000) < 10).astype(int)
    wrong = np.arange(1000) % 2 == 0  # half of each class

    def balanced(rows: Any) -> float:
        return float(np.mean([wrong[rows][y[rows] == code].mean() for code in (0, 1)]))

    assert bootstrap_standard_error(balanced, y) == pytest.approx(0.5 * np.sqrt(0.25 / 10), rel=0.35)  # of the ten rows


def test_resampled_losses_are_limited_in_time() -> None:
    assert len(bootstrap(lambda rows: 0.0, 10, 7, seed=0)) == 7
    assert len(bootstrap(lambda rows: 0.0, 10, 7, seed=0, max_seconds=-1.0)) == 0
