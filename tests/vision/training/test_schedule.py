from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.vision.training.schedule import EVALUATIONS, Schedule


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(plan: Schedule, clock: Clock, step: Callable[[int], float], judge: float, look_every: int = 1) -> list[float]:
    """Play a run through; gives the rates' positions of all steps."""
    middles = []
    while not plan.finished:
        middles.append(plan.middle)
        clock.now += step(plan.step)
        plan.advance()
        if plan.step % look_every == 0 or plan.finished:
            plan.look()
        if plan.due():
            plan.evaluated()
            clock.now += judge
            plan.judging_took(judge)
    return middles


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 333])
def test_steps_are_counted_exactly(steps: int) -> None:
    clock = Clock()
    plan = Schedule(steps=steps, clock=clock)
    middles = run(plan, clock, lambda _: 1.0, 0.5)
    assert middles == pytest.approx([(i + 0.5) / steps for i in range(steps)])
    assert (plan.step, plan.progress) == (steps, 1.0)


def test_evaluations_are_spread_over_the_steps() -> None:
    clock, found = Clock(), []
    plan = Schedule(steps=200, clock=clock)
    while not plan.finished:
        plan.advance()
        if plan.due():
            plan.evaluated()
            found.append(plan.step)
    assert found == list(range(200 // EVALUATIONS, 201, 200 // EVALUATIONS))


@settings(deadline=None, max_examples=25)
@given(
    seconds=st.floats(20, 2000),
    pace=st.floats(0.001, 0.5),
    judge=st.floats(0.0, 2.0),
    drift=st.floats(0.5, 2.0),
    noise=st.floats(0.0, 0.5),
    look_every=st.sampled_from([1, 16]),
)
def test_a_timed_run_ends_on_time_with_its_schedule(
    seconds: float, pace: float, judge: float, drift: float, noise: float, look_every: int
) -> None:
    """Whatever the speed, a slow start, noise and a speed that drifts to half or double."""
    clock, rng = Clock(), random.Random(0)
    pace = max(pace, seconds / 4000)
    plan = Schedule(seconds=seconds, evaluation_steps=judge / pace, clock=clock)

    def step(number: int) -> float:
        slow_start = 5.0 if number == 0 else 1.0
        return pace * slow_start * drift ** min(1.0, plan.elapsed / seconds) * rng.uniform(1 - noise, 1 + noise)

    middles = run(plan, clock, step, judge, look_every)
    slack = 0.03 * seconds + 3 * look_every * pace * max(1.0, drift) + 2 * judge + 0.3
    # Before the first evaluation its length is a guess, here half too short at worst.
    assert plan.elapsed <= seconds + 0.6 * judge + 2 * look_every * pace * max(1.0, drift)
    assert plan.elapsed >= seconds - slack
    assert middles == sorted(middles)
    assert plan.progress == 1.0
    if seconds / pace > 40 * look_every and judge < 0.02 * seconds:
        assert middles[-1] > 0.9  # the rate has come down when the time is over


def test_evaluations_take_a_small_share_of_the_time() -> None:
    clock, taken = Clock(), 0
    plan = Schedule(seconds=60.0, evaluation_steps=30.0, clock=clock)
    while not plan.finished:
        clock.now += 0.1
        plan.advance()
        plan.look()
        if plan.due():
            plan.evaluated()
            clock.now += 3.0
            plan.judging_took(3.0)
            taken += 1
    assert 1 <= taken <= 3


def test_a_step_longer_than_the_time_ends_the_run() -> None:
    clock = Clock()
    plan = Schedule(seconds=5.0, clock=clock)
    assert len(run(plan, clock, lambda _: 30.0, 0.0)) == 1


@pytest.mark.parametrize("stop", [1, 8, 20])
def test_a_resumed_plan_goes_on_exactly(stop: int) -> None:
    clock = Clock()
    whole = run(Schedule(steps=33, clock=clock), clock, lambda _: 1.0, 0.0)
    first = Schedule(steps=33, clock=clock)
    for _ in range(stop):
        clock.now += 1.0
        first.advance()
    clock.now += 1000.0
    began = clock.now
    second = Schedule(steps=33, clock=clock)
    second.resume({**first.to_json(), "elapsed": 7.0})
    assert second.elapsed == clock.now - began + 7.0
    assert run(second, clock, lambda _: 1.0, 0.0) == whole[stop:]


def test_time_left() -> None:
    clock = Clock()
    timed, counted = Schedule(seconds=10.0, clock=clock), Schedule(steps=10, clock=clock)
    assert counted.seconds_left is None
    for _ in range(4):
        clock.now += 2.0
        counted.advance()
        counted.look()
    assert timed.seconds_left == pytest.approx(2.0)
    assert counted.seconds_left == pytest.approx(12.0)


def test_a_stopped_plan_is_at_its_end() -> None:
    plan = Schedule(seconds=10.0, clock=Clock())
    plan.stop()
    assert plan.finished and plan.due()
