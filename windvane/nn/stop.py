"""Ctrl-C and SIGTERM while a network is trained: the step at hand is finished and kept before the run ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Whether somebody asked for the end.

    Attributes
    ----------
    asked
        Set by the first signal.
    """

    def __init__(self) -> None:
        self.asked = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Take a signal; a second one does not wait for the step.

        Parameters
        ----------
        number, frame
            As Python calls handlers of signals.

        Raises
        ------
        KeyboardInterrupt
            The second time.
        """
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def stoppable(processes: int = 1) -> Iterator[Stop]:
    """Take note of signals rather than be interrupted by them, where Python allows: in the main thread.

    Parameters
    ----------
    processes
        That train together. Several are interrupted as usual: they would not stop at the same step.

    Yields
    ------
    Stop
        To look at after each step.
    """
    stop = Stop()
    if processes > 1 or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # as nohup has it
    for number in heard:
        signal.signal(number, stop.note)
    try:
        yield stop
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: not Python's own
