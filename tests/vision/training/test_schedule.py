from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import digits, tiny_recipe

from windvane.vision.training.device import find_device
from windvane.vision.training.run import TrainingRun
from windvane.vision.training.schedule import EVALUATIONS, Schedule
from windvane.vision.training.train import run_training


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def run(
    schedule: Schedule, clock: Clock, step: Callable[[int], float], evaluation: float, sync_interval: int = 1
) -> list[float]:
    """Play a run through; return the progress at the middle of each step."""
    midpoints = []
    while not schedule.finished:
        midpoints.append(schedule.step_midpoint)
        clock.now += step(schedule.step)
        schedule.advance()
        if schedule.step % sync_interval == 0 or schedule.finished:
            schedule.measure_speed()
        if schedule.evaluation_due():
            schedule.start_evaluation()
            clock.now += evaluation
            schedule.record_evaluation_time(evaluation)
    return midpoints


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 333])
def test_steps_are_counted_exactly(steps: int) -> None:
    clock = Clock()
    schedule = Schedule(steps=steps, clock=clock)
    midpoints = run(schedule, clock, lambda _: 1.0, 0.5)
    assert midpoints == pytest.approx([(i + 0.5) / steps for i in range(steps)])
    assert (schedule.step, schedule.progress) == (steps, 1.0)


def test_evaluations_are_spread_over_the_steps() -> None:
    clock, found = Clock(), []
    schedule = Schedule(steps=200, clock=clock)
    while not schedule.finished:
        schedule.advance()
        if schedule.evaluation_due():
            schedule.start_evaluation()
            found.append(schedule.step)
    assert found == list(range(200 // EVALUATIONS, 201, 200 // EVALUATIONS))


@settings(deadline=None, max_examples=25)
@given(
    seconds=st.floats(20, 2000),
    pace=st.floats(0.001, 0.5),
    evaluation=st.floats(0.0, 2.0),
    drift=st.floats(0.5, 2.0),
    noise=st.floats(0.0, 0.5),
    sync_interval=st.sampled_from([1, 16]),
)
# Steps become faster, so that a second evaluation seems affordable just before the last one.
@example(seconds=20.0, pace=0.25, evaluation=1.875, drift=0.5, noise=0.0, sync_interval=1)
def test_a_timed_run_ends_on_time_with_its_schedule(
    seconds: float, pace: float, evaluation: float, drift: float, noise: float, sync_interval: int
) -> None:
    """Whatever the speed, a slow start, noise and a speed that drifts to half or double."""
    clock, rng = Clock(), random.Random(0)
    pace = max(pace, seconds / 4000)
    schedule = Schedule(time_budget=seconds, evaluation_steps=evaluation / pace, clock=clock)

    def step(number: int) -> float:
        slow_start = 5.0 if number == 0 else 1.0
        return pace * slow_start * drift ** min(1.0, schedule.elapsed / seconds) * rng.uniform(1 - noise, 1 + noise)

    midpoints = run(schedule, clock, step, evaluation, sync_interval)
    slack = 0.03 * seconds + 3 * sync_interval * pace * max(1.0, drift) + 2 * evaluation + 0.3
    # Before the first evaluation its length is a guess, here half too short at worst.
    assert schedule.elapsed <= seconds + 0.6 * evaluation + 2 * sync_interval * pace * max(1.0, drift)
    assert schedule.elapsed >= seconds - slack
    assert midpoints == sorted(midpoints)
    assert schedule.progress == 1.0
    if seconds / pace > 40 * sync_interval and evaluation < 0.02 * seconds:
        assert midpoints[-1] > 0.9  # the rate has come down when the time is over


def test_evaluations_take_a_small_share_of_the_time() -> None:
    clock, taken = Clock(), 0
    schedule = Schedule(time_budget=60.0, evaluation_steps=30.0, clock=clock)
    while not schedule.finished:
        clock.now += 0.1
        schedule.advance()
        schedule.measure_speed()
        if schedule.evaluation_due():
            schedule.start_evaluation()
            clock.now += 3.0
            schedule.record_evaluation_time(3.0)
            taken += 1
    assert 1 <= taken <= 3


def test_a_timed_run_leaves_time_for_what_follows() -> None:
    clock = Clock()
    schedule = Schedule(time_budget=100.0, evaluations_after=3.0, seconds_after=10.0, clock=clock)
    run(schedule, clock, lambda _: 0.1, 2.0)
    assert 100 - 3 * 2 - 10 - 3 <= schedule.elapsed <= 100 - 3 * 2 - 10


def test_a_step_longer_than_the_time_ends_the_run() -> None:
    clock = Clock()
    schedule = Schedule(time_budget=5.0, clock=clock)
    assert len(run(schedule, clock, lambda _: 30.0, 0.0)) == 1


@pytest.mark.parametrize("stop", [1, 8, 20])
def test_a_resumed_schedule_continues_exactly(stop: int) -> None:
    clock = Clock()
    whole = run(Schedule(steps=33, clock=clock), clock, lambda _: 1.0, 0.0)
    first = Schedule(steps=33, clock=clock)
    for _ in range(stop):
        clock.now += 1.0
        first.advance()
    clock.now += 1000.0
    began = clock.now
    second = Schedule(steps=33, clock=clock)
    second.load_state_dict({**first.state_dict(), "elapsed": 7.0})
    assert second.elapsed == clock.now - began + 7.0
    assert run(second, clock, lambda _: 1.0, 0.0) == whole[stop:]


def test_time_left() -> None:
    clock = Clock()
    timed, counted = Schedule(time_budget=10.0, clock=clock), Schedule(steps=10, clock=clock)
    assert counted.seconds_left is None
    for _ in range(4):
        clock.now += 2.0
        counted.advance()
        counted.measure_speed()
    assert timed.seconds_left == pytest.approx(2.0)
    assert counted.seconds_left == pytest.approx(12.0)


def test_a_stopped_schedule_is_at_its_end() -> None:
    schedule = Schedule(time_budget=10.0, clock=Clock())
    schedule.stop()
    assert schedule.finished and schedule.evaluation_due()


@given(st.integers(2, 400), st.floats(0.01, 2.0), st.floats(1.0, 300.0))
@settings(max_examples=60, deadline=None)
def test_a_number_of_steps_ends_by_an_instant(steps: int, seconds: float, available: float) -> None:
    clock = Clock()
    schedule = Schedule(steps=steps, clock=clock)
    schedule.finish_by(clock.now + available)
    started = clock.now
    midpoints = run(schedule, clock, lambda _: seconds, 0.1 * seconds)
    assert schedule.progress == 1.0
    assert schedule.step <= steps
    assert clock.now - started <= available + 2.5 * seconds  # the step and the evaluation that were begun
    assert midpoints == sorted(midpoints)
    if 1.3 * (steps + 20) * seconds < available:
        assert midpoints == pytest.approx([(i + 0.5) / steps for i in range(steps)])


def test_images_that_load_before_the_first_step_do_not_end_the_run() -> None:
    clock = Clock()
    # 60 s for 2,000 steps of 0.1 s, with 1,300 validation images; to load all images takes 8 s.
    schedule = Schedule(steps=2_000, evaluation_steps=1_300 / (3 * 32), clock=clock)
    schedule.finish_by(clock.now + 60.0)
    clock.now += 8.0
    schedule.start_steps()
    run(schedule, clock, lambda _: 0.1, 1.0, sync_interval=10)
    assert 400 < schedule.step <= 520
    assert clock.now <= 161.0


@pytest.mark.alone
def test_a_network_is_trained_to_the_end_of_its_time_though_its_images_load_slowly() -> None:
    loader_seconds, data = 0.8, digits(600, 400)
    training = TrainingRun(tiny_recipe(epochs=10_000, batch_size=8), data, find_device("cpu", "float32"))
    load = training.train_loader.train_batches

    def load_slowly(*args: Any) -> Iterator[Any]:
        time.sleep(loader_seconds)
        yield from load(*args)

    training.train_loader.train_batches = load_slowly  # type: ignore[method-assign]
    started = time.monotonic()
    training.schedule.finish_by(started + 3.0)
    run_training(training, deadline=started + 3.0)
    assert time.monotonic() - started > 2.0
    assert training.schedule.step > 20
