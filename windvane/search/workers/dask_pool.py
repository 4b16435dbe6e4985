"""The workers of a fit on a Dask cluster: a task for each trial, which runs a worker process on its machine.

Each trial is sent to one Dask worker, out of those that answer (`windvane.search.workers.dask_members`). If that worker
dies or is silent, the trial is sent to another one with its checkpoint. No call waits for the cluster without a limit:
a scheduler that is frozen leaves the fit with what it has, at the end of its budget.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from windvane.errors import InputError, WorkerError, check_usable
from windvane.packing import pack_folder
from windvane.search.run.checkpoint import latest_checkpoint, read_checkpoint, write_received_checkpoint
from windvane.search.run.run_directory import RunDirectory
from windvane.search.trial import Trial
from windvane.search.workers.background import in_background
from windvane.search.workers.dask_members import ANSWER_SECONDS, CLUSTER_ERRORS, DaskMembers, within
from windvane.search.workers.dask_task import RunData, TaskMessage, TrialTask, run_trial_task
from windvane.search.workers.messages import RunContext
from windvane.search.workers.pool import Event
from windvane.settings import resolve_jobs

CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.1
COUNT_SECONDS = 1.0  # between looks at who is there
GREET_SECONDS = 3.0  # for the workers' first answers, which need imports; later ones count from then on
EMPTY_SECONDS = 60.0  # after so long without a worker the cluster is given up
FETCH_SECONDS = 5.0  # for a task's result
CLOSE_SECONDS = 1.5  # for the whole end: tasks kill their processes, and the cluster is told
MAX_DEATHS = 3  # of Dask workers under one trial
MAX_ERRORS = 3  # tasks in a row that end outside a trial

_GONE = "The Dask scheduler is gone."


@dataclass
class _Running:
    task: TrialTask
    future: Any = None
    worker: str = ""  # address of its Dask worker
    attempt: str | None = None  # the last one that reported
    deaths: int = 0


class DaskPool:
    """The workers of one fit on a Dask cluster; used like `windvane.search.workers.pool.WorkerPool`.

    `client` is a `distributed.Client`, closed at the end if `owned`; `n_jobs` trials run at once, -1 or None for all
    threads of the cluster; `memory_limit` is in megabytes for all worker processes together, None for 80 % of what each
    machine has.
    """

    closing_seconds = CLOSE_SECONDS  # that `close` may take

    def __init__(self, client: Any, n_jobs: int | None, memory_limit: float | None, owned: bool = False) -> None:
        from distributed import Queue

        self._client, self._n_jobs, self._owned = client, n_jobs, owned
        self._members = DaskMembers(client)
        self.n_workers = self._count()
        self._memory = None if memory_limit is None else float(memory_limit) / self.n_workers
        self._context: RunContext | None = None
        self._witness: Path | None = None
        self._data: dict[str, Any] = {}  # by Dask worker: a future of RunData, if not all see the run directory
        self._running: dict[int, _Running] = {}
        self._errors = 0
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()  # futures
        # Messages of tasks, futures of ended tasks with their results, errors of the cluster.
        self._inbox: queue.SimpleQueue[TaskMessage | tuple[Any, TaskMessage | None] | WorkerError] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._messages = within(ANSWER_SECONDS, lambda: Queue(f"windvane-{uuid.uuid4().hex}", client=client))
        self._listener = threading.Thread(target=self._listen, daemon=True, name="windvane-cluster")
        self._listener.start()

    @classmethod
    def connect(cls, address: str | None, client: Any, *, n_jobs: Any, memory_limit: Any) -> DaskPool:
        """Return a pool for a client, or for the scheduler at an address; raises InputError if it cannot be used."""
        try:
            from distributed import Client
        except ImportError as error:
            raise InputError(
                "scheduler and dask_client need distributed. Allowed: pip install 'windvane[cluster]'."
            ) from error
        if client is not None:
            usable = isinstance(client, Client) and not client.asynchronous
            check_usable("dask_client", client, usable, "a distributed.Client that blocks")
            return cls(client, n_jobs, memory_limit)
        check_usable("scheduler", address, isinstance(address, str), "an address such as 'tcp://host:8786'")
        try:
            client = within(2 * CONNECT_SECONDS, lambda: Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"scheduler={address!r} cannot be reached: {error}. Allowed: the address of a Dask scheduler that runs."
            ) from error
        try:
            return cls(client, n_jobs, memory_limit, owned=True)
        except BaseException:
            with contextlib.suppress(*CLUSTER_ERRORS):
                within(2.0, client.close)
            raise

    def open(self, context: RunContext) -> None:
        """Send the data of a run to machines that do not see its directory; WorkerError if none of them can use it."""
        self._context = context
        witness = context.root / f"cluster-{uuid.uuid4().hex}"
        witness.touch()
        self._witness = witness  # stays, for workers that answer late
        self._members.greet(str(witness), GREET_SECONDS)

    @property
    def has_idle_worker(self) -> bool:
        return len(self._running) < self.n_workers and self._free_worker() is not None

    @property
    def running(self) -> list[Trial]:
        return [running.task.trial for running in self._running.values()]

    def submit(self, trial: Trial, seconds: float, grace: float) -> None:
        """Train a trial for some seconds from the start of its process; it is killed `grace` seconds later."""
        assert self._context is not None
        task = TrialTask(self._context, trial, seconds, grace, self._memory, self._messages.name)
        self._running[trial.number] = running = _Running(task)
        self._send(running)

    def next_event(self, seconds: float) -> Event | None:
        """Return the next event; None if nothing happens for some seconds, WorkerError if the scheduler is gone."""
        end = time.monotonic() + seconds
        while True:
            if self._client.status != "running":
                raise WorkerError(_GONE)
            event = self._send_elsewhere()
            if event is not None:
                return event
            try:
                item = self._inbox.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return None
            if isinstance(item, WorkerError):
                raise item
            event = self._on_message(item) if isinstance(item, TaskMessage) else self._on_result(*item)
            if event is not None:
                return event

    def close(self, keep: bool = True) -> None:
        """Cancel the tasks that run; returns when their processes are dead.

        `keep` is for the sake of `WorkerPool.close`: idle processes belong to the Dask workers and end by themselves.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        end = time.monotonic() + CLOSE_SECONDS
        try:
            if self._client.status == "running":
                self._cancel(end)
                in_background(self._messages.close)
            elif self._running:
                time.sleep(CLOSE_SECONDS)  # the Dask workers notice that the scheduler is gone, and end their tasks
        except CLUSTER_ERRORS:
            pass  # gone in this moment, or frozen
        self._running, self._data = {}, {}
        if self._witness is not None:
            self._witness.unlink(missing_ok=True)
        if self._owned:
            with contextlib.suppress(*CLUSTER_ERRORS):
                within(max(0.1, end - time.monotonic()), lambda: self._client.close(timeout=1))

    def _cancel(self, end: float) -> None:
        """Cancel what runs, and wait for the last message of each task: no checkpoint changes any more."""
        left = {r.future.key: r for r in self._running.values() if r.future.status == "pending"}
        futures = [running.future for running in self._running.values()]
        within(end - time.monotonic(), lambda: self._client.cancel(futures))
        self._listener.join(max(0.0, end - time.monotonic()))
        while left and time.monotonic() < end:
            items = []
            while not self._inbox.empty():
                items.append(self._inbox.get())
            for item in [*items, *self._get_messages(end - time.monotonic())]:
                if isinstance(item, TaskMessage) and item.key in left:
                    left[item.key].attempt = item.attempt
                    if item.kind == "cancelled":
                        del left[item.key]
                    elif item.trial is not None:
                        self._receive(item)
            if all(running.attempt is None for running in left.values()):
                return  # never started
            time.sleep(0.02)

    def _get_messages(self, seconds: float = ANSWER_SECONDS) -> list[TaskMessage]:
        return [TaskMessage(**message) for message in within(seconds, lambda: self._messages.get(batch=True))]

    def _folder(self, trial: Trial) -> Path:
        assert self._context is not None
        return RunDirectory(self._context.root).trial(trial.number)

    def _send(self, running: _Running) -> None:
        """Send a trial, with its checkpoint if the run directory is not shared."""
        trial, checkpoint = running.task.trial, None
        latest = latest_checkpoint(self._folder(trial))
        if latest is not None and not self._members.must_see:
            checkpoint = (latest.name, pack_folder(latest))
        try:
            if running.future is not None:
                self._cancel_later(running.future)
            running.worker = self._free_worker(but=running.worker) or ""  # any, while none has answered
            parts = running.task, self._data_for(running.worker), checkpoint
            running.future = self._submit(f"trial-{trial.number}", running.worker, run_trial_task, *parts)
            running.attempt = None
            running.future.add_done_callback(self._ended.put)
        except CLUSTER_ERRORS as error:
            raise WorkerError(_GONE) from error

    def _cancel_later(self, future: Any) -> None:
        """Cancel a task that nothing waits for any more; the search does not wait for the scheduler, either."""
        in_background(lambda: self._client.cancel([future]))

    def _submit(self, name: str, worker: str, work: Callable[..., Any], *parts: Any) -> Any:
        key, workers = f"windvane-{name}-{uuid.uuid4().hex}", [worker] if worker else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a table is large, and Dask says so
            return self._client.submit(work, *parts, key=key, pure=False, workers=workers)  # waits for nothing

    def _data_for(self, worker: str) -> Any:
        """Return a future of the run's data on one Dask worker; None if all see the run directory."""
        assert self._context is not None
        if self._members.must_see:
            return None
        if worker not in self._data:
            # A task and not scattered, and of this worker alone: nothing waits for one that is frozen.
            archive = pack_folder(self._context.root / "data")
            self._data[worker] = self._submit("data", worker, RunData, archive)
        return self._data[worker]

    def _free_worker(self, but: str = "") -> str | None:
        """Return the usable Dask worker with most threads to spare, another one than `but` if there is one."""
        free = self._members.usable
        for running in self._running.values():
            if running.worker in free:
                free[running.worker] -= 1
        free = {address: threads for address, threads in free.items() if threads > 0}
        return max(free, key=lambda address: (address != but, free[address]), default=None)

    def _send_elsewhere(self) -> Event | None:
        """Send the trials again whose Dask worker is gone or silent, as soon as another one is free."""
        usable = self._members.usable
        for running in list(self._running.values()):
            if running.worker and running.worker not in usable and self._free_worker(but=running.worker) is not None:
                event = self._on_death(running, send_again=True)
                if event is not None:
                    return event
        return None

    def _on_message(self, message: TaskMessage) -> Event | None:
        running = self._find(message.key)
        if running is None or message.kind == "cancelled":
            return None
        before, running.attempt = running.attempt, message.attempt
        if before not in (None, running.attempt):
            # Without a shared run directory the new attempt does not know the checkpoint.
            return self._on_death(running, send_again=not self._members.must_see)
        return Event("checkpoint", self._receive(message)) if message.kind == "checkpoint" else None

    def _on_result(self, future: Any, message: TaskMessage | None) -> Event | None:
        running = self._find(future.key)
        if running is None:
            return None
        if future.status == "error":
            return self._on_error(running)
        # Without a message, others cancelled the task, or its result was lost with its Dask worker.
        if message is None or message.kind == "cancelled":
            return self._on_death(running, send_again=True)
        if message.kind == "worker_error":
            self._errors += 1
            if self._errors > MAX_ERRORS or len(self._members.usable) < 2:
                return Event("worker_error", error=message.error)
            return self._give_up(running, f"its Dask worker cannot train: {message.error}")
        self._errors = 0
        del self._running[running.task.trial.number]
        return Event("finished", self._receive(message))

    def _find(self, key: str) -> _Running | None:
        """Return the trial of a task; None if it was cancelled."""
        return next((running for running in self._running.values() if running.future.key == key), None)

    def _on_death(self, running: _Running, send_again: bool) -> Event | None:
        """Continue a trial whose Dask worker died, a few times."""
        running.deaths += 1
        if running.deaths >= MAX_DEATHS:
            return self._give_up(running, f"{running.deaths} Dask workers died under it")
        if send_again:
            self._send(running)
        return None

    def _on_error(self, running: _Running) -> Event:
        """Give up a task that failed outside the trial, or that Dask gave up."""
        error: object = None
        with contextlib.suppress(*CLUSTER_ERRORS):
            error = within(FETCH_SECONDS, running.future.exception)
        self._errors += 1
        if self._errors > MAX_ERRORS:
            raise WorkerError(f"The Dask workers cannot run windvane: {type(error).__name__}: {error}")
        return self._give_up(running, f"its task failed: {error}")

    def _give_up(self, running: _Running, error: str) -> Event:
        trial = running.task.trial
        del self._running[trial.number]
        self._cancel_later(running.future)
        trial = read_checkpoint(self._folder(trial)) or trial.without_results()
        return Event("finished", replace(trial, status="crashed", error=error))

    def _receive(self, message: TaskMessage) -> Trial:
        """Return the trial of a message; its checkpoint is written into the run directory."""
        assert message.trial is not None
        trial = Trial.from_json(message.trial)
        if message.files is not None and trial.checkpoint is not None:
            try:
                write_received_checkpoint(self._folder(trial), trial.checkpoint, message.files)
            except OSError as error:
                raise WorkerError(f"A checkpoint of trial {trial.number} cannot be written: {error}") from error
        return trial

    def _count(self) -> int:
        """Count the trials that may run at once."""
        try:
            within(CONNECT_SECONDS + 1, lambda: self._client.wait_for_workers(1, timeout=CONNECT_SECONDS))
            self._members.refresh()
        except TimeoutError as error:
            raise WorkerError("The Dask cluster has no workers, or its scheduler does not answer.") from error
        threads = self._members.n_threads
        return min(threads, resolve_jobs(self._n_jobs, threads))

    def _listen(self) -> None:
        """Put the messages of tasks into the inbox, then the results; the one thread that waits for the scheduler."""
        counted = seen = time.monotonic()
        while not self._closing.is_set():
            ended: list[Any] = []
            with contextlib.suppress(queue.Empty):
                ended.append(self._ended.get(timeout=POLL_SECONDS))
            try:
                if time.monotonic() - counted > COUNT_SECONDS:
                    self._members.refresh()
                    counted, threads = time.monotonic(), self._members.n_threads
                    seen = counted if threads else seen
                    self.n_workers = min(threads, resolve_jobs(self._n_jobs, max(1, threads)))
                    if counted - seen > EMPTY_SECONDS:
                        raise WorkerError("The Dask cluster has no workers any more.")
                for message in self._get_messages():  # a task sends all its messages before it ends
                    self._inbox.put(message)
            except TimeoutError:
                for future in ended:  # the scheduler is frozen for now
                    self._ended.put(future)
                continue
            except CLUSTER_ERRORS as error:
                if not self._closing.is_set():
                    self._inbox.put(WorkerError(str(error) or _GONE))
                return
            for future in ended:
                self._inbox.put((future, _result(future)))


def _result(future: Any) -> TaskMessage | None:
    """Return the result of a task; None if it is lost."""
    if future.status == "finished":
        with contextlib.suppress(*CLUSTER_ERRORS):  # a Dask worker that has just died
            result: TaskMessage = future.result(timeout=FETCH_SECONDS)
            return result
    return None
