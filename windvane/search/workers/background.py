"""A call in a separate thread, whose result is waited for no longer than there is time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class BackgroundCall(Generic[Result]):
    """Calls a function at once; one that never returns ends with the process."""

    def __init__(self, call: Callable[[], Result], name: str) -> None:
        self._answers: queue.SimpleQueue[tuple[Result | None, BaseException | None]] = queue.SimpleQueue()
        self._call = call
        threading.Thread(target=self._work, daemon=True, name=name).start()

    def result(self, seconds: float) -> Result:
        """Return what the function returned, or raise what it raised; TimeoutError if it runs for longer.

        To be asked once; infinity waits for ever.
        """
        try:
            result, error = self._answers.get(timeout=None if seconds == float("inf") else max(0.0, seconds))
        except queue.Empty:
            raise TimeoutError(f"There was no result within {max(0.0, seconds):.0f} seconds.") from None
        if error is not None:
            raise error
        return result  # type: ignore[return-value]  # None only where the function returns it

    def _work(self) -> None:
        try:
            self._answers.put((self._call(), None))
        except BaseException as error:
            self._answers.put((None, error))
