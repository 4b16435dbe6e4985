from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import make_trial

from windvane.search.racing import bar, is_hopeless, is_out
from windvane.search.trial import Job

JOB = Job(9, "toy", {}, "optimiser", seed=0)


def test_the_bar_is_the_worst_fold_of_the_best_trial_on_as_much() -> None:
    trials = [
        make_trial(0, 0.5, fold_losses=(0.3, 0.7)),
        make_trial(1, 0.4, "other", fold_losses=(0.35, 0.45)),
        make_trial(2, 0.1, fold_losses=(0.1, 0.1), share=0.25),
        make_trial(3, 0.1, fold_losses=(0.1, 0.1), rows=500),
        replace(make_trial(4, 0.1, fold_losses=(0.1,)), status="raced", step=None),
    ]
    assert bar(JOB, trials) == 0.45
    assert bar(replace(JOB, share=0.25), trials) == 0.1


def test_the_first_of_a_family_and_single_folds_run_no_race() -> None:
    assert bar(JOB, []) == math.inf
    assert bar(JOB, [make_trial(0, 0.4, "other", fold_losses=(0.4, 0.4))]) == math.inf
    assert bar(JOB, [make_trial(0, math.inf)]) == math.inf
    assert bar(JOB, [make_trial(0, 0.4, fold_losses=(0.4,))]) == math.inf


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=10), st.floats(0, 10))
def test_what_is_better_than_the_bar_on_every_fold_goes_on(losses: list[float], limit: float) -> None:
    assert is_out([limit + 1e-6] * len(losses), limit)
    assert not is_out([min(loss, limit) for loss in losses], limit + 1e-9)
    assert not is_out(losses, math.inf)
    assert is_out([*losses, math.inf], limit)


def curve(rate: float, end: float, last: int, gain: float = 1.0) -> list[tuple[int, float]]:
    """Losses that fall by `gain` to `end` as exp(-rate n), at 16, 32, 64 ... iterations."""
    totals = [16 * 2**i for i in range(20) if 16 * 2**i <= last]
    return [(n, end + gain * math.exp(-rate * n)) for n in totals]


@settings(deadline=None, max_examples=100)
@given(st.floats(0.006, 1.0), st.sampled_from([256, 1024, 2048]), st.floats(0.1, 10), st.floats(0.001, 1))
def test_a_trial_that_ends_below_the_bar_is_never_given_up(rate: float, last: int, gain: float, margin: float) -> None:
    losses = curve(rate, 0.5, last, gain)
    limit = losses[-1][1] + margin
    assert not any(is_hopeless(losses[:i], last, limit) for i in range(1, len(losses) + 1))


def test_a_flat_curve_above_the_bar_is_given_up_at_its_second_point() -> None:
    losses = curve(0.5, 0.6, 2048)
    assert not is_hopeless(losses[:1], 2048, 0.5)
    assert is_hopeless(losses[:2], 2048, 0.5)
    assert not is_hopeless(losses[:2], 2048, 0.61)


@pytest.mark.parametrize(
    ("losses", "hopeless"),
    [
        ([(16, math.inf), (32, 0.9)], False),  # it has just begun to work
        ([(16, math.inf), (32, math.inf)], True),
        ([(16, 0.6), (32, 0.7)], True),  # rising
        ([(16, 0.9), (64, 0.7)], False),  # 0.1 a doubling, three times that for five more
    ],
)
def test_odd_curves(losses: list[tuple[int, float]], hopeless: bool) -> None:
    assert is_hopeless(losses, 2048, 0.5) == hopeless
