"""Problems of each kind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cases import Case, make_case


@pytest.fixture(params=["binary", "multiclass", "regression"])
def case(request: pytest.FixtureRequest) -> Case:
    """A problem of each kind."""
    return make_case(request.param)
