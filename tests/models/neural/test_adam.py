from __future__ import annotations

import numpy as np
import pytest

from windvane.models.neural.adam import CYCLE_ENDS, Adam, ParamGroup, coslog_schedule


def test_steps_are_those_of_the_published_algorithm() -> None:
    rng = np.random.default_rng(0)
    start, groups = (
        rng.normal(size=5).astype(np.float32),
        [ParamGroup(slice(0, 3), 2.0, 0.1), ParamGroup(slice(3, 5), 0.5)],
    )
    adam = Adam(start.copy())
    parameters, mean, square = start.astype(float), np.zeros(5), np.zeros(5)
    rates, decay = np.array([2, 2, 2, 0.5, 0.5]), np.array([0.1, 0.1, 0.1, 0, 0])
    for t in range(1, 8):
        gradient, rate = rng.normal(size=5), 0.01 * t
        mean, square = 0.9 * mean + 0.1 * gradient, 0.95 * square + 0.05 * gradient**2
        step = (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.95**t)) + 1e-8)
        parameters = parameters - rate * decay * parameters - rate * rates * step
        adam.step(gradient.astype(np.float32), rate, groups)
    assert adam.updates == 7 and adam.parameters.dtype == np.float32
    np.testing.assert_allclose(adam.parameters, parameters, rtol=1e-5)


def test_it_goes_on_from_its_moments() -> None:
    one = Adam(np.ones(3, np.float32))
    groups = [ParamGroup(slice(0, 3), 1.0)]
    one.step(np.array([1, 2, 3], np.float32), 0.1, groups)
    two = Adam(one.parameters.copy(), one.exp_avg.copy(), one.exp_avg_sq.copy(), one.updates)
    for adam in (one, two):
        adam.step(np.array([3, -1, 0], np.float32), 0.1, groups)
    np.testing.assert_array_equal(one.parameters, two.parameters)


def test_the_rate_is_zero_at_the_ends_of_cycles_and_highest_between() -> None:
    for end in (0, *CYCLE_ENDS):
        assert coslog_schedule(end) == pytest.approx(0, abs=1e-12)
    within = np.array([coslog_schedule(epoch) for epoch in np.linspace(7, 15, 1001)])
    assert within.max() == pytest.approx(1, abs=1e-4) and within.min() >= 0
    assert (np.diff(within) > 0).sum() + (np.diff(within[within.argmax() :]) < 0).sum() == 1000
