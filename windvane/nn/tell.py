"""What a training run says while it runs: one line that is written over in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TextIO

from windvane.nn.history import Evaluation
from windvane.nn.plan import Plan

TERMINAL_SECONDS, LINE_SECONDS = 0.5, 10.0


class Teller:
    """Tells of one run on the standard error stream.

    Parameters
    ----------
    quiet
        Say nothing.
    stream
        Where to write; the standard error stream where it is None.
    clock
        Gives seconds.
    """

    def __init__(
        self, *, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._quiet, self._clock = quiet, clock
        self._live = not quiet and self._stream.isatty()
        self._told = clock()

    def line(self, text: str) -> None:
        """Say something that stays."""
        self._write(f"\r\x1b[K{text}\n" if self._live else f"{text}\n")

    def step(self, plan: Plan, images_per_second: float, loss: float, accuracy: float) -> None:
        """Say how it goes, where it is time to.

        Parameters
        ----------
        plan
            How far the run is.
        images_per_second
            Of training.
        loss, accuracy
            Of the latest batches.
        """
        if self._quiet or self._clock() - self._told < (TERMINAL_SECONDS if self._live else LINE_SECONDS):
            return
        left = "" if plan.seconds_left is None else f"  {_span(plan.seconds_left)} left"
        text = (
            f"{100 * plan.progress:5.1f} %  step {plan.step}  {images_per_second:,.0f} images/s  loss {loss:.3f}  "
            f"accuracy {accuracy:.3f}{left}"
        )
        self._write(f"\r\x1b[K{text}" if self._live else f"windvane: {text}\n")

    def evaluation(self, found: Evaluation) -> None:
        """Say what an evaluation found."""
        judged = (
            ""
            if math.isnan(found.valid_accuracy)
            else (f"  validation loss {found.valid_loss:.4f}  accuracy {found.valid_accuracy:.4f}")
        )
        trained = (
            "  before the first step"
            if math.isnan(found.train_loss)
            else f"  {found.images_per_second:,.0f} images/s  loss {found.train_loss:.4f}"
            f"  accuracy {found.train_accuracy:.4f}"
        )
        self.line(f"windvane: {100 * found.progress:5.1f} %  epoch {found.epoch:.2f}{trained}{judged}")

    def _write(self, text: str) -> None:
        if self._quiet:
            return
        self._told = self._clock()
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # a closed pipe, a closed file
            self._quiet = True


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
