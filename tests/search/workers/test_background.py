"""Calls in separate threads: results, errors, and what takes too long."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from windvane.search.workers.background import in_background

PROGRAM = """
import time
from windvane.search.workers.background import in_background

def call():
    time.sleep(1)
    print("done", flush=True)

in_background(call, waits_at_exit={waits})
"""


def test_results_and_errors_come_back() -> None:
    assert in_background(lambda: 6 * 7).result(60) == 42

    def fail() -> None:
        raise KeyError("name")

    with pytest.raises(KeyError, match="name"):
        in_background(fail).result(60)


def test_what_takes_too_long_is_not_waited_for() -> None:
    release = threading.Event()
    call = in_background(release.wait)
    with pytest.raises(TimeoutError):
        call.result(-1)
    release.set()
    assert call.result(60) is True


@pytest.mark.parametrize("waits", [True, False])
def test_the_process_ends_after_the_call_or_with_it(waits: bool) -> None:
    command = [sys.executable, "-c", PROGRAM.format(waits=waits)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == ("done\n" if waits else "")
