"""The workers of a fit on a Dask cluster: a task for each trial, which supervises a worker program on its machine.

Where a Dask worker dies, Dask begins its task anew on another one. The fit notices, since each attempt says its name
first: in a shared run directory the new attempt goes on from the kept step by itself; otherwise it is called off, and
the trial is sent again with the step that lies here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import shutil
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from windvane.errors import InputError, WorkerError
from windvane.search.evaluate import kept_trial, latest_step
from windvane.search.run import RunDirectory
from windvane.search.supervise import Data, Order, greet, pack, supervise, unpack
from windvane.search.trial import Job, Trial
from windvane.search.workers import Event, Session
from windvane.settings import resolve_jobs
from windvane.version import VERSION

CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.1
COUNT_SECONDS = 2.0  # between looks at how many threads the cluster has
NOBODY_SECONDS = 60.0  # a cluster without a worker for so long is given up
FETCH_SECONDS = 10.0  # for a task's result
END_SECONDS = 1.0  # for tasks to kill their programs
MOST_DEATHS = 3  # of Dask workers under one trial
MOST_ERRORS = 3  # tasks in a row that end outside a trial

_TROUBLES = (Exception, asyncio.CancelledError)  # whatever a cluster that goes away raises in its client
_GONE = "The Dask scheduler is gone."


@dataclass
class _Running:
    order: Order
    future: Any = None
    attempt: str | None = None  # the last that was heard of
    deaths: int = 0


class ClusterPool:
    """The workers of one fit on a Dask cluster; used as `windvane.search.workers.Pool` is.

    Parameters
    ----------
    client
        A `distributed.Client`.
    n_jobs
        Trials at once; -1 or None for all threads of the cluster.
    memory_limit
        Megabytes for all worker programs together; None for 80 % of what each machine has.
    owned
        Whether the client is closed in the end.
    """

    def __init__(self, client: Any, n_jobs: int | None, memory_limit: float | None, owned: bool = False) -> None:
        from distributed import Queue

        self._client, self._n_jobs, self._owned = client, n_jobs, owned
        self.n_workers = self._count()
        self._memory = None if memory_limit is None else float(memory_limit) / self.n_workers
        self._session: Session | None = None
        self._data: Any = None  # a future of Data; None where the run directory is shared
        self._running: dict[int, _Running] = {}
        self._errors = 0
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._events = Queue(f"windvane-{uuid.uuid4().hex}", client=client)
        self._listener = threading.Thread(target=self._listen, daemon=True, name="windvane-cluster")
        self._listener.start()

    @classmethod
    def connect(cls, address: str | None, client: Any, *, n_jobs: Any, memory_limit: Any) -> ClusterPool:
        """Find the cluster.

        Parameters
        ----------
        address
            Of its scheduler; used where there is no client.
        client
            A `distributed.Client`, or None.
        n_jobs, memory_limit
            As the user gave them.

        Returns
        -------
        ClusterPool
            With at least one worker.

        Raises
        ------
        InputError
            Where it cannot be reached, or is not what it should be.
        """
        try:
            from distributed import Client
        except ImportError as error:
            raise InputError(
                "scheduler and dask_client need distributed. Allowed: pip install 'windvane[cluster]'."
            ) from error
        if client is not None:
            if not isinstance(client, Client) or client.asynchronous:
                raise InputError(f"dask_client={client!r} is not usable. Allowed: a distributed.Client that blocks.")
            return cls(client, n_jobs, memory_limit)
        if not isinstance(address, str):
            raise InputError(f"scheduler={address!r} is not usable. Allowed: an address such as 'tcp://host:8786'.")
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"scheduler={address!r} cannot be reached: {error}. Allowed: the address of a Dask scheduler that runs."
            ) from error
        try:
            return cls(client, n_jobs, memory_limit, owned=True)
        except BaseException:
            client.close()
            raise

    def open(self, session: Session) -> None:
        """Take note of the run; sends its data to machines that do not see its directory.

        Parameters
        ----------
        session
            The run.

        Raises
        ------
        WorkerError
            Where windvane is missing on the cluster, or is another version.
        """
        self._session = session
        witness = session.root / f"cluster-{uuid.uuid4().hex}"
        witness.touch()
        try:
            answers = self._client.run(greet, str(witness))
        except _TROUBLES as error:
            raise WorkerError(f"The Dask workers cannot run windvane: {type(error).__name__}: {error}") from error
        finally:
            witness.unlink()
        others = {version for version, _ in answers.values()} - {VERSION}
        if others:
            raise WorkerError(f"The Dask workers have windvane {', '.join(sorted(others))}; here it is {VERSION}.")
        if not all(seen for _, seen in answers.values()):
            # A task of its own and not scattered: what is scattered is lost with the Dask workers that hold it.
            self._data = self._submit(Data, pack(session.root / "data"), name="data")

    @property
    def idle(self) -> list[None]:
        """A place for each trial that may begin."""
        return [None] * (self.n_workers - len(self._running))

    @property
    def running(self) -> list[Job]:
        """Jobs in the works."""
        return [running.order.job for running in self._running.values()]

    def submit(self, job: Job, seconds: float, grace: float) -> None:
        """Give a job to the cluster.

        Parameters
        ----------
        job
            What to evaluate.
        seconds
            How long it may grow, from the start of its program; infinity for no clock.
        grace
            Seconds after which it is killed beyond that.
        """
        assert self._session is not None
        order = Order(self._session, job, seconds, grace, self._memory, self._events.name)
        self._running[job.number] = running = _Running(order)
        self._send(running)

    def wait(self, seconds: float) -> Event | None:
        """Wait for the next event.

        Parameters
        ----------
        seconds
            How long at the most.

        Returns
        -------
        Event or None
            What happened; None where nothing did.

        Raises
        ------
        WorkerError
            Where the scheduler is gone, or the cluster cannot run windvane.
        """
        end = time.monotonic() + seconds
        while True:
            if self._client.status != "running":
                raise WorkerError(_GONE)
            try:
                said = self._inbox.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return None
            if isinstance(said, WorkerError):
                raise said
            event = self._heard(said) if isinstance(said, dict) else self._finished(*said)
            if event is not None:
                return event

    def close(self, keep: bool = True) -> None:
        """End the fit's use of the cluster; returns when the programs at work are dead.

        Parameters
        ----------
        keep
            For the sake of `Pool.close`; idle programs belong to the Dask workers and end by themselves.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        try:
            if self._client.status == "running":
                self._call_off()
                self._events.close()
            elif self._running:
                time.sleep(END_SECONDS)  # the Dask workers notice that the scheduler is gone, and end their tasks
        except _TROUBLES:
            pass  # gone in this moment
        self._running, self._data = {}, None
        if self._owned:
            with contextlib.suppress(*_TROUBLES):
                self._client.close(timeout=2)

    def _call_off(self) -> None:
        """Cancel what runs, and hear the last words of each task: nothing changes its kept step any more."""
        left = {r.future.key: r for r in self._running.values() if r.future.status == "pending"}
        self._client.cancel([running.future for running in self._running.values()])
        self._listener.join(END_SECONDS)
        end = time.monotonic() + END_SECONDS
        while left and time.monotonic() < end:
            words = []
            while not self._inbox.empty():
                words.append(self._inbox.get())
            for message in [*words, *self._events.get(batch=True)]:
                if isinstance(message, dict) and message["key"] in left:
                    left[message["key"]].attempt = message["attempt"]
                    if "over" in message:
                        del left[message["key"]]
                    elif "trial" in message:
                        self._received(message)
            if all(running.attempt is None for running in left.values()):
                return  # never begun
            time.sleep(0.02)

    def _send(self, running: _Running) -> None:
        """Send a trial, with its kept step where the run directory is not shared."""
        number, kept = running.order.job.number, None
        assert self._session is not None
        step = latest_step(RunDirectory(self._session.root).trial(number))
        if self._data is not None and step is not None:
            kept = (step.name, pack(step))
        try:
            if running.future is not None:
                self._client.cancel([running.future])
            running.future = self._submit(supervise, running.order, self._data, kept, name=f"trial-{number}")
            running.attempt = None
            running.future.add_done_callback(self._ended.put)
        except _TROUBLES as error:
            raise WorkerError(_GONE) from error

    def _submit(self, work: Callable[..., Any], *parts: Any, name: str) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a table is large, and Dask says so
            return self._client.submit(work, *parts, key=f"windvane-{name}-{uuid.uuid4().hex}", pure=False)

    def _heard(self, message: dict[str, Any]) -> Event | None:
        """Take a message from a task: that it begins, or that a step was kept."""
        running = self._running_as(message["key"])
        if running is None or "over" in message:
            return None
        before, running.attempt = running.attempt, message["attempt"]
        if before not in (None, running.attempt):
            return self._died(running, again=self._data is not None)  # it does not know of the kept step
        return Event("step", self._received(message)) if "trial" in message else None

    def _finished(self, future: Any, message: dict[str, Any] | None) -> Event | None:
        running = self._running_as(future.key)
        if running is None:
            return None
        if future.status == "error":
            return self._failed(running)
        if not message:  # the task was cancelled by others, or what it gave went with its Dask worker
            return self._died(running, again=True)
        self._errors = 0
        if "unfit" in message:
            return Event("unfit", error=message["unfit"])
        del self._running[running.order.job.number]
        return Event("done", self._received(message))

    def _running_as(self, key: str) -> _Running | None:
        """Find the trial of a task; None for one that was called off."""
        return next((running for running in self._running.values() if running.future.key == key), None)

    def _died(self, running: _Running, again: bool) -> Event | None:
        """Let a trial go on whose Dask worker died, a few times; where Dask does not do so, send it again."""
        running.deaths += 1
        if running.deaths >= MOST_DEATHS:
            return self._given_up(running, f"{running.deaths} Dask workers died under it")
        if again:
            self._send(running)
        return None

    def _failed(self, running: _Running) -> Event:
        """Take a task that Dask gave up, or that failed outside the trial."""
        error = running.future.exception()
        self._errors += 1
        if self._errors > MOST_ERRORS:
            raise WorkerError(f"The Dask workers cannot run windvane: {type(error).__name__}: {error}")
        return self._given_up(running, f"its task failed: {error}")

    def _given_up(self, running: _Running, words: str) -> Event:
        job = running.order.job
        del self._running[job.number]
        with contextlib.suppress(*_TROUBLES):
            self._client.cancel([running.future])
        assert self._session is not None
        trial = kept_trial(RunDirectory(self._session.root).trial(job.number)) or Trial.of(job, "crashed")
        return Event("done", replace(trial, status="crashed", error=words))

    def _received(self, message: dict[str, Any]) -> Trial:
        """Put the files of a step into the run directory, whole or not at all."""
        trial = Trial.from_json(message["trial"])
        assert self._session is not None
        if message["files"] is not None and trial.step is not None:
            folder = RunDirectory(self._session.root).trial(trial.number)
            earlier, making = latest_step(folder), folder / "making"
            try:
                shutil.rmtree(making, ignore_errors=True)
                unpack(message["files"], making)
                os.replace(making, folder / trial.step)
            except OSError as error:
                raise WorkerError(f"A step of trial {trial.number} cannot be written: {error}") from error
            if earlier is not None and earlier.name != trial.step:
                shutil.rmtree(earlier, ignore_errors=True)
        return trial

    def _count(self) -> int:
        """Count the trials that may run at once."""
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError as error:
            raise WorkerError("The Dask cluster has no workers.") from error
        threads = int(sum(self._client.nthreads().values()))
        return min(threads, resolve_jobs(self._n_jobs, threads))

    def _listen(self) -> None:
        """Pass on what tasks say, then which of them ended; the thread of this pool that waits for the scheduler."""
        counted = seen = time.monotonic()
        while not self._closing.is_set():
            ended: list[Any] = []
            with contextlib.suppress(queue.Empty):
                ended.append(self._ended.get(timeout=POLL_SECONDS))
            try:
                for message in self._events.get(batch=True):  # a task says all it has to say before it ends
                    self._inbox.put(message)
                if time.monotonic() - counted > COUNT_SECONDS:
                    counted, threads = time.monotonic(), sum(self._client.nthreads().values())
                    seen = counted if threads else seen
                    self.n_workers = min(threads, resolve_jobs(self._n_jobs, max(1, threads)))
                    if counted - seen > NOBODY_SECONDS:
                        raise WorkerError("The Dask cluster has no workers any more.")
            except _TROUBLES as error:
                if not self._closing.is_set():
                    self._inbox.put(WorkerError(str(error) or _GONE))
                return
            for future in ended:
                self._inbox.put((future, _result(future)))


def _result(future: Any) -> dict[str, Any] | None:
    """Fetch what a task gave; None where it cannot be had."""
    if future.status == "finished":
        with contextlib.suppress(*_TROUBLES):  # a Dask worker that has just died
            return dict(future.result(timeout=FETCH_SECONDS))
    return None
