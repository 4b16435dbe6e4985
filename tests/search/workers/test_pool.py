"""Limits that a pool enforces from outside, and what it does with a worker that dies."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_iris

from benchmarks.engine.bad_families import BadFamily
from windvane.data.splits import make_folds
from windvane.data.task import Task
from windvane.evaluation.metrics import get_metric
from windvane.runtime.columns.table import Table
from windvane.search.problem import Problem
from windvane.search.run.run_directory import RunDirectory
from windvane.search.trial import Trial
from windvane.search.workers.messages import RunContext, pack_objects
from windvane.search.workers.pool import WATCH_SECONDS, Event, WorkerPool


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with the iris data."""
    X, y = load_iris(return_X_y=True)
    task = Task("multiclass", len(X), X.shape[1], 3)
    folds, _ = make_folds(y.astype(np.int64), 2, seed=0)
    problem = Problem(
        task, get_metric("auto", task, np.arange(3)), Table(X, 4), y.astype(np.int64), None, tuple(folds), 0
    )
    directory = RunDirectory(tmp_path_factory.mktemp("run"))
    directory.trials.mkdir()
    problem.write(directory.data)
    return directory.root


def open_pool(root: Path, *families: BadFamily, memory: float = 4000.0, n_workers: int = 1) -> WorkerPool:
    task = Task("multiclass", 150, 4, 3)
    objects = {"metric": get_metric("auto", task, np.arange(3)), "families": {f.name: f for f in families}}
    pool = WorkerPool(n_workers, memory)
    pool.open(RunContext(root, pack_objects(objects)))
    return pool


def submit(pool: WorkerPool, trial: Trial, seconds: float, grace: float) -> None:
    """Submit a trial as soon as a worker has started."""
    end = time.monotonic() + 60
    while not pool.has_idle_worker and time.monotonic() < end:
        pool.next_event(0.2)
    pool.submit(trial, seconds, grace)


def make(number: int, family: str) -> Trial:
    return Trial(number, family, {}, "portfolio", seed=1)


def done(pool: WorkerPool, seconds: float = 60.0) -> Event:
    """Wait for the end of a trial."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        event = pool.next_event(0.2)
        if event is not None and event.kind == "finished":
            return event
    raise AssertionError("no trial ended in time")


def still_works(pool: WorkerPool, number: int) -> None:
    """A linear model on iris must come out well."""
    submit(pool, make(number, "linear"), np.inf, 0.0)
    trial = done(pool).trial
    assert trial is not None
    assert trial.status == "done"
    assert trial.loss < 0.3


@pytest.mark.alone
@pytest.mark.parametrize(("behaviour", "number"), [("sleep", 1), ("hang", 11)])
def test_what_does_not_stop_is_killed_and_its_checkpoint_counts(root: Path, behaviour: str, number: int) -> None:
    pool = open_pool(root, BadFamily(behaviour, good_steps=1))
    try:
        submit(pool, make(number, f"bad_{behaviour}"), seconds=1.5, grace=0.5)
        started = time.monotonic()
        trial = done(pool).trial
        assert time.monotonic() - started < 4.0
        assert trial is not None
        assert (trial.status, trial.checkpoint, trial.usable) == ("timeout", "checkpoint_0000", True)
        assert np.load(root / "trials" / f"{number:05d}" / "checkpoint_0000" / "valid.npy").shape == (150, 3)
        still_works(pool, number + 1)
    finally:
        pool.close()


def test_the_largest_worker_is_killed_above_the_memory_limit(root: Path) -> None:
    pool = open_pool(root, BadFamily("eat"), memory=900.0)
    try:
        submit(pool, make(3, "bad_eat"), seconds=40.0, grace=1.0)
        trial = done(pool).trial
        assert trial is not None
        assert trial.status == "out_of_memory"
        assert "memory" in (trial.error or "")
        still_works(pool, 4)
    finally:
        pool.close()


@pytest.mark.parametrize("behaviour", ["segfault", "exit"])
def test_a_worker_that_dies_is_replaced(root: Path, behaviour: str) -> None:
    pool = open_pool(root, BadFamily(behaviour))
    try:
        submit(pool, make(5, f"bad_{behaviour}"), seconds=40.0, grace=1.0)
        trial = done(pool).trial
        assert trial is not None
        assert trial.status == "crashed"
        assert "exit code" in (trial.error or "")
        still_works(pool, 6)
    finally:
        pool.close()


def test_a_family_that_raises_costs_no_worker(root: Path) -> None:
    pool = open_pool(root, BadFamily("raise"))
    try:
        pids = {worker.process.pid for worker in pool.workers}
        submit(pool, make(7, "bad_raise"), seconds=40.0, grace=1.0)
        trial = done(pool).trial
        assert trial is not None
        assert (trial.status, trial.error) == ("failed", "ValueError: this family always fails")
        assert {worker.process.pid for worker in pool.workers} == pids
    finally:
        pool.close()


def test_busy_workers_die_with_the_pool_and_idle_ones_serve_the_next(root: Path) -> None:
    pool = open_pool(root, BadFamily("hang"), n_workers=2)
    still_works(pool, 8)
    submit(pool, make(9, "bad_hang"), seconds=100.0, grace=1.0)
    busy = [worker.process.pid for worker in pool.workers if worker.trial is not None]
    idle = [worker.process.pid for worker in pool.workers if worker.trial is None and worker.ready]
    pool.close()
    assert busy and not any(psutil.pid_exists(pid) for pid in busy)
    again = open_pool(root)
    try:
        assert not idle or again.workers[0].process.pid in idle
        still_works(again, 10)
    finally:
        again.close()


def test_what_a_worker_says_of_an_earlier_run_is_not_heard(root: Path, tmp_path: Path) -> None:
    """A pool that closes at once leaves a worker that has yet to open a directory which is gone by then."""
    first = open_pool(root)
    still_works(first, 20)
    first.open(RunContext(tmp_path / "gone", pack_objects({"metric": None})))
    first.close()
    second = open_pool(root)
    try:
        submit(second, make(21, "linear"), np.inf, 0.0)
        kinds = []
        while "finished" not in kinds:
            event = second.next_event(60.0)
            assert event is not None
            kinds.append(event.kind)
        assert "worker_error" not in kinds
    finally:
        second.close()


def test_objects_that_do_not_load_are_reported(root: Path) -> None:
    pool = WorkerPool(1, 4000.0)
    try:
        pool.open(RunContext(root, pack_objects({"metric": None})))
        event = None
        end = time.monotonic() + 60
        while (event is None or event.kind == "worker_ready") and time.monotonic() < end:
            event = pool.next_event(0.5)
        assert event is not None
        assert event.kind == "worker_error"
        assert "KeyError" in event.error
    finally:
        pool.close()


def test_a_worker_that_waits_for_its_data_is_not_a_failed_start() -> None:
    pool = WorkerPool(1, 10_000.0)
    worker = pool.workers[0]
    try:
        while not worker.ready:  # nobody reads the events meanwhile
            time.sleep(0.1)
        worker.deadline = time.monotonic()
        time.sleep(3 * WATCH_SECONDS)
        assert worker.killed is None
        assert worker.process.poll() is None
    finally:
        pool.close(keep=False)
