from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import make_trial

from windvane.runtime.table import Floats
from windvane.data.task import Task
from windvane.errors import InputError
from windvane.meta.portfolio import Outcomes, Plan, build, normalise, simulate, write
from windvane.models import FAMILIES
from windvane.search.halving import make_rungs, next_job, promotion, rung_of
from windvane.search.portfolio import Entry, read_portfolio
from windvane.search.trial import Trial

RUNGS = make_rungs(1, halving=True, first_rows=None)
SHARES = tuple(rung.share for rung in RUNGS)


def at_once(losses: Floats, seconds: float = 1.0) -> Outcomes:
    """Outcomes without learning curves, the validation loss being the test loss; shape (c, t)."""
    one = losses[:, :, None]
    return Outcomes((1.0,), one, one, np.full(one.shape, seconds))


def some_outcomes(seed: int, c: int, t: int, failing: float = 0.15) -> Outcomes:
    rng = np.random.default_rng(seed)
    shape = (c, t, len(SHARES))
    valid = np.round(rng.random(shape), 2)
    valid[rng.random((c, t)) < failing] = np.inf
    test = normalise(np.where(np.isfinite(valid), rng.random(shape), np.inf))
    return Outcomes(SHARES, valid, test, np.cumsum(rng.random(shape), axis=2))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 7), st.integers(1, 6), st.integers(1, 3))
def test_greed_is_within_its_bound_of_the_best(seed: int, c: int, t: int, size: int) -> None:
    """1 - 1/e of what the best portfolio of the size gains, found by trying all (Nemhauser et al. 1978)."""
    losses = np.random.default_rng(seed).random((c, t))
    chosen = build(at_once(losses), Plan(), size)
    best = max(1 - losses[list(some)].min(axis=0).mean() for some in combinations(range(c), min(size, c)))
    gain = 1 - losses[[one for one, _ in chosen]].min(axis=0).mean()
    assert gain >= (1 - 1 / math.e) * best - 1e-9
    assert chosen[-1][1] == pytest.approx(1 - gain)
    assert chosen[0][1] == pytest.approx(losses.mean(axis=1).min())


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([(1.0,), SHARES]), st.booleans(), st.sampled_from([2.5, 8.0, 1e9]))
def test_each_choice_is_the_best_that_a_run_from_the_start_finds(
    seed: int, rungs: tuple[float, ...], over_time: bool, budget: float
) -> None:
    outcomes, plan = some_outcomes(seed, 6, 3), Plan(rungs, budget, over_time)
    chosen = build(outcomes, plan, size=6, seed=seed)
    order: list[int] = []
    before = 1.0
    for one, mean in chosen:
        means = {other: simulate([*order, other], outcomes, plan).mean() for other in set(range(6)) - set(order)}
        assert means[one] == pytest.approx(min(means.values()), abs=1e-9)
        assert mean == pytest.approx(means[one], abs=1e-9) and mean < before
        order.append(one)
        before = mean
    left = set(range(6)) - set(order)
    assert all(simulate([*order, other], outcomes, plan).mean() >= before - 1e-9 for other in left)


def slow_run(order: list[int], outcomes: Outcomes, table: int) -> tuple[float, list[tuple[int, float]]]:
    """Run a portfolio with halving through the search's own rule of promotion; gives the loss, and who ran to where."""
    records: list[Trial] = []
    went: list[tuple[int, float]] = []
    best = (math.inf, 1.0)
    waiting = list(order)
    while True:
        up = promotion(records, [], RUNGS)
        if up is None and not waiting:
            return best[1], went
        if up is not None:
            job = next_job(*up, number=len(went))
            number, share = job.number, job.share
        else:
            number, share = order.index(waiting.pop(0)), SHARES[0]
        one, level = order[number], SHARES.index(share)
        loss = float(outcomes.valid[one, table, level])
        trial = make_trial(number, loss, config={"rate": float(number)}, share=share)
        if not math.isfinite(loss):
            trial = Trial.of(make_trial(number, config={"rate": float(number)}, share=share).job, "failed")
        assert rung_of(trial, RUNGS) == level
        records.append(trial)
        went.append((one, share))
        best = min(best, (loss, float(outcomes.test[one, table, level])), key=lambda pair: pair[0])


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 24))
def test_halving_is_simulated_as_the_search_promotes(seed: int, c: int) -> None:
    outcomes = some_outcomes(seed, c, 2)
    order = np.random.default_rng(seed).permutation(c).tolist()
    found = simulate(order, outcomes, Plan(SHARES))
    assert found.tolist() == [slow_run(order, outcomes, table)[0] for table in range(2)]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.booleans(), st.floats(0.5, 12.0))
def test_the_mean_over_time_is_that_of_a_fine_clock(seed: int, halving: bool, budget: float) -> None:
    outcomes, order = some_outcomes(seed, 9, 1), list(range(9))
    valid, test, seconds = (array[:, 0] for array in (outcomes.valid, outcomes.test, outcomes.seconds))
    points = [(one, level) for one in order for level in range(len(SHARES))]
    if halving:
        points = [(one, SHARES.index(share)) for one, share in slow_run(order, outcomes, 0)[1]]
    events, now = [(0.0, math.inf, 1.0)], 0.0  # when, validation loss, test loss
    for one, level in points:
        now += seconds[one, level] - (seconds[one, level - 1] if level else 0)
        if now <= budget:
            events.append((now, valid[one, level], test[one, level]))

    def loss_at(instant: float) -> float:
        return float(min((event for event in events if event[0] <= instant), key=lambda event: event[1])[2])

    rungs = SHARES if halving else (1.0,)
    assert simulate(order, outcomes, Plan(rungs, budget))[0] == loss_at(budget)
    ticks = [loss_at((tick + 0.5) * budget / 1000) for tick in range(1000)]
    found = simulate(order, outcomes, Plan(rungs, budget, over_time=True))[0]
    assert found == pytest.approx(np.mean(ticks), abs=0.03)


def test_quick_ones_come_first_where_time_counts() -> None:
    losses = np.array([[0.05, 0.05], [0.2, 0.2], [0.9, 0.9]])
    seconds = np.array([[40.0], [1.0], [0.5]]) * np.ones((3, 2))
    outcomes = Outcomes((1.0,), losses[:, :, None], losses[:, :, None], seconds[:, :, None])
    assert [one for one, _ in build(outcomes, Plan(), 3)] == [0]
    timed = build(outcomes, Plan((1.0,), 60.0, over_time=True), 3)
    assert [one for one, _ in timed] == [1, 0]
    assert timed[1][1] == pytest.approx((1 * 1.0 + 40 * 0.2 + 19 * 0.05) / 60)
    assert build(outcomes, Plan((1.0,), 30.0), 3) == [(1, 0.2)]  # the best takes longer than there is


def test_validation_selects_and_test_scores() -> None:
    valid, test = np.array([[0.1], [0.2]]), np.array([[0.8], [0.3]])
    outcomes = Outcomes((1.0,), valid[:, :, None], test[:, :, None], np.ones((2, 1, 1)))
    assert simulate([1, 0], outcomes, Plan()).tolist() == [0.8]
    assert build(outcomes, Plan(), 2) == [(1, 0.3)]  # the other one would be preferred, and is worse


def test_ties_are_broken_by_the_seed_and_by_nothing_else() -> None:
    outcomes = at_once(np.full((12, 3), 0.25))
    firsts = {seed: build(outcomes, Plan(), 5, seed) for seed in range(8)}
    assert all(len(chosen) == 1 for chosen in firsts.values())  # no other improves on it
    assert len({chosen[0][0] for chosen in firsts.values()}) > 1
    assert build(outcomes, Plan(), 5, 3) == firsts[3]


def test_what_failed_has_the_worst_loss() -> None:
    losses = np.array([[2.0, np.nan], [4.0, np.inf], [np.inf, np.inf]])[:, :, None]
    np.testing.assert_array_equal(normalise(losses)[:, :, 0], [[0, 1], [1, 1], [1, 1]])
    outcomes = Outcomes((1.0,), np.full((1, 2, 1), np.inf), np.ones((1, 2, 1)), np.ones((1, 2, 1)))
    assert simulate([0], outcomes, Plan()).tolist() == [1.0, 1.0]
    assert build(outcomes, Plan(), 3) == []


def test_losses_are_normalised_over_configurations_and_points_of_each_table() -> None:
    losses = np.array([[[3.0, 1.0], [7.0, 7.0]], [[5.0, 2.0], [7.0, 7.0]]])  # (2, 2, 2)
    np.testing.assert_allclose(normalise(losses)[:, 0], [[0.5, 0.0], [1.0, 0.25]])
    np.testing.assert_array_equal(normalise(losses)[:, 1], 0)
    np.testing.assert_allclose(normalise(losses, np.array([2.0, 9.0]))[:, 0], [[1.0, 0.0], [1.0, 1.0]])


def test_what_cannot_be_is_refused() -> None:
    whole = some_outcomes(0, 3, 2)
    with pytest.raises(InputError, match="have the shapes"):
        Outcomes((1.0,), whole.valid, whole.test, whole.seconds)
    with pytest.raises(InputError, match="between 0 and 1"):
        Outcomes(SHARES, whole.valid, whole.test + 1, whole.seconds)
    with pytest.raises(InputError, match="finite budget"):
        Plan(over_time=True)
    for rungs in ((0.5, 1.0), SHARES[::-1]):
        with pytest.raises(InputError, match="rungs"):
            build(whole, Plan(rungs), 1)


def test_what_is_written_is_what_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [Entry("mlp", {"depth": 3, "activation": "tanh"}), Entry("linear", {}), Entry("catboost", {"rsm": 0.7})]
    (tmp_path / "learned").mkdir()
    write(tmp_path / "learned" / "portfolio_regression.json", entries, 'by a "test"')
    monkeypatch.setattr("windvane.search.portfolio.files", lambda package: tmp_path)
    assert (
        read_portfolio(Task("regression", 10, 2), {name: FAMILIES[name] for name in ("mlp", "linear", "catboost")})
        == entries
    )
    text = (tmp_path / "learned" / "portfolio_regression.json").read_text()
    assert json.loads(text)["made"] == 'by a "test"'
    assert len(text.splitlines()) == len(entries) + 5
