"""What came of a run at each evaluation: rows in memory, a CSV file, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from windvane.vision.device import DeviceContext
from windvane.vision.training.schedule import Schedule


@dataclass(frozen=True)
class Evaluation:
    """A look at the network in the course of its training.

    Attributes
    ----------
    step, epoch, progress
        Steps and passes over the images so far, share of the schedule.
    seconds
        Since the run began.
    learning_rate
        Learning rate of the last step.
    images_per_second
        Of training since the last evaluation.
    train_loss, train_accuracy
        Means over the batches since the last evaluation, as they were varied, with mixed images judged by their
        larger share; nan before the first step, as `images_per_second`.
    valid_loss, valid_accuracy
        Of the whole validation set (cross-entropy); nan where there is none.
    fisher_trace
        The newest measurement of Tr(F); nan where it is not tracked.
    """

    step: int
    epoch: float
    progress: float
    seconds: float
    learning_rate: float
    images_per_second: float
    train_loss: float
    train_accuracy: float
    valid_loss: float = math.nan
    valid_accuracy: float = math.nan
    fisher_trace: float = math.nan

    def to_json(self) -> dict[str, Any]:
        """Make a dictionary that JSON can hold: None for nan."""
        return {name: None if value != value else value for name, value in asdict(self).items()}


def evaluation_from_json(content: dict[str, Any]) -> Evaluation:
    """Read what `Evaluation.to_json` made."""
    fields_: dict[str, Any] = {name: math.nan if value is None else value for name, value in content.items()}
    return Evaluation(**fields_)


def write_metrics(folder: Path, history: Sequence[Evaluation]) -> None:
    """Write all evaluations as metrics.csv.

    Parameters
    ----------
    folder
        Of the run.
    history
        From the first on.
    """
    part = folder / "metrics.csv.part"
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Evaluation)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in history)
    part.replace(folder / "metrics.csv")


def write_tensorboard(folder: Path, evaluation: Evaluation) -> None:
    """Add an evaluation to TensorBoard's file of a run; nothing where tensorboard is not installed.

    Parameters
    ----------
    folder
        Of the run.
    evaluation
        The newest.
    """
    if importlib.util.find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for name, value in asdict(evaluation).items():
            if name != "step" and math.isfinite(value):
                writer.add_scalar(name.replace("_", "/", 1), value, evaluation.step)


class RunningMetrics:
    """Adds up loss, right answers and images.

    Parameters
    ----------
    place
        Where, and with how many processes.
    """

    def __init__(self, place: DeviceContext) -> None:
        self._world = place.world
        self._sums = torch.zeros(3, device=place.device)  # loss x images, right, images
        self._seconds = 0.0

    def restart(self, seconds: float) -> None:
        """Begin at zero.

        Parameters
        ----------
        seconds
            Of the run so far.
        """
        self._sums.zero_()
        self._seconds = seconds

    def add(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Count a batch.

        Parameters
        ----------
        loss
            Its mean, a scalar.
        logits, targets
            Shape (b, k); an image is of the class with the largest share.
        """
        with torch.no_grad():
            n = len(logits)
            right = (logits.argmax(dim=1) == targets.argmax(dim=1)).sum()
            self._sums += torch.stack([loss.detach() * n, right, torch.full_like(loss, n)]).to(self._sums.dtype)

    def read(self, seconds: float) -> tuple[float, float, float]:
        """Give images a second over all processes, mean loss and accuracy of this one; waits for the device.

        All are nan before the first batch.

        Parameters
        ----------
        seconds
            Of the run so far.

        Returns
        -------
        images_per_second, loss, accuracy
            Since the last restart.
        """
        loss, right, n = self._sums.tolist()
        if not n:
            return math.nan, math.nan, math.nan
        return self._world * n / max(seconds - self._seconds, 1e-9), loss / n, right / n

    def to_json(self) -> list[float]:
        """Give what `resume` takes."""
        return [*self._sums.tolist(), self._seconds]

    def resume(self, kept: Sequence[float]) -> None:
        """Go on adding to what was kept.

        Parameters
        ----------
        kept
            From `to_json`.
        """
        *sums, self._seconds = kept
        self._sums.copy_(torch.tensor(sums))


TERMINAL_SECONDS, LINE_SECONDS = 0.5, 10.0


class ProgressLogger:
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

    def step(self, plan: Schedule, images_per_second: float, loss: float, accuracy: float) -> None:
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
