"""Worker programs of this process: how one starts, speaks, waits between two fits, and ends.

Each is `windvane.search.worker` as a program of its own, in a session of its own, so that Ctrl-C reaches the fit
alone. Idle ones stay for a minute so that the next fit starts warm. `windvane.search.keeper` ends them when this
process dies, however it dies.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Literal

import psutil

from windvane.errors import WorkerError
from windvane.search import channel, keeper
from windvane.search.trial import Job
from windvane.settings import MEGABYTE

IDLE_SECONDS = 60.0

# Plain words instead of `-m`: the program must find the packages that this process found, wherever they lie.
_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from windvane.search.worker import main; main()"
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

Inbox = queue.SimpleQueue["tuple[Worker, dict[str, Any] | None]"]


class Worker:
    """One worker program and the thread that listens to it."""

    def __init__(self) -> None:
        environment = {**os.environ, **dict.fromkeys(_THREADS, "1"), "PYTHONWARNINGS": "ignore"}
        separate: dict[str, Any] = (
            {"creationflags": 0x200} if sys.platform == "win32" else {"start_new_session": True}
        )  # 0x200: CREATE_NEW_PROCESS_GROUP
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, json.dumps([path or os.getcwd() for path in sys.path])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                **separate,
            )
        except OSError as error:
            raise WorkerError(f"A worker program could not be started: {error}") from error
        _Keeper.tell(f"+{self.process.pid}")
        self._inbox: Inbox = queue.SimpleQueue()
        self._hand = threading.Lock()
        self.ready = False
        self.job: Job | None = None
        self.deadline = float("inf")  # `time.monotonic` instant at which it is killed
        self.killed: Literal["timeout", "memory"] | None = None
        self.send({"do": "warm"})
        threading.Thread(target=self._listen, daemon=True, name="windvane-listen").start()

    def send(self, message: dict[str, Any]) -> None:
        """Give it a message; a program that is gone is noticed by the listener."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            channel.send(self.process.stdin, message)

    def _listen(self) -> None:
        assert self.process.stdout is not None
        message: dict[str, Any] | None = {}
        while message is not None:
            try:
                message = channel.receive(self.process.stdout)
            except (OSError, ValueError):
                message = None
            with self._hand:
                self._inbox.put((self, message))

    def report_to(self, inbox: Inbox) -> None:
        """Let a queue have what it says, beginning with what nobody read yet; None says that it is gone."""
        with self._hand:
            with contextlib.suppress(queue.Empty):
                while True:
                    inbox.put(self._inbox.get_nowait())
            self._inbox = inbox

    def resident(self) -> float:
        """Measure the memory that it occupies, what it shares with others included, in megabytes."""
        try:
            return float(psutil.Process(self.process.pid).memory_info().rss) / MEGABYTE
        except psutil.Error:
            return 0.0

    def memory(self) -> float:
        """Measure the memory that would come free if it ended, in megabytes; a hundred times slower."""
        try:
            return float(psutil.Process(self.process.pid).memory_full_info().uss) / MEGABYTE
        except psutil.AccessDenied:
            return self.resident()
        except psutil.Error:
            return 0.0

    def kill(self) -> None:
        """End it and what it started, at once."""
        if self.process.poll() is None:
            keeper.end(self.process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        _Keeper.tell(f"-{self.process.pid}")
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


class Idle:
    """Workers between two fits, for a minute at the most."""

    _workers: list[tuple[float, Worker]] = []  # noqa: RUF012 - one list for the whole process is what is meant
    _lock = threading.Lock()
    _owner = os.getpid()
    _reaper: threading.Thread | None = None

    @classmethod
    def take(cls, count: int) -> list[Worker]:
        """Give idle workers out, and start as many as are missing."""
        with cls._lock:
            if cls._owner != os.getpid():  # a fork: the workers belong to the parent
                cls._workers, cls._owner = [], os.getpid()
            taken = [worker for _, worker in cls._workers if worker.process.poll() is None][:count]
            rest = [(since, worker) for since, worker in cls._workers if worker not in taken]
            cls._workers = [(since, worker) for since, worker in rest if worker.process.poll() is None]
        for _, worker in rest:
            if worker.process.poll() is not None:
                worker.kill()  # died while it waited: what is left of it is cleared away
        return taken + [Worker() for _ in range(count - len(taken))]

    @classmethod
    def give(cls, worker: Worker) -> None:
        """Keep an idle worker; it ends when nobody takes it for a minute."""
        worker.report_to(queue.SimpleQueue())
        with cls._lock:
            cls._workers.append((time.monotonic(), worker))
            if cls._reaper is None or not cls._reaper.is_alive():
                cls._reaper = threading.Thread(target=cls._reap, daemon=True, name="windvane-idle")
                cls._reaper.start()

    @classmethod
    def _reap(cls) -> None:
        while cls._workers:
            time.sleep(5)
            cls.clear(older_than=IDLE_SECONDS)

    @classmethod
    def clear(cls, older_than: float = 0.0) -> None:
        """End the idle workers that wait for longer than some seconds."""
        with cls._lock:
            if cls._owner != os.getpid():
                return
            now = time.monotonic()
            old = [worker for since, worker in cls._workers if now - since >= older_than]
            cls._workers = [(since, worker) for since, worker in cls._workers if worker not in old]
        for worker in old:
            worker.kill()


class _Keeper:
    """The keeper program of this process."""

    _process: subprocess.Popen[bytes] | None = None
    _owner = -1
    _lock = threading.Lock()

    @classmethod
    def tell(cls, line: str) -> None:
        with cls._lock:
            if cls._process is None or cls._owner != os.getpid() or cls._process.poll() is not None:
                if line.startswith("-"):
                    return
                separate: dict[str, Any] = {} if sys.platform == "win32" else {"start_new_session": True}
                cls._process = subprocess.Popen(
                    [sys.executable, "-S", "-E", str(Path(keeper.__file__)), str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    **separate,
                )
                cls._owner = os.getpid()
            assert cls._process.stdin is not None
            with contextlib.suppress(OSError):
                cls._process.stdin.write(line.encode() + b"\n")
                cls._process.stdin.flush()

    @classmethod
    def dismiss(cls) -> None:
        with cls._lock:
            if cls._process is not None and cls._owner == os.getpid() and cls._process.stdin is not None:
                with contextlib.suppress(OSError):
                    cls._process.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    cls._process.wait(2)


@atexit.register
def shut_down() -> None:
    """End the idle workers and the keeper of this process; runs at its exit."""
    Idle.clear()
    _Keeper.dismiss()
