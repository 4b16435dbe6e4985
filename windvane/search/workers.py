"""A pool of worker programs with limits enforced from outside.

A `Pool` holds one fit's workers. A thread of it looks at them every 100 ms: one that is past its time, or the
largest when all together are above the memory limit, is killed and replaced; what its trial had kept stays.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from windvane.errors import WorkerError
from windvane.search import keeper
from windvane.search.evaluate import kept_trial
from windvane.search.programs import Idle, Inbox, Worker
from windvane.search.run import RunDirectory
from windvane.search.trial import Job, Trial
from windvane.search.worker import job_message

WATCH_SECONDS = 0.1
START_SECONDS = 60.0  # a program that is not ready by then never will be
MOST_FAILED_STARTS = 3  # in a row


@dataclass(frozen=True)
class Event:
    """What a worker said, or that it is gone.

    Attributes
    ----------
    kind
        "ready": a program has started; "step": a step was kept; "done": the job ended; "unfit": the session's own
        objects do not load in a worker.
    trial
        What came of the job so far.
    error
        For "unfit", the worker's words.
    """

    kind: Literal["ready", "step", "done", "unfit"]
    trial: Trial | None = None
    error: str = ""


class Workers(Protocol):
    """Who evaluates the trials of one fit: `Pool` on this machine, `windvane.search.cluster.ClusterPool` on many.

    Attributes
    ----------
    n_workers
        How many trials may run at once.
    """

    n_workers: int

    def open(self, session: Session) -> None:
        """Take note of the run."""

    @property
    def idle(self) -> Sequence[object]:
        """One entry for each trial that may begin."""

    @property
    def running(self) -> list[Job]:
        """Jobs in the works."""

    def submit(self, job: Job, seconds: float, grace: float) -> None:
        """Begin a trial; see `Pool.submit`."""

    def wait(self, seconds: float) -> Event | None:
        """Wait for the next event."""

    def close(self, keep: bool = True) -> None:
        """End what still runs, and let go of the workers."""


@dataclass
class Session:
    """What a pool's workers are opened for."""

    root: Path
    log: Path
    memory: float
    objects: str = field(repr=False)

    def message(self) -> dict[str, Any]:
        """Make the message that opens a worker."""
        return {
            "do": "open",
            "root": str(self.root),
            "log": str(self.log),
            "memory": self.memory,
            "session": self.objects,
        }


class Pool:
    """The workers of one fit.

    Parameters
    ----------
    n_workers
        How many run at once.
    memory_limit
        Megabytes for all of them together.
    """

    def __init__(self, n_workers: int, memory_limit: float) -> None:
        self.n_workers, self.memory_limit = n_workers, memory_limit
        self._session: Session | None = None
        self._inbox: Inbox = queue.SimpleQueue()
        self._failed_starts = 0
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self.workers = [self._adopt(worker) for worker in Idle.take(n_workers)]
        threading.Thread(target=self._watch, daemon=True, name="windvane-watch").start()

    def open(self, session: Session) -> None:
        """Let every worker read the run; returns at once.

        Parameters
        ----------
        session
            The run and what the user's session lends.
        """
        self._session = session
        for worker in self.workers:
            worker.send(session.message())

    @property
    def idle(self) -> list[Worker]:
        """Workers that have started and have no job."""
        return [worker for worker in self.workers if worker.ready and worker.job is None]

    @property
    def running(self) -> list[Job]:
        """Jobs in the works."""
        return [worker.job for worker in self.workers if worker.job is not None]

    def submit(self, job: Job, seconds: float, grace: float) -> None:
        """Give a job to an idle worker.

        Parameters
        ----------
        job
            What to evaluate.
        seconds
            How long it may grow; infinity for no clock.
        grace
            Seconds after which it is killed beyond that.
        """
        worker = self.idle[0]
        with self._lock:
            worker.job, worker.killed = job, None
            worker.deadline = time.monotonic() + seconds + grace
        worker.send(job_message(job, seconds))

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
        """
        end = time.monotonic() + seconds
        while True:
            try:
                worker, message = self._inbox.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return None
            if worker not in self.workers:
                continue  # the last words of one that was replaced
            event = self._gone(worker) if message is None else self._heard(worker, message)
            if event is not None:
                return event

    def close(self, keep: bool = True) -> None:
        """End the fit's use of the workers; those at work are killed, idle ones stay for the next fit.

        Parameters
        ----------
        keep
            Whether idle ones may stay.
        """
        self._closing.set()
        with self._lock:
            for worker in self.workers:
                if keep and worker.job is None and worker.ready and worker.process.poll() is None:
                    worker.send({"do": "close"})
                    Idle.give(worker)
                else:
                    worker.kill()
            self.workers = []

    def _adopt(self, worker: Worker) -> Worker:
        worker.report_to(self._inbox)
        if not worker.ready:
            worker.deadline = time.monotonic() + START_SECONDS
        return worker

    def _heard(self, worker: Worker, message: dict[str, Any]) -> Event | None:
        kind = message.get("event")
        if kind == "ready":
            worker.ready, worker.deadline = True, float("inf")
            return Event("ready")
        elif kind == "unfit":
            # What the worker was opened for before may be gone by the time that it comes round to it.
            ours = self._session is not None and message["root"] == str(self._session.root)
            return Event("unfit", error=str(message["error"])) if ours else None
        elif kind in ("step", "done"):
            trial = Trial.from_json(message["trial"])
            if worker.job is None or trial.number != worker.job.number:
                return None
            if kind == "step":
                return Event("step", trial)
            with self._lock:
                worker.job, worker.deadline = None, float("inf")
            return Event("done", trial)
        return None

    def _gone(self, worker: Worker) -> Event | None:
        """Replace a worker that died or was killed; what its job kept is not lost."""
        worker.kill()
        self._failed_starts = 0 if worker.ready else self._failed_starts + 1
        if self._failed_starts > MOST_FAILED_STARTS:
            raise WorkerError("Worker programs end before they are ready; their Python may lack windvane's libraries.")
        with self._lock:
            self.workers[self.workers.index(worker)] = fresh = self._adopt(Worker())
        if self._session is not None:
            fresh.send(self._session.message())
        if worker.job is None:
            return None
        status = worker.killed or "crashed"
        words = {
            "timeout": "killed: it did not stop at its time limit",
            "memory": f"killed: all workers together were above the memory limit of {self.memory_limit:.0f} MB",
            "crashed": f"the worker program died (exit code {worker.process.returncode})",
        }
        trial = Trial.of(worker.job, status)
        if self._session is not None:  # what lies on disk counts, whatever was heard of it
            trial = kept_trial(RunDirectory(self._session.root).trial(worker.job.number)) or trial
        return Event("done", replace(trial, status=status, error=words[status]))

    def _watch(self) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            with self._lock:
                now = time.monotonic()
                for worker in self.workers:
                    if now > worker.deadline and worker.killed is None:
                        worker.killed = "timeout"
                        keeper.end(worker.process.pid)
                living = [worker for worker in self.workers if worker.killed is None]
                if sum(worker.resident() for worker in living) <= self.memory_limit:
                    continue  # what they hold alone is less still, and slow to measure
                used = [(worker.memory(), worker) for worker in living]
                if sum(megabytes for megabytes, _ in used) > self.memory_limit:
                    largest = max(used, key=lambda pair: pair[0])[1]
                    largest.killed = "memory"
                    keeper.end(largest.process.pid)
