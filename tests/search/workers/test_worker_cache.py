"""Worker processes between two fits."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from windvane.search.workers import pool
from windvane.search.workers.messages import pack_objects
from windvane.search.workers.pool import WorkerProcess, worker_cache


def heard(inbox: pool.Inbox, seconds: float = 60.0) -> dict[str, object] | None:
    return inbox.get(timeout=seconds)[1]


def test_a_worker_reports_that_it_is_ready_and_serves_the_last_pool() -> None:
    worker = WorkerProcess()
    try:
        first: pool.Inbox = queue.SimpleQueue()
        worker.report_to(first)
        assert heard(first) == {"event": "worker_ready"}
        second: pool.Inbox = queue.SimpleQueue()
        worker.report_to(second)
        worker.send({"do": "open", "root": "nowhere", "memory": 4e3, "objects": pack_objects({})})
        message = heard(second)
        assert message is not None
        assert message["event"] == "worker_error"
        assert first.empty()
    finally:
        worker.kill()
    assert not psutil.pid_exists(worker.process.pid)


def test_the_memory_that_would_be_freed_is_measured() -> None:
    worker = WorkerProcess()
    try:
        inbox: pool.Inbox = queue.SimpleQueue()
        worker.report_to(inbox)
        heard(inbox)
        assert 20 < worker.unique_memory() <= worker.resident_memory() < 1000  # megabytes of Python and its libraries
    finally:
        worker.kill()
    assert worker.unique_memory() == worker.resident_memory() == 0.0


def test_idle_workers_are_taken_again_until_their_time_is_over() -> None:
    worker_cache.clear()
    worker = WorkerProcess()
    worker_cache.put(worker)
    worker_cache.clear(older_than=60)
    (again,) = worker_cache.take(1)
    assert again is worker
    worker_cache.put(worker)
    worker_cache.clear(older_than=0.0)
    assert not psutil.pid_exists(worker.process.pid)


def test_one_that_died_while_it_waited_is_not_taken() -> None:
    worker_cache.clear()
    worker = WorkerProcess()
    worker_cache.put(worker)
    psutil.Process(worker.process.pid).kill()
    worker.process.wait(10)
    assert worker_cache.take(1) == []


@pytest.mark.skipif(os.name != "posix", reason="a fork")
def test_a_fork_leaves_the_workers_of_its_parent_alone() -> None:
    script = textwrap.dedent("""
        import os, sys
        from windvane.search.workers.pool import WorkerProcess, worker_cache
        worker = WorkerProcess()
        worker_cache.put(worker)
        pid = os.fork()
        if pid == 0:
            worker_cache.clear()
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
