"""Calls in threads beside the search."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")
NAME = "windvane-background"  # of the threads


def in_background(call: Callable[[], Result], *, waits_at_exit: bool = False) -> Future[Result]:
    """Call a function at once; the future has what it returned or raised.

    Calls that may take for ever end with the process. `waits_at_exit` is for those that run C++ code, as the import of
    torch and its networks do: when Python ends such a thread, the whole process aborts.
    """
    future: Future[Result] = Future()
    future.set_running_or_notify_cancel()  # a task of asyncio that waits for it may be cancelled, the call is not

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=not waits_at_exit, name=NAME).start()
    return future


def wait_for_background() -> None:
    """Wait for the calls for which the end of Python would wait."""
    for thread in threading.enumerate():
        if thread.name == NAME and not thread.daemon:
            thread.join()
