"""Output in a cell of a notebook that is updated in place, instead of red lines of the standard error stream."""

from __future__ import annotations

import sys
from typing import Any

MAX_NOTES = 12  # that are shown, the newest ones


def is_notebook() -> bool:
    """Whether the program runs in the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None  # a shell in a terminal has none


class NotebookOutput:
    """Notes, and below them one line that changes."""

    def __init__(self) -> None:
        self._notes: list[str] = []
        self._line = ""
        self._handle: Any = None  # with which IPython updates what is displayed

    def note(self, text: str) -> None:
        """Add a note, which stays while it is among the newest `MAX_NOTES`."""
        self._notes = [*self._notes, text][-MAX_NOTES:]
        self._display()

    def show(self, line: str) -> None:
        """Replace the last line."""
        self._line = line
        self._display()

    def _display(self) -> None:
        from IPython.display import display

        content = {"text/plain": "\n".join(filter(None, [*self._notes, self._line]))}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)
