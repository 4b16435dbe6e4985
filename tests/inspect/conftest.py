"""Let the tests of this folder import what they share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))  # networks.py, slow_similarity.py


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small networks are slower on several cores."""
    torch.set_num_threads(1)
