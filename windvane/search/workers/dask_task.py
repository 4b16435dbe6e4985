"""A trial on a Dask worker: its task runs a pool of one worker process on that machine.

So the same code enforces time and memory there, and the same orphan reaper ends the process when the Dask worker dies.
Checkpoints are reported through a distributed queue, with their files if that machine does not see the run directory.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from windvane.packing import unpack_folder
from windvane.runtime.serialization import delete_with
from windvane.search.run.checkpoint import drop_earlier, pack_checkpoint
from windvane.search.run.run_directory import RunDirectory
from windvane.search.trial import Trial
from windvane.search.workers.messages import RunContext
from windvane.search.workers.pool import Event, WorkerPool
from windvane.settings import MEGABYTE, available_memory
from windvane.version import VERSION

POLL_SECONDS = 0.1  # between looks at whether the trial is still wanted


class RunData:
    """The data of a run for machines that do not see its directory; unpacked once in each Dask worker.

    The folder is deleted with the object, and a Dask worker drops the object when the fit releases it.
    """

    def __init__(self, archive: bytes) -> None:
        self.archive = archive
        self._lock = threading.Lock()
        self._root: Path | None = None

    def __getstate__(self) -> bytes:
        return self.archive

    def __setstate__(self, archive: bytes) -> None:
        RunData.__init__(self, archive)

    def root(self, parent: str) -> Path:
        """Return a folder on this machine that holds them as ``data``."""
        with self._lock:
            if self._root is None:
                root = Path(tempfile.mkdtemp(prefix="windvane-", dir=parent))
                delete_with(self, root)
                unpack_folder(self.archive, root / "data")
                self._root = root
            return self._root


@dataclass(frozen=True)
class TrialTask:
    """A trial to train in a Dask task."""

    context: RunContext  # with the folders of the fit's machine
    trial: Trial
    seconds: float  # infinity: no clock
    grace: float  # seconds after which it is killed beyond that
    memory: float | None  # megabytes for the process; None for its part of what the machine has
    queue: str  # name of the queue for messages


@dataclass(frozen=True)
class TaskMessage:
    """What a task reports: through the queue, or as its result."""

    key: str  # of the task
    attempt: str  # differs when Dask starts the task again on another worker
    kind: Literal["started", "checkpoint", "finished", "worker_error", "cancelled"]
    trial: dict[str, Any] | None = None
    files: bytes | None = None  # of the trial's checkpoint
    error: str = ""


def check_worker(witness: str) -> tuple[str, bool]:
    """Return windvane's version on a Dask worker, and whether it sees a file of the run directory."""
    return VERSION, Path(witness).exists()


def run_trial_task(task: TrialTask, data: RunData | None, checkpoint: tuple[str, bytes] | None) -> TaskMessage:
    """Train one trial in a worker process of this machine; the task of a Dask worker.

    `data` is None if the run directory is seen from here. `checkpoint` holds name and files of the one to resume; None
    without one, or if it is seen from here.
    """
    from distributed import Queue, get_client, get_worker

    worker = get_worker()
    key, messages = worker.get_current_task(), Queue(task.queue, client=get_client())
    started = TaskMessage(key, uuid.uuid4().hex, "started")
    messages.put(asdict(started))
    with _local_context(task, data, checkpoint, worker) as context:
        folder = RunDirectory(context.root).trial(task.trial.number)
        sent = None if checkpoint is None else checkpoint[0]
        pool = WorkerPool(1, _memory(task, worker))
        try:
            pool.open(context)
            for event in _events(pool, task, lambda: _is_wanted(worker, key)):
                if event.trial is None:
                    return replace(started, kind="worker_error", error=event.error)
                name, files = event.trial.checkpoint, None
                if data is not None and name is not None and name != sent:
                    files = pack_checkpoint(folder, name)
                    if files is None and event.kind != "finished":
                        continue  # a later checkpoint is written already, and its event comes next
                kind: Literal["finished", "checkpoint"] = "finished" if event.kind == "finished" else "checkpoint"
                message = replace(started, kind=kind, trial=event.trial.to_json(), files=files)
                if kind == "finished":
                    return message
                messages.put(asdict(message))
                sent = name
                if files is not None and name is not None:  # the fit has it
                    drop_earlier(folder, name)
        finally:
            pool.close()
    cancelled = replace(started, kind="cancelled")
    messages.put(asdict(cancelled))
    return cancelled


def _events(pool: WorkerPool, task: TrialTask, is_wanted: Callable[[], bool]) -> Iterator[Event]:
    """Train the trial as soon as the process has started; ends early if nobody waits for it any more."""
    submitted = False
    while is_wanted():
        if pool.has_idle_worker and not submitted:
            pool.submit(task.trial, task.seconds, task.grace)
            submitted = True
        event = pool.next_event(POLL_SECONDS)
        if event is not None and event.kind != "worker_ready":
            yield event


def _is_wanted(worker: Any, key: str) -> bool:
    """Whether a task was not cancelled (Dask cancels those of a client that is gone) and the scheduler is there."""
    state = worker.state.tasks.get(key)
    return state is not None and state.state == "executing" and worker.status.name in ("running", "paused")


@contextlib.contextmanager
def _local_context(
    task: TrialTask, data: RunData | None, checkpoint: tuple[str, bytes] | None, worker: Any
) -> Iterator[RunContext]:
    """Return the context for this machine; without the run directory, in a folder that is deleted with the task."""
    if data is None:
        if not task.context.root.exists():  # a worker that came later, from a machine without the shared folder
            raise FileNotFoundError(f"{worker.address} does not see the run directory {task.context.root}")
        yield task.context
        return
    shared = data.root(worker.local_directory)
    with tempfile.TemporaryDirectory(dir=shared, ignore_cleanup_errors=True) as folder:
        directory = RunDirectory(Path(folder))
        directory.data.symlink_to(shared / "data", target_is_directory=True)
        directory.trials.mkdir()
        if checkpoint is not None:
            unpack_folder(checkpoint[1], directory.checkpoint(task.trial.number, checkpoint[0]))
        yield replace(task.context, root=directory.root)


def _memory(task: TrialTask, worker: Any) -> float:
    if task.memory is not None:
        return task.memory
    free = available_memory()
    most = worker.memory_manager.memory_limit  # bytes, of all threads of this Dask worker, or None
    return 0.8 * (min(free, most / MEGABYTE) if most else free) / float(worker.state.nthreads)
