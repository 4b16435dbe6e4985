"""Calls in separate threads: results, errors, and what takes too long."""

from __future__ import annotations

import math
import threading

import pytest

from windvane.search.workers.background import BackgroundCall


def test_results_and_errors_come_back() -> None:
    assert BackgroundCall(lambda: 6 * 7, "answer").result(math.inf) == 42

    def fail() -> None:
        raise KeyError("name")

    with pytest.raises(KeyError, match="name"):
        BackgroundCall(fail, "failing").result(60)


def test_what_takes_too_long_is_not_waited_for() -> None:
    release = threading.Event()
    call = BackgroundCall(release.wait, "waiting")
    with pytest.raises(TimeoutError, match="within 0 seconds"):
        call.result(-1)
    release.set()
    assert call.result(60) is True
