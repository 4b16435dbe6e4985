"""Calls in separate threads: results, errors, and what takes too long."""

from __future__ import annotations

import threading

import pytest

from windvane.search.workers.background import in_background


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
