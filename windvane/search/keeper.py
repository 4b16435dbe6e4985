"""The keeper: a tiny program that outlives its parent by a moment, to end the worker programs it left behind.

It is started by path, imports nothing but the standard library, and reads lines ``+PID`` and ``-PID``. When its
input ends, or its parent is gone (killed by a signal that nothing can catch), it kills what is still on its list.
A worker that never returns to Python, stuck in native code, is ended all the same.
"""

import os
import select
import signal
import sys


def end(pid: int) -> None:
    """Kill a worker and, where the system knows process groups, all that it started.

    Parameters
    ----------
    pid
        Its process id, on POSIX also its process group.
    """
    try:
        if os.name == "posix":
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)  # TerminateProcess there
    except OSError:
        pass  # gone already


def watch(parent: int) -> None:
    """Follow the list until the input ends or the parent is gone, then kill what is on it.

    Parameters
    ----------
    parent
        Process id of the program that started the keeper.
    """
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
        end(pid)


if __name__ == "__main__":
    watch(int(sys.argv[1]))
