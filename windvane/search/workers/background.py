"""Calls that may take for ever, in threads that end with the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def in_background(call: Callable[[], Result]) -> Future[Result]:
    """Call a function at once; the future has what it returned or raised."""
    future: Future[Result] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    # An executor's threads would be waited for at the end of the process.
    threading.Thread(target=work, daemon=True, name="windvane-background").start()
    return future
