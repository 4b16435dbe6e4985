"""The search, with a pool that evaluates in this process and ends jobs in any order it likes."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from toys import ToyFamily

from windvane.data.splits import make_folds
from windvane.data.task import Task
from windvane.evaluation.metrics import get_metric
from windvane.models import TABLE_FAMILIES
from windvane.models.linear import Linear
from windvane.runtime.columns.table import Table
from windvane.search.ensemble_selection import EnsembleBuilder
from windvane.search.problem import Problem
from windvane.search.run.history import History, describe_failures
from windvane.search.run.run_directory import RunDirectory
from windvane.search.search import Budget, Search, SearchListener
from windvane.search.strategy.halving import Rung, make_rungs
from windvane.search.strategy.portfolio import PortfolioEntry
from windvane.search.strategy.scheduler import RESULT_LAG, Scheduler
from windvane.search.train_trial import train_trial
from windvane.search.trial import Trial
from windvane.search.workers.pool import Event
from windvane.settings import Settings

TASK = Task("multiclass", 150, 4, 3)
SETTINGS = Settings(60.0, 2, 4000.0, "cv3", 10, None, None, 0, 0, True)


class Failing(Linear):
    """A linear model that cannot be started."""

    name = "failing"

    def create_model(self, *arguments: Any, **more: Any) -> Any:
        raise ValueError("never works")


class FakePool:
    """Evaluates when it is waited for; `order` says which of the running jobs ends next."""

    closing_seconds = 0.0

    def __init__(self, problem: Problem, directory: RunDirectory, n_workers: int, newest_first: bool = False) -> None:
        self.problem, self.directory = problem, directory
        self.n_workers, self.newest_first = n_workers, newest_first
        self.running: list[Trial] = []
        self.submitted: list[Trial] = []
        self.families = {**TABLE_FAMILIES, "failing": Failing(), "toy": ToyFamily()}

    @property
    def has_idle_worker(self) -> bool:
        return len(self.running) < self.n_workers

    def submit(self, job: Trial, seconds: float, grace: float) -> None:
        self.running.append(job)
        self.submitted.append(job)

    def next_event(self, seconds: float) -> Event | None:
        if not self.running:
            time.sleep(min(seconds, 0.01))
            return None
        job = self.running.pop(-1 if self.newest_first else 0)
        folder = self.directory.trials / f"{job.number:05d}"
        trial = train_trial(job, self.problem, self.families[job.family], folder, lambda t: None)
        return Event("finished", trial)

    def close(self, keep: bool = True) -> None:
        self.running = []


@pytest.fixture
def make(tmp_path: Path) -> Any:
    X, y = load_iris(return_X_y=True)
    folds, _ = make_folds(y.astype(np.int64), 3, seed=0)
    problem = Problem(TASK, get_metric("auto", TASK), Table(X, 4), y.astype(np.int64), None, tuple(folds), 0)

    def search(
        name: str = "run",
        *,
        n_workers: int = 2,
        families: Sequence[str] = ("linear",),
        n_trials: int | None = 4,
        budget: float = 60.0,
        newest_first: bool = False,
        rungs: tuple[Rung, ...] | None = None,
        **more: Any,
    ) -> tuple[Search, FakePool]:
        directory = RunDirectory(tmp_path / name)
        directory.trials.mkdir(parents=True, exist_ok=True)
        pool = FakePool(problem, directory, n_workers, newest_first)
        settings = replace(SETTINGS, n_trials=n_trials, time_budget=budget, n_jobs=n_workers)
        scheduler = Scheduler(
            TASK,
            {family: pool.families[family] for family in families},
            History(directory.history),
            [PortfolioEntry(family, {}) for family in families],
            rungs or make_rungs(100, False, None),
            seed=settings.seed,
            n_trials=n_trials,
        )
        builder = EnsembleBuilder(problem, directory, settings.ensemble_size)
        given = {"listener": SearchListener(), "open_models": lambda ensemble: None, **more}
        made = Search(scheduler, pool, builder, Budget(time.monotonic(), budget), **given)  # type: ignore[arg-type]
        return made, pool

    return search


def test_the_portfolio_comes_first_then_the_sampler(make: Any) -> None:
    search, pool = make(n_trials=5)
    ensemble = search.run()
    assert [job.source for job in pool.submitted] == ["portfolio"] + ["sampler"] * 4
    assert [job.number for job in pool.submitted] == list(range(5))
    assert ensemble is not None
    assert sum(member.weight for member in ensemble.members) == pytest.approx(1)
    assert ensemble.loss <= min(trial.loss for trial in search.history.trials) + 1e-9
    assert len({job.seed for job in pool.submitted}) == 5


def test_suggestions_do_not_depend_on_the_order_in_which_trials_end(make: Any) -> None:
    n_trials = 2 * RESULT_LAG + 4  # the last ones are suggested from results
    jobs = []
    for i, (n_workers, newest_first) in enumerate([(1, False), (2, True), (4, True), (3, False)]):
        search, pool = make(f"run{i}", n_workers=n_workers, newest_first=newest_first, n_trials=n_trials, budget=600.0)
        search.run()
        jobs.append(sorted(pool.submitted, key=lambda job: job.number))
    assert jobs[0] == jobs[1] == jobs[2] == jobs[3]


def test_a_family_that_never_works_is_left_out(make: Any) -> None:
    heard: list[Trial] = []

    def stop_at_twenty(trial: Trial) -> bool:
        heard.append(trial)
        return len(heard) == 20

    search, pool = make(families=["failing", "linear"], n_trials=None, callbacks=[stop_at_twenty])
    assert search.run() is not None
    assert [job.family for job in pool.submitted].count("failing") <= 3
    assert [job.family for job in pool.submitted].count("linear") > 5


def test_when_no_family_works_the_search_ends_early_and_says_why(make: Any) -> None:
    search, _ = make(families=["failing"], n_trials=None, budget=60.0)
    started = time.monotonic()
    assert search.run() is None
    assert time.monotonic() - started < 20
    assert re.search("failing: failed x[23]: ValueError: never works", describe_failures(search.history.trials))


def test_a_callback_hears_every_trial_and_may_end_the_search(make: Any) -> None:
    heard: list[int] = []

    def stop_at_three(trial: Trial) -> bool:
        heard.append(trial.number)
        return len(heard) == 3

    search, _ = make(n_trials=None, callbacks=[stop_at_three])
    assert search.run() is not None
    assert len(heard) == 3


@pytest.mark.alone
def test_the_clock_ends_the_search_with_a_reserve(make: Any) -> None:
    search, _ = make(n_trials=None, budget=3.0)
    started = time.monotonic()
    assert search.run() is not None
    assert 1.5 < time.monotonic() - started < 3.3


class SilentPool(FakePool):
    """Its workers are never ready, as on a machine that is very busy."""

    has_idle_worker = property(lambda pool: False)  # type: ignore[assignment]


def test_on_a_busy_machine_a_first_model_is_trained_here_at_once(make: Any) -> None:
    search, pool = make(n_trials=None, budget=6.0)
    search.pool = SilentPool(pool.problem, pool.directory, 2)
    search.budget = replace(search.budget, slowdown=4.0)
    assert search.run() is not None
    (trial,) = search.history.trials
    assert trial.family == "linear" and trial.started < 2


def test_what_follows_the_search_has_its_seconds(make: Any) -> None:
    (all_of_it, _), (search, _) = make("a", budget=100.0), make("b", budget=100.0, kept_seconds=20.0)
    assert all_of_it.seconds_left - search.seconds_left == pytest.approx(20, abs=0.5)


def test_a_slow_end_is_kept_back_but_no_more_than_a_fifth(make: Any) -> None:
    search, _ = make(n_trials=None, budget=100.0)
    assert search.seconds_left > 100  # without a model the grace counts, too
    search.history.append(Trial(0, "linear", {}, "portfolio", 0, status="done", loss=0.1, checkpoint="a"))
    assert 99 < search.seconds_left < 100
    search.opening_seconds = 4.0
    assert search.seconds_left == pytest.approx(100 - 0.45 - 6, abs=0.5)
    search.opening_seconds = 40.0
    assert search.seconds_left == pytest.approx(80, abs=0.5)


def test_earlier_trials_count_and_are_not_repeated(make: Any) -> None:
    make(n_trials=3)[0].run()
    search, pool = make(n_trials=5)
    search.run()
    assert [job.number for job in pool.submitted] == [3, 4]
    assert {job.source for job in pool.submitted} == {"sampler"}


def test_halving_takes_the_best_up_on_their_checkpoints(make: Any) -> None:
    rungs = make_rungs(100, True, None)
    search, pool = make(families=["extra_trees"], n_trials=24, rungs=rungs, n_workers=1)
    search.run()
    shares: dict[int, list[float]] = {}
    for job in pool.submitted:
        shares.setdefault(job.number, []).append(job.iteration_fraction)
    assert any(len(taken) > 1 for taken in shares.values())
    for taken in shares.values():
        assert taken == [rung.iteration_fraction for rung in rungs][: len(taken)]


@pytest.mark.parametrize("policy", ["rows", "shares"])
def test_with_a_trial_limit_promotions_do_not_depend_on_the_workers(make: Any, policy: str) -> None:
    rungs = make_rungs(100, False, 20) if policy == "rows" else make_rungs(100, True, None)
    assert len(rungs) > 1
    runs = []
    for n_workers in (1, 2, 3):
        search, pool = make(
            f"run{n_workers}", families=["toy", "linear"], n_trials=40, rungs=rungs, n_workers=n_workers, budget=600.0
        )
        search.run()
        jobs = [
            (j.number, j.family, tuple(sorted(j.config.items())), j.n_rows, j.iteration_fraction)
            for j in pool.submitted
        ]
        assert len({job[1:] for job in jobs}) == len(jobs)  # nothing is done twice
        runs.append(sorted(jobs, key=str))
    assert runs[0] == runs[1] == runs[2]
    assert len({job[3:] for job in runs[0]}) > 1


def test_an_interrupt_keeps_what_there_is(make: Any) -> None:
    search, pool = make(n_trials=None)
    waits = []

    def interrupted(seconds: float) -> Event | None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt
        return FakePool.next_event(pool, seconds)

    pool.next_event = interrupted
    assert search.run() is not None
    assert len(search.history.trials) == 2


def test_progress_hears_of_everything(make: Any) -> None:
    told: list[str] = []
    progress = SimpleNamespace(
        running=lambda names: told.append("running"),
        trial=lambda trial: told.append(f"trial {trial.number}"),
        tick=lambda: told.append("tick"),
    )
    search, _ = make(n_trials=2, listener=progress)
    search.run()
    assert {"running", "trial 0", "trial 1"} <= set(told)
