"""Ctrl-C and SIGTERM as a request to stop, so that no write and no model is cut in half."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether a signal asked a run to stop."""

    def __init__(self) -> None:
        self.requested = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal; a second one interrupts at once."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


NEVER = StopRequest()


@contextmanager
def stop_on_signal(processes: int = 1, stop: StopRequest | None = None) -> Iterator[StopRequest]:
    """Turn Ctrl-C and SIGTERM into a stop request, if Python allows it: in the main thread.

    Several processes are interrupted as usual, since they would not stop at the same step. `stop` handles the signals
    if it is given.
    """
    stop = stop or StopRequest()
    if processes > 1 or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # as nohup sets
    for number in handled:
        signal.signal(number, stop.handle)
    try:
        yield stop
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: not set by Python
