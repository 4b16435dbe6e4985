"""The display of a running search: live in a terminal, one line that is updated in a notebook, plain lines elsewhere.

A plain line is printed for each new best model and at least every `LINE_SECONDS`; outside notebooks everything goes to
the standard error stream, so that the standard output holds results alone. A stream that cannot be written to ends the
display, never the search.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self, TextIO

from windvane.evaluation.metrics import Metric
from windvane.evaluation.score_text import score_text
from windvane.pages.notebook import NotebookOutput, is_notebook
from windvane.pages.texts import counted
from windvane.search.search import SearchListener
from windvane.search.trial import Trial
from windvane.settings import format_duration

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

LINE_SECONDS = 10.0
LIVE_SECONDS = 0.25
NOTEBOOK_SECONDS = 1.0


class Progress(SearchListener):
    """Shows one search; a context manager around it. `clock` returns seconds."""

    def __init__(
        self, *, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._quiet = quiet or self._stream is None  # as in programs without a console
        self._clock = clock
        self._live: Live | None = None
        self._notebook = NotebookOutput() if stream is None and not self._quiet and is_notebook() else None
        self._begun = self._shown = clock()
        self._interval = LINE_SECONDS if self._notebook is None else NOTEBOOK_SECONDS  # between updates
        self._budget = 0.0
        self._metric: Metric | None = None  # None before the start
        self._running: tuple[str, ...] = ()
        self._failed: dict[int, bool] = {}  # by number: a resumed trial ends twice
        self._best: Trial | None = None

    def __enter__(self) -> Self:
        if not self._quiet and self._notebook is None and getattr(self._stream, "isatty", bool)():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=self._stream), auto_refresh=False, transient=True)
            self._live.start()
            self._interval = LIVE_SECONDS
        return self

    def __exit__(self, *exception: object) -> None:
        self._running = ()
        if self._live is not None:
            self._write(self._live.stop)
            self._live = None
        self._print(f"windvane: {self._counts()} in {format_duration(self._elapsed)}, {self._quality()}")

    def start(self, budget_seconds: float, n_workers: int, metric: Metric) -> None:
        """Print that the search begins; the budget counts from here."""
        self._begun, self._budget, self._metric = self._clock(), budget_seconds, metric
        self._print(f"windvane: {format_duration(max(0.0, budget_seconds))}, {counted(n_workers, 'worker')}")

    def resume(self, trials: Sequence[Trial]) -> None:
        """Print the best of earlier trials of the run, which later ones are compared with."""
        self._best = min((trial for trial in trials if trial.usable), key=lambda trial: trial.loss, default=None)
        if self._best is not None:
            self._print(f"windvane: {counted(len(trials), 'trial')} so far, {self._quality()}")

    def note(self, text: str) -> None:
        """Print a line on how the data were read."""
        if self._notebook is not None:
            self._notebook.note(text)
        else:
            self._print(text)

    def running(self, families: Sequence[str]) -> None:
        """Show the families of the trials that run."""
        self._running = tuple(families)
        self._show()

    def trial(self, trial: Trial) -> None:
        """Count a finished trial."""
        self._failed[trial.number] = not trial.usable and trial.status != "stopped"
        better = trial.usable and (self._best is None or trial.loss < self._best.loss)
        if better:
            self._best = trial
        self._show(at_once=better)

    def tick(self) -> None:
        """Update the time; called a few times a second."""
        self._show()

    @property
    def _elapsed(self) -> float:
        return self._clock() - self._begun

    def _show(self, *, at_once: bool = False) -> None:
        if self._quiet or not (at_once or self._clock() - self._shown >= self._interval):
            return
        if self._live is None:
            words = [f"{format_duration(self._elapsed):>9}", self._counts(), self._quality(), self._left(), self._now()]
            self._print("  ".join(word for word in words if word))
        else:
            live, display = self._live, self._display()
            self._write(lambda: live.update(display, refresh=True))
            self._shown = self._clock()

    def _display(self) -> Table:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        rows = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=self._budget, completed=min(self._elapsed, self._budget), width=30)
        rows.add_row(bar, *map(Text, (self._left(), self._counts(), self._quality())))
        display = Table.grid()
        display.add_row(rows)
        display.add_row(Text(self._now(), style="dim"))
        return display

    def _counts(self) -> str:
        n_failed = sum(self._failed.values())
        return counted(len(self._failed), "trial") + f" ({n_failed} failed)" * bool(n_failed)

    def _quality(self) -> str:
        if self._best is None or self._metric is None:
            return "no model yet"
        return f"best {score_text(self._metric, self._metric.score(self._best.loss))} ({self._best.family})"

    def _left(self) -> str:
        return f"{format_duration(max(0.0, self._budget - self._elapsed))} left"

    def _now(self) -> str:
        return f"now: {', '.join(self._running)}" if self._running else ""

    def _print(self, line: str) -> None:
        if self._notebook is not None:
            self._notebook.show(line)
        elif self._live is None:
            self._write(lambda: print(line, file=self._stream, flush=True))
        else:
            write = self._live.console.print
            self._write(lambda: write(line, markup=False, highlight=False))
        self._shown = self._clock()

    def _write(self, write: Callable[[], object]) -> None:
        if self._quiet:
            return
        try:
            write()
        except (OSError, ValueError, AttributeError):  # no stream of text, a closed pipe, a closed file
            self._quiet = True


class CountProgress:
    """Shows how many of a number of steps are done, in a terminal; a context manager around them."""

    def __init__(self, title: str, *, quiet: bool = False) -> None:
        self._title, self._stream = title, sys.stderr
        self._is_shown = not quiet and getattr(self._stream, "isatty", bool)()  # None in programs without a console
        self._percent = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._percent >= 0:
            self._write("\r" + " " * (len(self._title) + 8) + "\r")

    def update(self, done: int, total: int) -> None:
        """Show a share of the steps, if it is another percentage than before."""
        percent = 100 * done // total
        if self._is_shown and percent != self._percent:
            self._percent = percent
            self._write(f"\r{self._title}: {percent} %")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a terminal that is gone ends nothing
            self._stream.write(text)
            self._stream.flush()
