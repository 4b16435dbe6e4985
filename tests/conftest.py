"""What several tests share."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports numpy or torch. Their threads wait for each other in busy loops, and with as many threads as
# cores in each of several processes the suite takes many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks: their families that misbehave serve the tests too
sys.path.insert(0, str(ROOT / "tests"))  # toys.py

settings.register_profile("windvane", deadline=None)  # an example may take long on a busy machine
settings.load_profile("windvane")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a suite that a shell runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What was imported so far stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _shorter_waits() -> None:
    """Worker processes stay between the fits of a whole session, and pages explain rows from a smaller sample."""
    from windvane.report import explanation_section
    from windvane.search.workers import pool

    pool.IDLE_SECONDS = 3600.0
    explanation_section.MAX_SECONDS = 0.5


@pytest.fixture(scope="session")
def shared_tables() -> Path:
    """The folder of real tables beside the repository."""
    folder = ROOT.parent / "shared" / "data" / "tables"
    if not folder.exists():
        pytest.skip("the real tables of ../shared/data/tables are not here")
    return folder
