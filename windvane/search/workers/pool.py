"""Worker processes of this machine, with limits enforced from outside.

Each worker is a separate program in a separate session, so that Ctrl-C reaches the fit alone. Idle workers stay for
a minute, so that the next fit starts warm. A thread of the pool looks at its workers every 100 ms: one that is past its
deadline, or the largest if all together are above the memory limit, is killed and replaced; its checkpoint stays.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

import psutil

from windvane.errors import InputError, WorkerError
from windvane.search.run.checkpoint import read_checkpoint
from windvane.search.run.run_directory import RunDirectory
from windvane.search.trial import Trial
from windvane.search.workers import messages
from windvane.search.workers.messages import RunContext
from windvane.search.workers.orphan_reaper import OrphanReaper, kill_group
from windvane.settings import MEGABYTE, available_cores

IDLE_SECONDS = 60.0
WATCH_SECONDS = 0.1
START_SECONDS = 60.0  # a process that is not ready by then never will be
MAX_IDLE_DEATHS = 3  # of workers in a row that trained nothing
LOG_LINES = 12  # of a worker that died, in messages
WORKER_MEGABYTES = 200.0  # that a worker needs before it trains anything

# Not by `-m`: the process must find the packages that this process found, wherever they are.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from windvane.search.workers.worker import main; main()"
)
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

Inbox = queue.SimpleQueue["tuple[WorkerProcess, dict[str, Any] | None]"]


@dataclass(frozen=True)
class Event:
    """What happened in a pool."""

    kind: Literal["worker_ready", "checkpoint", "finished", "worker_error"]
    trial: Trial | None = None  # as it is now
    error: str = ""  # of "worker_error": the session's own objects do not load in a worker


class WorkerProcess:
    """One worker process and the thread that listens to it."""

    def __init__(self) -> None:
        environment = {**os.environ, **dict.fromkeys(_THREADS, "1"), "PYTHONWARNINGS": "ignore"}
        self._last_lines: list[str] = []
        self._errors = _scratch_file()  # what it prints before it opens a run; afterwards that goes to the run's log
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, json.dumps([path or os.getcwd() for path in sys.path])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL if self._errors is None else self._errors,
                env=environment,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same on Windows
            )
        except OSError as error:
            raise WorkerError(
                f"A worker process could not be started: {error}. Allow more processes or fewer workers (n_jobs)."
            ) from error
        orphan_reaper.add(self.process.pid)
        self._inbox: Inbox = queue.SimpleQueue()
        self._inbox_lock = threading.Lock()
        self.ready = False
        self.trial: Trial | None = None
        self.deadline = float("inf")  # `time.monotonic` instant at which it is killed
        self.killed: Literal["timeout", "out_of_memory"] | None = None
        self.send({"do": "preload"})
        threading.Thread(target=self._listen, daemon=True, name="windvane-listen").start()

    def send(self, message: dict[str, Any]) -> None:
        """Send it a message; the listener notices a process that is gone."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            messages.send(self.process.stdin, message)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        message: dict[str, Any] | None = {}
        while message is not None:
            try:
                message = messages.receive(self.process.stdout)
            except (OSError, ValueError):
                message = None
            if message is not None and message.get("event") == "worker_ready":
                self.ready = True  # now: preparing the data may take longer than a start may
            with self._inbox_lock:
                self._inbox.put((self, message))

    def report_to(self, inbox: Inbox) -> None:
        """Put its messages into a queue, beginning with those that nobody read yet; None: it is gone."""
        with self._inbox_lock:
            with contextlib.suppress(queue.Empty):
                while True:
                    inbox.put(self._inbox.get_nowait())
            self._inbox = inbox

    def resident_memory(self) -> float:
        """Return the memory that it occupies, shared memory included, in megabytes."""
        try:
            return float(psutil.Process(self.process.pid).memory_info().rss) / MEGABYTE
        except psutil.Error:
            return 0.0

    def unique_memory(self) -> float:
        """Return the memory that would be freed if it ended, in megabytes; a hundred times slower."""
        try:
            return float(psutil.Process(self.process.pid).memory_full_info().uss) / MEGABYTE
        except psutil.AccessDenied:
            return self.resident_memory()
        except psutil.Error:
            return 0.0

    def describe_death(self, log: Path | None) -> str:
        """Return exit code or signal, the last lines that it printed, and what to do."""
        lines = self._last_lines
        if not lines and log is not None:
            with contextlib.suppress(OSError):
                lines = _last_lines(log.read_bytes()[-20_000:])
        shown = "".join(f"\n  | {line}" for line in lines) or " It printed nothing."
        code = self.process.returncode
        ended = "it closed its pipes but did not end" if code is None else describe_exit(code)
        return f"{ended}.{shown}"

    def kill(self) -> None:
        """End it and what it started, at once."""
        if self.process.poll() is None:
            kill_group(self.process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        orphan_reaper.remove(self.process.pid)
        if self._errors is not None and not self._errors.closed:
            self._errors.seek(0)
            self._last_lines = _last_lines(self._errors.read())
        for pipe in (self.process.stdin, self.process.stdout, self._errors):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _last_lines(output: bytes) -> list[str]:
    lines = output.decode(errors="replace").splitlines()
    return [line[:300] for line in lines if line.strip()][-LOG_LINES:]


def _scratch_file() -> IO[bytes] | None:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # no place for temporary files
        return None


def describe_exit(code: int) -> str:
    """Return how a process ended, and what a user can do."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    advice = {
        "SIGKILL": "the system kills so when memory runs out: lower n_jobs or memory_limit, or free memory",
        "SIGSEGV": "a library failed in native code: leave its family out with families=[...]",
        "SIGILL": "a library was built for another processor: install it again for this one",
        "SIGXCPU": "a limit on CPU seconds was reached: raise it with ulimit -t",
    }
    advice["SIGBUS"] = advice["SIGABRT"] = advice["SIGFPE"] = advice["SIGSEGV"]
    return f"exit code {code}, signal {name}" + (f"; {advice[name]}" if name in advice else "")


def affordable_workers(n_jobs: int, memory_limit: float) -> int:
    """Return how many workers fit into a limit of megabytes; raises InputError if not even one does."""
    if memory_limit < WORKER_MEGABYTES:
        raise InputError(
            f"memory_limit={memory_limit:.0f} is too small: one worker process needs {WORKER_MEGABYTES:.0f} MB before "
            f"it trains anything. Allowed: at least {WORKER_MEGABYTES:.0f}, better 1000 and more."
        )
    return min(n_jobs, int(memory_limit / WORKER_MEGABYTES))


class WorkerCache:
    """Idle workers of this process between two fits, for a minute at most; a fork starts with none."""

    def __init__(self) -> None:
        self.workers: list[tuple[float, WorkerProcess]] = []  # since when idle
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._thread: threading.Thread | None = None

    def take(self, count: int) -> list[WorkerProcess]:
        """Return idle workers, as many as there are up to a number."""
        with self._lock:
            if self._owner != os.getpid():  # a fork: the workers belong to the parent
                self.workers, self._owner = [], os.getpid()
            dead = [worker for _, worker in self.workers if worker.process.poll() is not None]
            alive = [(since, worker) for since, worker in self.workers if worker not in dead]
            taken, self.workers = alive[:count], alive[count:]
        for worker in dead:
            worker.kill()  # closes its pipes
        return [worker for _, worker in taken]

    def put(self, worker: WorkerProcess) -> None:
        """Keep an idle worker; it ends if nobody takes it for a minute."""
        worker.report_to(queue.SimpleQueue())
        with self._lock:
            self.workers.append((time.monotonic(), worker))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._expire, daemon=True, name="windvane-idle")
                self._thread.start()

    def clear(self, older_than: float = 0.0) -> None:
        """End the workers that have been idle for longer than some seconds."""
        with self._lock:
            if self._owner != os.getpid():
                return
            now = time.monotonic()
            old = [worker for since, worker in self.workers if now - since >= older_than]
            self.workers = [(since, worker) for since, worker in self.workers if worker not in old]
        for worker in old:
            worker.kill()

    def _expire(self) -> None:
        while self.workers:
            time.sleep(5)
            self.clear(older_than=IDLE_SECONDS)


orphan_reaper = OrphanReaper()
worker_cache = WorkerCache()


@atexit.register
def shut_down() -> None:
    """End the idle workers and the orphan reaper when this process exits; a fork has none."""
    worker_cache.clear()
    orphan_reaper.close()


class WorkerPool:
    """The workers of one fit on this machine."""

    closing_seconds = 0.0  # that `close` may take: processes are killed at once

    def __init__(self, n_workers: int, memory_limit: float) -> None:
        self.n_workers = n_workers  # trials that may run at once
        self.memory_limit = memory_limit  # megabytes for all workers together
        self._context: RunContext | None = None
        self._inbox: Inbox = queue.SimpleQueue()
        self._idle_deaths = 0
        self._startable = available_cores()  # workers that may be starting at once; more would only slow each other
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self.workers: list[WorkerProcess] = []
        for worker in worker_cache.take(n_workers):
            self._adopt(worker)
        try:
            self._start_workers()
        except BaseException:
            self.close()
            raise
        threading.Thread(target=self._enforce_limits, daemon=True, name="windvane-limits").start()

    def open(self, context: RunContext) -> None:
        """Let every worker read the run; returns at once."""
        self._context = context
        for worker in self.workers:
            worker.send(messages.open_message(context, self.memory_limit))

    @property
    def idle_workers(self) -> list[WorkerProcess]:
        """Workers that have started and train nothing."""
        return [worker for worker in self.workers if worker.ready and worker.trial is None]

    @property
    def has_idle_worker(self) -> bool:
        return bool(self.idle_workers)

    @property
    def running(self) -> list[Trial]:
        """Trials that were submitted and have not ended."""
        return [worker.trial for worker in self.workers if worker.trial is not None]

    def submit(self, trial: Trial, seconds: float, grace: float) -> None:
        """Train a trial for some seconds (infinity: no clock) on an idle worker; it is killed `grace` seconds later."""
        worker = self.idle_workers[0]
        with self._lock:
            worker.trial, worker.killed = trial, None
            worker.deadline = time.monotonic() + seconds + grace
        worker.send(messages.train_message(trial, seconds))

    def next_event(self, seconds: float) -> Event | None:
        """Return the next event; None if nothing happens for some seconds."""
        end = time.monotonic() + seconds
        while True:
            try:
                worker, message = self._inbox.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                return None
            if worker not in self.workers:
                continue  # the last messages of one that was replaced
            event = self._on_death(worker) if message is None else self._on_message(worker, message)
            if event is not None:
                return event

    def close(self, keep: bool = True) -> None:
        """Kill the workers that train; with `keep`, idle ones stay for the next fit."""
        self._closing.set()
        with self._lock:
            for worker in self.workers:
                if worker.trial is not None or not worker.ready:
                    kill_group(worker.process.pid)  # all at once, before the first is waited for
            for worker in self.workers:
                if keep and worker.trial is None and worker.ready and worker.process.poll() is None:
                    worker.send({"do": "close"})
                    worker_cache.put(worker)
                else:
                    worker.kill()
            self.workers = []

    def _start_workers(self) -> None:
        """Start the workers that are missing, as many at once as there are cores."""
        while len(self.workers) < self.n_workers and sum(not w.ready for w in self.workers) < self._startable:
            self._adopt(WorkerProcess())

    def _adopt(self, worker: WorkerProcess) -> None:
        with self._lock:
            self.workers.append(worker)
            if not worker.ready:
                worker.deadline = time.monotonic() + START_SECONDS
        worker.report_to(self._inbox)
        if self._context is not None:
            worker.send(messages.open_message(self._context, self.memory_limit))

    def _on_message(self, worker: WorkerProcess, message: dict[str, Any]) -> Event | None:
        kind = message.get("event")
        if kind == "worker_ready":
            worker.deadline = float("inf")
            self._start_workers()
            return Event("worker_ready")
        if kind == "worker_error":
            # The run that the worker opened before may be gone by the time it reads the message.
            ours = self._context is not None and message["root"] == str(self._context.root)
            return Event("worker_error", error=str(message["error"])) if ours else None
        if kind in ("checkpoint", "finished"):
            trial = Trial.from_json(message["trial"])
            if worker.trial is None or trial.number != worker.trial.number:
                return None
            self._idle_deaths = 0
            if kind == "checkpoint":
                return Event("checkpoint", trial)
            with self._lock:
                worker.trial, worker.deadline = None, float("inf")
            return Event("finished", trial)
        return None

    def _on_death(self, worker: WorkerProcess) -> Event | None:
        """Replace a worker that died or was killed; the last checkpoint of its trial counts."""
        worker.kill()
        death = worker.describe_death(None if self._context is None else RunDirectory(self._context.root).log)
        if worker.killed == "timeout" and not worker.ready:
            death = f"it was not ready after {START_SECONDS:.0f} seconds and was killed."
        elif worker.killed == "out_of_memory":
            death = (
                f"all workers together were above the memory limit of {self.memory_limit:.0f} MB: raise memory_limit, "
                "or lower n_jobs."
            )
        self._idle_deaths = self._idle_deaths + 1 if worker.trial is None else 0
        if self._idle_deaths > MAX_IDLE_DEATHS:
            raise WorkerError(
                f"{self._idle_deaths} worker processes in a row ended before they trained anything. The last one: "
                f"{death}"
            )
        with self._lock:
            self.workers.remove(worker)
        self._start_workers()
        if worker.trial is None:
            return None
        status = worker.killed or "crashed"
        error = {
            "timeout": "killed: it did not stop at its time limit",
            "out_of_memory": f"killed: all workers together were above the memory limit of {self.memory_limit:.0f} MB",
            "crashed": f"the worker process died: {death}",
        }[status]
        trial = worker.trial.without_results()
        if self._context is not None:  # a checkpoint on disk may be newer than the last message
            trial = read_checkpoint(RunDirectory(self._context.root).trial(trial.number)) or trial
        return Event("finished", replace(trial, status=status, error=error))

    def _enforce_limits(self) -> None:
        while not self._closing.wait(WATCH_SECONDS):
            with self._lock:
                now = time.monotonic()
                for worker in self.workers:
                    waits = worker.ready and worker.trial is None
                    if now > worker.deadline and worker.killed is None and not waits:
                        worker.killed = "timeout"
                        kill_group(worker.process.pid)
                living = [worker for worker in self.workers if worker.killed is None]
                if sum(worker.resident_memory() for worker in living) <= self.memory_limit:
                    continue  # unique memory is less still, and slow to measure
                used = [(worker.unique_memory(), worker) for worker in living]
                if sum(megabytes for megabytes, _ in used) > self.memory_limit:
                    largest = max(used, key=lambda pair: pair[0])[1]
                    largest.killed = "out_of_memory"
                    kill_group(largest.process.pid)
