"""Programs between two fits."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from windvane.search import channel, programs
from windvane.search.programs import Idle, Worker


def heard(inbox: programs.Inbox, seconds: float = 60.0) -> dict[str, object] | None:
    return inbox.get(timeout=seconds)[1]


def test_a_program_says_that_it_is_ready_and_serves_whoever_asks_last() -> None:
    worker = Worker()
    try:
        first: programs.Inbox = queue.SimpleQueue()
        worker.report_to(first)
        assert heard(first) == {"event": "ready"}
        second: programs.Inbox = queue.SimpleQueue()
        worker.report_to(second)
        worker.send({"do": "open", "root": "nowhere", "log": os.devnull, "memory": 4e3, "session": channel.pack({})})
        message = heard(second)
        assert message is not None
        assert message["event"] == "unfit"
        assert first.empty()
    finally:
        worker.kill()
    assert not psutil.pid_exists(worker.process.pid)


def test_the_memory_that_would_come_free_is_measured() -> None:
    worker = Worker()
    try:
        inbox: programs.Inbox = queue.SimpleQueue()
        worker.report_to(inbox)
        heard(inbox)
        assert 20 < worker.memory() <= worker.resident() < 1000  # megabytes of Python and its libraries
    finally:
        worker.kill()
    assert worker.memory() == worker.resident() == 0.0


def test_idle_programs_are_taken_again_until_their_time_is_over() -> None:
    Idle.clear()
    worker = Worker()
    Idle.give(worker)
    Idle.clear(older_than=60)
    (again,) = Idle.take(1)
    assert again is worker
    Idle.give(worker)
    Idle.clear(older_than=0.0)
    assert not psutil.pid_exists(worker.process.pid)


def test_one_that_died_while_it_waited_is_not_given_out() -> None:
    Idle.clear()
    worker = Worker()
    Idle.give(worker)
    psutil.Process(worker.process.pid).kill()
    worker.process.wait(10)
    (fresh,) = Idle.take(1)
    assert fresh is not worker
    fresh.kill()


@pytest.mark.skipif(os.name != "posix", reason="a fork")
def test_a_fork_leaves_the_programs_of_its_parent_alone() -> None:
    script = textwrap.dedent("""
        import os, sys
        from windvane.search.programs import Idle, Worker
        worker = Worker()
        Idle.give(worker)
        pid = os.fork()
        if pid == 0:
            Idle.clear()
            os._exit(0)
        os.waitpid(pid, 0)
        print("ALIVE" if worker.process.poll() is None else "DEAD", worker.process.pid, flush=True)
    """)
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, timeout=60)
    word, pid = done.stdout.split()
    assert word == "ALIVE"
    end = time.monotonic() + 5
    while psutil.pid_exists(int(pid)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(pid))  # the parent's exit ended it
