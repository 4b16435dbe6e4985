from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from windvane.curvature import Alarm, ExplosionAlarm, ExplosionWarning, FisherRecord, FisherTracker
from windvane.curvature.explosion_alarm import REMEDIES
from windvane.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore::windvane.curvature.ExplosionWarning")


def records(traces: Sequence[float], every: int = 10) -> list[FisherRecord]:
    return [FisherRecord(every * i, trace, math.nan, "nothing", {}, 8, 1) for i, trace in enumerate(traces)]


def told(alarm: ExplosionAlarm, traces: Sequence[float]) -> list[Alarm]:
    found = [alarm.update(record) for record in records(traces)]
    assert alarm.alarms_ == [one for one in found if one is not None]
    return alarm.alarms_


def test_silent_where_the_trace_stays() -> None:
    noise = np.random.default_rng(0).lognormal(0, 0.5, 200)  # as single draws vary
    assert told(ExplosionAlarm(), list(noise)) == []


def test_told_once_at_each_level() -> None:
    found = told(ExplosionAlarm(), [1.0] * 10 + [3.0] * 20 + [8.0] * 20)
    assert [one.level for one in found] == ["warn", "strong"]
    # The median of five lies above 2 from the third record of 3.0 on, and stays so for three.
    assert found[0].step == 10 * (10 + 2 + 2)
    assert found[0].ratio == pytest.approx(3.0)
    words = [found[0].message.index(remedy) for remedy in REMEDIES]
    assert words == sorted(words)
    assert "after the warmup" in found[0].message


def test_warns_unless_quiet() -> None:
    with pytest.warns(ExplosionWarning, match="3.0 times its value after the warmup") as caught:
        told(ExplosionAlarm(), [1.0] * 10 + [3.0] * 20)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(told(ExplosionAlarm(quiet=True), [1.0] * 10 + [3.0] * 20)) == 1


def test_looks_until_a_step_and_keeps_the_highest_ratio() -> None:
    traces = [1.0] * 10 + [1.5] * 10 + [9.0] * 20
    early, late = ExplosionAlarm(until_step=200), ExplosionAlarm()
    assert math.isnan(early.max_ratio_)
    assert told(early, traces) == []
    assert early.max_ratio_ == pytest.approx(1.5)
    assert told(late, traces) != []
    assert late.max_ratio_ == pytest.approx(9.0)
    gap = ExplosionAlarm(window=1)
    told(gap, [1.0, 5.0, math.nan, 2.0])
    assert gap.max_ratio_ == pytest.approx(5.0)


def test_straight_to_strong() -> None:
    found = told(ExplosionAlarm(window=1, patience=2), [1.0, 9.0, 9.0, 9.0])
    assert [one.level for one in found] == ["strong"]


def test_a_spike_is_no_explosion() -> None:
    assert told(ExplosionAlarm(), [1.0] * 10 + [5.0, 5.0] + [1.0] * 10) == []


def test_what_comes_before_the_warmup_ends_does_not_count() -> None:
    fall = [100.0] * 5 + [1.0] * 20
    assert told(ExplosionAlarm(warmup_steps=50), fall) == []
    rise = [0.01] * 5 + [1.0] * 20
    assert told(ExplosionAlarm(warmup_steps=50), rise) == []
    assert told(ExplosionAlarm(), rise) != []


def test_against_a_reference_run() -> None:
    reference = records([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], every=20)
    same = [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0]
    assert told(ExplosionAlarm(reference=reference, window=1), same) == []
    found = told(ExplosionAlarm(reference=reference, window=1), [3 * trace for trace in same])
    assert [one.level for one in found] == ["warn"]
    assert found[0].ratio == pytest.approx(3.0)
    assert "reference run at the same step, 3 measurements in a row" in found[0].message
    (first,) = told(ExplosionAlarm(window=1, patience=1), [1.0, 9.0])
    assert "after the warmup, 1 measurement in a row" in first.message


def test_against_a_reference_run_at_equal_certainty() -> None:
    """A run that is four times as slow has the same traces later: no alarm; at equal steps there would be one."""

    def run(steps: int, slow: int, factor: float = 1.0) -> list[FisherRecord]:
        progress = [step / slow for step in range(steps)]
        falling = [2.0 - 0.1 * p if p < 10 else 1.0 for p in progress]
        return [
            replace(one, trace=factor * 10.0 / entropy**3, entropy=entropy)
            for one, entropy in zip(records([0.0] * steps), falling, strict=True)
        ]

    def said(found: list[FisherRecord], reference: list[FisherRecord]) -> ExplosionAlarm:
        alarm = ExplosionAlarm(reference=reference, window=1)
        for record in found:
            alarm.update(record)
        return alarm

    fast = run(30, 1)
    assert said(fast, fast).alarms_ == []
    assert said(fast, fast).max_ratio_ == pytest.approx(1.0)
    assert said(run(60, 4), fast).max_ratio_ == pytest.approx(1.0, abs=0.15)
    assert said(run(10, 1), [replace(one, entropy=math.nan) for one in run(60, 4)]).max_ratio_ > 2
    (alarm,) = said(run(60, 4, factor=3.0), fast).alarms_
    assert alarm.ratio == pytest.approx(3.0, rel=0.15)
    assert "reference run where both are equally certain" in alarm.message


def test_the_warmup_of_the_reference_does_not_count_either() -> None:
    reference = [replace(one, entropy=1.0) for one in records([1.0] * 5 + [100.0] * 20)]
    alarm = ExplosionAlarm(warmup_steps=50, reference=reference, window=1)
    for record in [replace(one, entropy=1.0) for one in records([100.0] * 20)]:
        alarm.update(record)
    assert alarm.max_ratio_ == pytest.approx(1.0)


@given(scale=st.floats(1e-6, 1e6))
def test_values_alone_do_not_matter(scale: float) -> None:
    traces = [1.0] * 8 + [2.5] * 8 + [6.0] * 8
    found = told(ExplosionAlarm(), [scale * trace for trace in traces])
    assert [(one.step, one.level) for one in found] == [(one.step, one.level) for one in told(ExplosionAlarm(), traces)]


def test_a_step_without_a_measurement_changes_nothing() -> None:
    model = nn.Linear(2, 2)
    tracker, alarm = FisherTracker(model, every=2), ExplosionAlarm(window=1, patience=1)
    for step in range(4):
        assert alarm.update(tracker.update(model(torch.ones(3, 2)), step)) is None
    other = ExplosionAlarm(window=1, patience=1)
    for record in tracker.records_:
        other.update(record)
    assert alarm.max_ratio_ == other.max_ratio_ > 0


@pytest.mark.parametrize("odd", [1.5, "trace", [None]])
def test_what_is_no_record(odd: Any) -> None:
    with pytest.raises(InputError, match=f"record is of type {type(odd).__name__}.*FisherTracker.update"):
        ExplosionAlarm().update(odd)


def test_traces_of_zero_and_nan() -> None:
    assert told(ExplosionAlarm(), [0.0] * 20) == []
    assert told(ExplosionAlarm(), [1.0] * 10 + [math.nan] * 10) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"warn": 1.0}, "warn=1.0"),
        ({"warn": 3.0, "strong": 2.0}, "strong=2.0"),
        ({"window": 0}, "window=0"),
        ({"patience": 0}, "patience=0"),
        ({"reference": []}, "reference has no records"),
        ({"reference": "run/"}, "reference is of type str"),
        ({"reference": [1.0, 2.0]}, "reference has items of type float"),
        ({"reference": FisherTracker(nn.Linear(2, 2))}, "type FisherTracker.*tracker.records_"),
        ({"reference": records([math.nan] * 9)}, "no records with a finite trace"),
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"warmup_steps": 50, "until_step": 50}, "until_step=50.*at least 51"),
        ({"until_step": 0.5}, "until_step=0.5"),
        ({"until_step": "end"}, "until_step='end'"),
        ({"warmup_steps": 0.5}, "warmup_steps=0.5"),
        ({"warn": "2"}, "warn='2'"),
    ],
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ExplosionAlarm(**settings)
