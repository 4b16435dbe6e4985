"""What several tests share."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # benchmarks: their families that misbehave serve the tests too
sys.path.insert(0, str(ROOT / "tests"))  # toys.py

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a suite that a shell runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_tables() -> Path:
    """The folder of real tables beside the repository."""
    folder = ROOT.parent / "shared" / "data" / "tables"
    if not folder.exists():
        pytest.skip("the real tables of ../shared/data/tables are not here")
    return folder
