"""Calls in threads beside the search."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


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

    threading.Thread(target=work, daemon=not waits_at_exit, name="windvane-background").start()
    return future
