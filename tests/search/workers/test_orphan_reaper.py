"""No orphan after any ending of the process that started the workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[3]

# No `__main__` guard on purpose; the hang never returns to Python.
SCRIPT = textwrap.dedent("""
    import signal, sys, time, threading
    sys.path.insert(0, {root!r})
    from benchmarks.engine.bad_families import BadFamily
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores it, and so would this
    from sklearn.datasets import load_iris
    from windvane import AutoClassifier
    X, y = load_iris(return_X_y=True)
    def ready(trial):
        print("READY", flush=True)
    model = AutoClassifier(time_budget=100, n_jobs=2, verbose=0, families=["linear", BadFamily("hang")])
    {how}
""")


def spawn(how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(root=str(ROOT), how=how)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children_when_ready(process: subprocess.Popen[str]) -> list[psutil.Process]:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "READY"
    found = psutil.Process(process.pid).children(recursive=True)
    assert len(found) >= 3  # two workers and the reaper
    return found


def all_gone(processes: list[psutil.Process], seconds: float = 6.0) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_no_orphan_when_the_parent_is_killed(name: str) -> None:
    process = spawn("model.fit(X, y, callbacks=[ready])")
    children = children_when_ready(process)
    os.kill(process.pid, getattr(signal, name))
    process.communicate(timeout=60)
    assert all_gone(children)


def test_no_orphan_when_a_thread_fits_and_the_script_raises() -> None:
    process = spawn(
        "threading.Thread(target=lambda: model.fit(X, y, callbacks=[ready]), daemon=True).start(); "
        "sys.stdin.readline(); raise RuntimeError('the script fails')"
    )
    children = children_when_ready(process)
    process.communicate("\n", timeout=40)
    assert all_gone(children)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_interrupt_returns_fitted_and_leaves_nobody_behind() -> None:
    process = spawn("model.fit(X, y, callbacks=[ready]); print('FITTED', model.predict(X[:1])[0], flush=True)")
    children = children_when_ready(process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "FITTED 0" in out, err
    assert all_gone(children)
