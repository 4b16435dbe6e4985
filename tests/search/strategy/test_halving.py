from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import make_trial

from windvane.search.strategy.halving import ETA, Rung, make_rungs, promote, promotion, rung_of
from windvane.search.trial import Trial

HALVED = (Rung(None, 1 / 16), Rung(None, 1 / 4), Rung(None, 1.0))


@pytest.mark.parametrize(
    ("n_train", "halving", "first_rows", "rungs"),
    [
        (1000, False, None, [(None, 1.0)]),
        (1000, True, None, [(None, 1 / 16), (None, 1 / 4), (None, 1.0)]),
        (1000, False, 5000, [(None, 1.0)]),
        (20_000, False, 5000, [(5000, 1.0), (None, 1.0)]),
        (1_000_000, False, 5000, [(5000, 1.0), (20_000, 1.0), (80_000, 1.0), (320_000, 1.0), (None, 1.0)]),
        (20_000, True, 5000, [(5000, 1 / 4), (None, 1 / 16), (None, 1 / 4), (None, 1.0)]),
    ],
)
def test_rungs(n_train: int, halving: bool, first_rows: int | None, rungs: list[tuple[int | None, float]]) -> None:
    assert make_rungs(n_train, halving, first_rows) == tuple(Rung(*rung) for rung in rungs)


@given(st.integers(1, 10**8), st.booleans(), st.none() | st.integers(1, 10**7))
def test_rungs_rise_to_all_rows_and_iterations(n_train: int, halving: bool, first_rows: int | None) -> None:
    rungs = make_rungs(n_train, halving, first_rows)
    assert rungs[-1] == Rung(None, 1.0)
    assert len(set(rungs)) == len(rungs)
    rows = [n_train if rung.n_rows is None else rung.n_rows for rung in rungs]
    assert rows == sorted(rows)
    assert all(rung.n_rows is None or rung.n_rows < n_train for rung in rungs)
    whole = [rung.iteration_fraction for rung in rungs if rung.n_rows is None]
    assert whole == sorted(whole)


def on(rung: Rung, number: int, loss: float) -> Trial:
    return replace(make_trial(number, loss), n_rows=rung.n_rows, iteration_fraction=rung.iteration_fraction)


def top_quarter(records: list[Trial], rung: Rung) -> list[int]:
    """The slow and obvious way: the seeds (they tell configurations apart here) of the best quarter of a rung."""
    here = {
        t.seed: t
        for t in records
        if (t.n_rows, t.iteration_fraction) == (rung.n_rows, rung.iteration_fraction) and t.usable
    }
    ranked = sorted(here.values(), key=lambda t: (t.loss, t.number))
    return [t.seed for t in ranked[: len(ranked) // ETA]]


@settings(deadline=None, max_examples=40)
@given(
    losses=st.lists(st.floats(0, 1) | st.just(float("inf")), min_size=1, max_size=40),
    workers=st.integers(1, 5),
    first_rows=st.none() | st.just(500),
    seed=st.integers(0, 99),
)
def test_a_simulated_run(losses: list[float], workers: int, first_rows: int | None, seed: int) -> None:
    """Workers end in any order; who goes up was among the best quarter just then, goes up once, and it ends."""
    rng = np.random.default_rng(seed)
    rungs = make_rungs(2000, True, first_rows)
    records: list[Trial] = []
    busy: list[Trial] = []
    risen: set[tuple[int, int]] = set()
    fresh, number = list(range(len(losses))), 0
    for _ in range(len(losses) * len(rungs) * 2 + workers):
        while len(busy) < workers:
            up = promotion(records, busy, rungs)
            if up is not None:
                trial, rung = up
                level = rung_of(trial, rungs)
                assert rung == rungs[level + 1]
                assert trial.seed in top_quarter(records, rungs[level])
                assert (trial.seed, level) not in risen
                risen.add((trial.seed, level))
                job = promote(trial, rung, number)
            elif fresh:
                job = Trial(number, "toy", {}, "sampler", fresh.pop(0), rungs[0].n_rows, rungs[0].iteration_fraction)
            else:
                break
            number = max(number, job.number + 1)
            busy.append(job)
        if not busy:
            break
        job = busy.pop(int(rng.integers(len(busy))))
        loss = losses[job.seed] * (1 - 0.1 * rung_of(job, rungs)) + 0.01 * rng.random()
        records.append(replace(job, status="done", loss=loss, checkpoint="checkpoint_0000"))
    assert not busy and not fresh
    for level, rung in enumerate(rungs[:-1]):
        for waiting in top_quarter(records, rung):
            assert (waiting, level) in risen


def test_of_a_finished_rung_a_quarter_goes_up_the_best_first() -> None:
    records = [on(HALVED[0], i, loss=((i * 7) % 19) / 19) for i in range(19)]
    busy: list[Trial] = []
    while (up := promotion(records, busy, HALVED)) is not None:
        busy.append(promote(*up, new_number=99))
    best = sorted(records, key=lambda t: t.loss)[: 19 // ETA]
    assert [job.number for job in busy] == [t.number for t in best]
    assert {(job.n_rows, job.iteration_fraction) for job in busy} == {(None, 1 / 4)}


def test_the_highest_rung_comes_first() -> None:
    low = [on(HALVED[0], i, 0.1 * i) for i in range(8)]
    high = [on(HALVED[1], 20 + i, 0.5 + 0.1 * i) for i in range(4)]
    assert promotion([*low, *high], [], HALVED) == (high[0], HALVED[2])


def test_who_failed_above_or_is_on_the_way_up_does_not_go_again() -> None:
    records = [on(HALVED[0], i, 0.1 * i) for i in range(4)]
    up = promotion(records, [], HALVED)
    assert up == (records[0], HALVED[1])
    job = promote(*up, new_number=9)
    assert promotion(records, [job], HALVED) is None
    assert promotion([*records, replace(job, status="failed")], [], HALVED) is None


def test_too_few_or_no_usable_results_promote_nobody() -> None:
    assert promotion([], [], HALVED) is None
    assert promotion([on(HALVED[0], i, 0.1) for i in range(ETA - 1)], [], HALVED) is None
    assert promotion([on(HALVED[0], i, float("inf")) for i in range(20)], [], HALVED) is None
    assert promotion([on(HALVED[2], i, 0.1) for i in range(20)], [], HALVED) is None


def test_more_iterations_resume_the_trial_and_more_rows_make_a_new_one() -> None:
    trial = on(Rung(500, 1.0), 3, 0.1)
    assert promote(trial, Rung(2000, 1.0), 8) == replace(trial.without_results(), number=8, n_rows=2000)
    trial = on(HALVED[0], 3, 0.1)
    assert promote(trial, HALVED[1], 8) == replace(trial.without_results(), iteration_fraction=1 / 4)
