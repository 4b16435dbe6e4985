"""A trial on a Dask worker: its task supervises a worker program on that machine.

The task runs the same pool as a fit on one machine does, with one program, so the same code holds time and memory
there, and the same keeper ends the program when the Dask worker dies. What is kept is told through a distributed
queue, with the files of the step where the run directory is not seen from that machine.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tarfile
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from windvane.search.evaluate import latest_step
from windvane.search.run import RunDirectory
from windvane.search.trial import Job
from windvane.search.workers import Event, Pool, Session
from windvane.settings import MEGABYTE, available_memory
from windvane.version import VERSION

POLL_SECONDS = 0.1  # between looks at whether anybody still waits for the trial


class Data:
    """The data of a run for machines that do not see its directory; unpacked once in each Dask worker.

    The folder goes with the object, and the object goes from a Dask worker when the fit lets go of it.
    """

    def __init__(self, archive: bytes) -> None:
        self.archive = archive
        self._lock = threading.Lock()
        self._root: Path | None = None

    def __getstate__(self) -> bytes:
        return self.archive

    def __setstate__(self, archive: bytes) -> None:
        Data.__init__(self, archive)

    def root(self, inside: str) -> Path:
        """Give a folder on this machine that holds them as ``data``."""
        with self._lock:
            if self._root is None:
                root = Path(tempfile.mkdtemp(prefix="windvane-", dir=inside))
                weakref.finalize(self, shutil.rmtree, root, ignore_errors=True)
                unpack(self.archive, root / "data")
                self._root = root
            return self._root


@dataclass(frozen=True)
class Order:
    """One trial as a task.

    Attributes
    ----------
    session
        The run, with the folders of the fit's machine.
    job, seconds, grace
        As for `Pool.submit`.
    memory
        Megabytes for the program; None for its part of what the machine has.
    events
        Name of the queue.
    """

    session: Session
    job: Job
    seconds: float
    grace: float
    memory: float | None
    events: str


def pack(folder: Path) -> bytes:
    """Make an archive of a folder.

    Parameters
    ----------
    folder
        What to pack.

    Returns
    -------
    bytes
        For `unpack`.
    """
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(folder, arcname=".")
    return archive.getvalue()


def unpack(archive: bytes, folder: Path) -> None:
    """Unpack an archive; nothing in it can come to lie outside the folder.

    Parameters
    ----------
    archive
        From `pack`.
    folder
        Made where it is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")


def greet(witness: str) -> tuple[str, bool]:
    """Tell windvane's version on a Dask worker, and whether it sees a file of the run directory."""
    return VERSION, Path(witness).exists()


def supervise(order: Order, data: Data | None, kept: tuple[str, bytes] | None) -> dict[str, Any]:
    """Run one trial in a worker program of this machine; the task of a Dask worker.

    Parameters
    ----------
    order
        The trial.
    data
        The data of the run; None where its directory is seen from here.
    kept
        Name and files of the step to go on from; None where there is none, or it is seen from here.

    Returns
    -------
    dict
        With ``trial`` and its ``files``, or ``unfit``; with neither where nobody waits for it any more.
    """
    from distributed import Queue, get_client, get_worker

    worker = get_worker()
    key, events = worker.get_current_task(), Queue(order.events, client=get_client())
    attempt = {"key": key, "attempt": uuid.uuid4().hex}
    events.put(attempt)
    with _session_here(order, data, kept, worker) as session:
        folder = RunDirectory(session.root).trial(order.job.number)
        sent = None if kept is None else kept[0]
        pool = Pool(1, session.memory)
        try:
            pool.open(session)
            for event in _events(pool, order, lambda: _is_wanted(worker, key)):
                if event.trial is None:
                    return {"unfit": event.error}
                step = event.trial.step
                files = None
                if data is not None and step is not None and step != sent:
                    files = _packed(folder, step)
                    if files is None and event.kind != "done":
                        continue  # a later step is kept already, and its event comes next
                message = {**attempt, "trial": event.trial.to_json(), "files": files}
                if event.kind == "done":
                    return message
                events.put(message)
                sent = step
        finally:
            pool.close()
    events.put({**attempt, "over": True})
    return {}


def _packed(folder: Path, step: str) -> bytes | None:
    """Pack a step of a trial's folder; None where the program, which goes on meanwhile, replaced it by a later one."""
    try:
        files = pack(folder / step)
    except FileNotFoundError:
        return None
    latest = latest_step(folder)  # the later step lies there before the earlier one is taken away
    return files if latest is not None and latest.name == step else None


def _events(pool: Pool, order: Order, is_wanted: Callable[[], bool]) -> Iterator[Event]:
    """Run the order as soon as the program has started; ends early where nobody waits for it any more."""
    submitted = False
    while is_wanted():
        if pool.idle and not submitted:
            pool.submit(order.job, order.seconds, order.grace)
            submitted = True
        event = pool.wait(POLL_SECONDS)
        if event is not None and event.kind != "ready":
            yield event


def _is_wanted(worker: Any, key: str) -> bool:
    """Whether a task was not cancelled (Dask cancels those of a client that is gone) and the scheduler is there."""
    task = worker.state.tasks.get(key)
    return task is not None and task.state == "executing" and worker.status.name in ("running", "paused")


@contextlib.contextmanager
def _session_here(order: Order, data: Data | None, kept: tuple[str, bytes] | None, worker: Any) -> Iterator[Session]:
    """Make the session of this machine; without the run directory, in a folder that goes with the task."""
    session = replace(order.session, memory=_memory(order, worker))
    if data is None:
        if not session.root.exists():  # a worker that came later, from a machine without the shared folder
            raise FileNotFoundError(f"{worker.address} does not see the run directory {session.root}")
        yield session
        return
    shared = data.root(worker.local_directory)
    with tempfile.TemporaryDirectory(dir=shared, ignore_cleanup_errors=True) as folder:
        directory = RunDirectory(Path(folder))
        directory.data.symlink_to(shared / "data", target_is_directory=True)
        directory.trials.mkdir()
        if kept is not None:
            unpack(kept[1], directory.step(order.job.number, kept[0]))
        yield replace(session, root=directory.root, log=directory.log)


def _memory(order: Order, worker: Any) -> float:
    if order.memory is not None:
        return order.memory
    free = available_memory()
    most = worker.memory_manager.memory_limit  # bytes, of all threads of this Dask worker, or None
    return 0.8 * (min(free, most / MEGABYTE) if most else free) / float(worker.state.nthreads)
