"""Kills the worker processes when the process that started them dies, however it dies.

`OrphanReaper` starts this file as a tiny program by its path, with the standard library alone. The program reads lines
``+PID`` and ``-PID``; when its input ends, or its parent is gone (killed by a signal that nothing can catch), it kills
the processes on its list. A worker that never returns to Python, stuck in native code, is ended all the same.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading


def kill_group(pid: int) -> None:
    """Kill a worker and, on POSIX where it leads a process group, all that it started."""
    with contextlib.suppress(OSError):  # gone already
        if os.name == "posix":
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)  # TerminateProcess there


class OrphanReaper:
    """The reaper program of this process; a fork starts its own."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = -1
        self._lock = threading.Lock()

    def add(self, pid: int) -> None:
        """Have a worker killed when this process dies; starts the program if it is not running."""
        with self._lock:
            if not self._is_running():
                self._process = subprocess.Popen(
                    [sys.executable, "-S", "-E", __file__, str(os.getpid())],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
                self._owner = os.getpid()
            self._write(f"+{pid}")

    def remove(self, pid: int) -> None:
        """Forget a worker that has ended."""
        with self._lock:
            if self._is_running():
                self._write(f"-{pid}")

    def close(self) -> None:
        """End the program; the one of the parent of a fork stays."""
        with self._lock:
            if self._owner == os.getpid() and self._process is not None and self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(2)

    def _is_running(self) -> bool:
        return self._process is not None and self._owner == os.getpid() and self._process.poll() is None

    def _write(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()


def watch(parent: int) -> None:
    """Follow the list until the input ends or the parent is gone, then kill the processes on it."""
    workers: set[int] = set()
    buffer = b""
    while os.name != "posix" or os.getppid() == parent:
        if os.name == "posix" and not select.select([0], [], [], 0.5)[0]:
            continue
        data = os.read(0, 65536)
        if not data:
            break
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            (workers.add if line.startswith(b"+") else workers.discard)(int(line[1:]))
    for pid in workers:
        kill_group(pid)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
