"""A fit on a cluster of two processes: the same results, limits, deaths, ends."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from sklearn.datasets import load_iris
from toys import ToyFamily, make_problem

from benchmarks.engine.bad_families import BadFamily
from windvane import AutoClassifier, InputError, Metric
from windvane.errors import WorkerError
from windvane.search.run.run_directory import RunDirectory
from windvane.search.trial import Trial
from windvane.search.workers import dask_members, dask_pool
from windvane.search.workers.dask_members import DaskMembers
from windvane.search.workers.dask_pool import DaskPool
from windvane.search.workers.messages import RunContext, pack_objects
from windvane.search.workers.pool import Event
from windvane.version import VERSION

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills processes by signals")

MEMORY = 3000.0


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    """A client of a cluster of two processes with a thread each."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1", memory_limit=None
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture(params=["shared", "carried"])
def sight(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether the Dask workers see the run directory; where not, steps are carried."""
    if request.param == "carried":
        monkeypatch.setattr(dask_members, "check_worker", lambda witness: (VERSION, False))
    return str(request.param)


def make_context(root: Path, *families: Any) -> RunContext:
    problem = make_problem()
    directory = RunDirectory(root)
    directory.trials.mkdir()
    problem.write(directory.data)
    objects = {"metric": problem.metric, "families": {family.name: family for family in families}}
    return RunContext(root, pack_objects(objects))


def events(pool: DaskPool, kind: str, seconds: float = 60.0) -> Event:
    """Wait for an event of a kind."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        event = pool.next_event(0.2)
        if event is not None and event.kind == kind:
            return event
    raise AssertionError(f"no {kind} in time")


def programs(client: Any) -> dict[int, list[int]]:
    """The worker processes below each Dask worker."""
    found = {}
    for pid in client.run(os.getpid).values():
        below = [
            child
            for child in psutil.Process(pid).children()
            if "windvane.search.workers.worker" in str(child.cmdline())
        ]
        found[pid] = [child.pid for child in below]
    return found


def gone(pids: list[int], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(psutil.pid_exists(pid) for pid in pids)


def waiting(flag: Path, log: Path) -> Callable[[str, int], None]:
    """Make a hook that writes down each growth and waits for a flag before the last; travels by value."""

    def hook(event: str, iterations: int) -> None:
        import os
        import time

        if event == "train_until":
            with log.open("a") as file:
                file.write(f"{os.getpid()} {iterations}\n")
            while iterations == 8 and not flag.exists():
                time.sleep(0.02)

    return hook


def test_with_a_trial_limit_the_result_is_that_of_one_machine(dask: Any, sight: str) -> None:
    X, y = load_iris(return_X_y=True)
    options = {"n_trials": 10, "families": ["linear"], "random_state": 3, "verbose": 0, "policy": "cv3"}
    here = AutoClassifier(n_jobs=1, **options).fit(X, y)
    there = AutoClassifier(**options).fit(X, y, dask_client=dask)
    assert [(t.config, t.loss, t.status) for t in there.trials_] == [(t.config, t.loss, t.status) for t in here.trials_]
    assert there.predictor_.ensemble == here.predictor_.ensemble
    np.testing.assert_array_equal(there.predict_proba(X), here.predict_proba(X))


@pytest.mark.alone
def test_an_address_an_own_metric_and_a_budget(dask: Any) -> None:
    X, y = load_iris(return_X_y=True)

    def accuracy(y_true: Any, y_pred: Any) -> float:
        return float(np.mean(y_true == y_pred))

    started = time.monotonic()
    model = AutoClassifier(
        5, scheduler=dask.scheduler.address, metric=Metric("own", accuracy, needs="labels"), verbose=0, random_state=0
    ).fit(X, y)
    assert time.monotonic() - started < 5 + 2
    assert model.trials_  # a busy machine may need most of the time to start its workers
    assert model.score(X, y) > 0.9
    model.resume(3, dask_client=dask)


@pytest.mark.alone
def test_limits_hold_there_and_nothing_is_left(dask: Any, tmp_path: Path) -> None:
    pool = DaskPool(dask, -1, MEMORY)
    assert pool.n_workers == 2
    try:
        pool.open(make_context(tmp_path, BadFamily("hang", good_steps=1), BadFamily("segfault")))
        assert pool.has_idle_worker
        pool.submit(Trial(0, "bad_hang", {}, "portfolio", 0), 1.0, 0.5)
        assert [trial.number for trial in pool.running] == [0] and pool.has_idle_worker
        trial = events(pool, "finished").trial
        assert trial is not None
        assert (trial.status, trial.checkpoint, trial.usable) == ("timeout", "checkpoint_0000", True)
        pool.submit(Trial(1, "bad_segfault", {}, "portfolio", 0), 60.0, 1.0)
        trial = events(pool, "finished").trial
        assert trial is not None
        assert trial.status == "crashed" and "exit code" in (trial.error or "")
        pool.submit(Trial(2, "bad_hang", {}, "portfolio", 0), np.inf, 1.0)
        events(pool, "checkpoint")
        busy = [pid for pids in programs(dask).values() for pid in pids]
        assert busy
    finally:
        pool.close()
    assert gone([pid for pid in busy if pid not in idle_programs(dask)])


def idle_programs(client: Any) -> set[int]:
    """Programs that wait for the next fit."""

    def pids() -> list[int]:
        import time

        from windvane.search.workers.pool import worker_cache

        time.sleep(0.5)  # what was cancelled has ended by then
        return [worker.process.pid for _, worker in worker_cache.workers]

    return {pid for found in client.run(pids).values() for pid in found}


def test_a_trial_outlives_its_dask_worker_and_resumes_its_checkpoint(dask: Any, sight: str, tmp_path: Path) -> None:
    flag, log = tmp_path / "flag", tmp_path / "log"
    (tmp_path / "run").mkdir()
    context = make_context(tmp_path / "run", ToyFamily(hook=waiting(flag, log)))
    pool = DaskPool(dask, 1, MEMORY)
    try:
        pool.open(context)
        pool.submit(Trial(0, "toy", {"rate": 0.3}, "portfolio", 11), np.inf, 1.0)
        step = events(pool, "checkpoint").trial
        assert step is not None and step.best_iterations == (1, 1, 1)
        assert (tmp_path / "run" / "trials" / "00000" / "checkpoint_0000" / "valid.npy").exists()
        worker = int(log.read_text().split()[0])  # the others may still hold an earlier run
        (victim, orphans), *_ = [(pid, below) for pid, below in programs(dask).items() if worker in below]
        os.kill(victim, signal.SIGKILL)
        assert gone(orphans)
        flag.touch()
        trial = events(pool, "finished").trial
        assert trial is not None
        assert (trial.status, trial.best_iterations) == ("done", (8, 8, 8)), trial.error
        assert (tmp_path / "run" / "trials" / "00000" / str(trial.checkpoint) / "valid.npy").exists()
        grown: dict[str, list[str]] = {}  # by worker process
        for line in log.read_text().splitlines():
            grown.setdefault(line.split()[0], []).append(line.split()[1])
        # An attempt from the start trains for 1 and 8 iterations, one from a checkpoint for 2 and 8. Where checkpoints
        # are carried, Dask's own attempt starts again, and may still train while it is cancelled, in the same process.
        resumed = [sizes for sizes in grown.values() if sizes[-6:] == ["2"] * 3 + ["8"] * 3]
        assert resumed, f"the checkpoint was not resumed: {grown}"
    finally:
        pool.close()
    assert not list((tmp_path / "run").glob("cluster-*"))


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "no such place", 8786])
def test_a_bad_address_is_one_clear_error(address: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_pool, "CONNECT_SECONDS", 1.0)
    X, y = load_iris(return_X_y=True)
    with pytest.raises(InputError, match=f"scheduler={address!r} (cannot be reached|is not usable).*Allowed"):
        AutoClassifier(5, scheduler=address, verbose=0).fit(X, y)
    with pytest.raises(InputError, match=r"dask_client='tcp.*Allowed"):
        AutoClassifier(5, verbose=0).fit(X, y, dask_client="tcp://127.0.0.1:1")


def test_other_versions_are_refused(dask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_members, "check_worker", lambda witness: ("0.0.0", True))
    pool = DaskPool(dask, 1, MEMORY)
    try:
        with pytest.raises(WorkerError, match=r"have windvane 0\.0\.0; here it is"):
            pool.open(make_context(tmp_path))
    finally:
        pool.close()


def test_a_scheduler_that_goes_away_ends_the_search_with_what_there_is() -> None:
    X, y = load_iris(return_X_y=True)
    local = distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=":0", host="127.0.0.1", memory_limit=None
    )
    client = distributed.Client(local.scheduler_address)
    heard = []

    def close_at_three(trial: Any) -> None:
        heard.append(trial)
        if len(heard) == 3:
            local.close()

    started = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = AutoClassifier(60, families=["linear"], verbose=0, random_state=0).fit(
            X, y, callbacks=[close_at_three], dask_client=client
        )
        client.close()
    assert time.monotonic() - started < 40
    assert any("The search ended early" in str(w.message) for w in caught)
    assert len(model.trials_) >= 3
    assert model.score(X, y) > -0.5


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("frozen", ["worker", "scheduler"])
def test_what_is_frozen_never_hangs_a_fit(frozen: str, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_members, "SILENT_SECONDS", 4.0)
    X, y = load_iris(return_X_y=True)
    with Cluster() as cluster, distributed.Client(cluster.address) as client:
        client.wait_for_workers(2)
        victim = cluster.processes[0 if frozen == "scheduler" else 1].pid
        if when == "before":
            os.kill(victim, signal.SIGSTOP)

        def freeze(trial: Trial) -> None:
            if trial.number == 1:
                os.kill(victim, signal.SIGSTOP)

        started = time.monotonic()
        model = AutoClassifier(45, families=["linear", "extra_trees"], verbose=0, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                model.fit(X, y, dask_client=client, callbacks=[freeze])
                assert model.score(X, y) > -0.5
                if frozen == "worker":
                    assert len(model.trials_) > 2
            except WorkerError as error:
                assert (frozen, when) == ("scheduler", "before") and "does not answer" in str(error)
            finally:
                seconds = time.monotonic() - started
                os.kill(victim, signal.SIGCONT)
        assert seconds < 45 + 8  # on a busy machine


class Cluster:
    """A scheduler and two workers, each a separate process that can be frozen."""

    def __enter__(self) -> Cluster:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{port}"
        base = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", str(port), "--no-dashboard"]
        worker = [sys.executable, "-m", "distributed.cli.dask_worker", self.address, "--nthreads", "1", "--no-nanny"]
        commands = [[*base, "--host", "127.0.0.1"], *[[*worker, "--no-dashboard"]] * 2]
        self.processes = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for command in commands
        ]
        return self

    def __exit__(self, *exception: object) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.mark.alone
def test_the_end_of_a_silent_cluster_has_a_limit_as_a_whole(tmp_path: Path) -> None:
    """Each call of the client waits for ever, as where the scheduler is frozen in the moment in which a budget ends."""
    release = threading.Event()
    silent = types.SimpleNamespace(
        status="running",
        cancel=lambda futures: release.wait(60),
        submit=lambda *parts, **more: types.SimpleNamespace(
            key=more["key"], status="pending", add_done_callback=lambda done: None
        ),
        close=lambda **more: release.wait(60),
    )
    messages = types.SimpleNamespace(name="q", get=lambda **more: release.wait(60), close=lambda: release.wait(60))
    pool = DaskPool.__new__(DaskPool)
    pool._client, pool._owned, pool._messages, pool._witness = silent, True, messages, None
    pool._members = DaskMembers(silent)
    pool._closing, pool._running, pool._data, pool._inbox = threading.Event(), {}, {}, queue.SimpleQueue()
    pool._ended, pool._memory = queue.SimpleQueue(), MEMORY
    pool._context = make_context(tmp_path)
    pool._listener = threading.Thread(target=lambda: release.wait(60), daemon=True)
    pool._listener.start()
    try:
        for number in range(3):
            pool.submit(Trial(number, "linear", {}, "sampler", seed=0), 5.0, 1.0)
        started = time.monotonic()
        pool._send(pool._running[0])  # cancels its task and sends another
        assert time.monotonic() - started < 1.0
        started = time.monotonic()
        pool.close()
        assert time.monotonic() - started < pool.closing_seconds + 1.0  # on a busy machine
    finally:
        release.set()


@pytest.mark.alone
def test_a_call_that_never_returns_ends_in_time() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="did not answer within 0 seconds"):
        dask_members.within(0.2, lambda: time.sleep(5))
    assert time.monotonic() - started < 2
    assert dask_members.within(5, lambda: 7 // 2) == 3
    with pytest.raises(ZeroDivisionError):
        dask_members.within(5, lambda: 7 // 0)
