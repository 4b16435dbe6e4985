"""How slow a machine is: seconds for a second of a core."""

from __future__ import annotations

import time

import pytest

from windvane.search.strategy.budget import Budget, SlowdownMeter


@pytest.mark.parametrize(("wall", "cpu", "expected"), [(8.0, 0.5, 16.0), (8.0, 8.0, 1.0), (0.1, 0.01, 1.0)])
def test_the_slowdown_is_wall_time_by_processor_time(
    wall: float, cpu: float, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = SlowdownMeter()
    monkeypatch.setattr(time, "monotonic", lambda: meter._wall + wall)
    monkeypatch.setattr(time, "thread_time", lambda: meter._cpu + cpu)
    assert meter.read() == pytest.approx(expected)


def test_what_is_left_counts_from_the_start() -> None:
    budget = Budget(time.monotonic() - 10, 60.0, earlier=100.0)
    assert budget.left() == pytest.approx(50, abs=1)
    assert budget.left(reserve=20) == pytest.approx(30, abs=1)
    assert budget.now() == pytest.approx(110, abs=1)
