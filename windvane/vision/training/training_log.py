"""Metrics of a run: averages over training batches, evaluations, and where they go (terminal, CSV, TensorBoard)."""

from __future__ import annotations

import importlib.util
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import torch
from torch import Tensor

from windvane.curvature.fisher_trace import StepRecord
from windvane.pages.notebook import NotebookOutput, is_notebook
from windvane.runtime.serialization import replace_file, writing
from windvane.settings import format_duration
from windvane.vision.training.device import DeviceContext
from windvane.vision.training.schedule import Schedule

TERMINAL_INTERVAL, LINE_INTERVAL = 0.5, 10.0  # seconds between two lines of progress


@dataclass(frozen=True, eq=False)
class Evaluation(StepRecord):
    """One evaluation of the network during its training; missing values are nan."""

    epoch: float  # passes over the training images so far
    progress: float  # fraction of the schedule
    seconds: float  # wall-clock time since the run started
    learning_rate: float  # of the last step
    images_per_second: float  # training speed since the last evaluation
    train_loss: float  # mean over the augmented batches since the last evaluation; nan before the first step
    train_accuracy: float  # the same; the class of a mixed image is that of its larger part
    valid_loss: float = math.nan  # cross-entropy on all validation images; nan without any
    valid_accuracy: float = math.nan  # accuracy on all validation images; nan without any
    fisher_trace: float = math.nan  # newest measurement of Tr(F); nan if it is not tracked


class RunningMetrics:
    """Mean loss and accuracy over batches, summed on the device without waiting for it."""

    def __init__(self, device: DeviceContext) -> None:
        self._world_size = device.world_size
        self._sums = torch.zeros(3, device=device.device)  # loss x images, correct images, images
        self._since = 0.0  # seconds of the run at the last reset

    def reset(self, seconds: float) -> None:
        """Start from zero, at this time of the run."""
        self._sums.zero_()
        self._since = seconds

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: its mean loss, and logits and targets of shape (b, k)."""
        with torch.no_grad():
            n = len(logits)
            correct = (logits.argmax(dim=1) == targets.argmax(dim=1)).sum()
            self._sums += torch.stack([loss.detach() * n, correct, torch.full_like(loss, n)]).to(self._sums.dtype)

    def compute(self, seconds: float) -> tuple[float, float, float]:
        """Return images per second of all processes, and loss and accuracy of this one; waits for the device."""
        # All are nan before the first batch.
        loss, correct, n = self._sums.tolist()
        if not n:
            return math.nan, math.nan, math.nan
        return self._world_size * n / max(seconds - self._since, 1e-9), loss / n, correct / n

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "since": self._since}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums.copy_(state["sums"])
        self._since = state["since"]


class ProgressLogger:
    """Logs one run: one line that is updated in a terminal or a notebook, plain lines on standard error elsewhere."""

    def __init__(
        self, *, quiet: bool = False, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._quiet, self._clock = quiet, clock
        self._notebook = NotebookOutput() if stream is None and not quiet and is_notebook() else None
        self._live = not quiet and self._notebook is None and self._stream.isatty()
        self._last_logged = clock()

    def log(self, text: str) -> None:
        """Write a line that stays."""
        self._write(text, stays=True)

    def log_step(self, schedule: Schedule, images_per_second: float, loss: float, accuracy: float) -> None:
        """Write the progress, unless a line was written just before."""
        interval = TERMINAL_INTERVAL if self._live or self._notebook is not None else LINE_INTERVAL
        if self._quiet or self._clock() - self._last_logged < interval:
            return
        left = "" if schedule.seconds_left is None else f"  {format_duration(schedule.seconds_left)} left"
        text = (
            f"{100 * schedule.progress:5.1f} %  step {schedule.step}  {images_per_second:,.0f} images/s  "
            f"loss {loss:.3f}  accuracy {accuracy:.3f}{left}"
        )
        self._write(text if self._live else f"windvane: {text}", stays=False)

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Write the result of an evaluation."""
        if math.isnan(evaluation.train_loss):
            train = "  before the first step"
        else:
            train = f"  {evaluation.images_per_second:,.0f} images/s  loss {evaluation.train_loss:.4f}"
            train += f"  accuracy {evaluation.train_accuracy:.4f}"
        valid = ""
        if not math.isnan(evaluation.valid_accuracy):
            valid = f"  validation loss {evaluation.valid_loss:.4f}  accuracy {evaluation.valid_accuracy:.4f}"
        self.log(f"windvane: {100 * evaluation.progress:5.1f} %  epoch {evaluation.epoch:.2f}{train}{valid}")

    def _write(self, text: str, *, stays: bool) -> None:
        if self._quiet:
            return
        self._last_logged = self._clock()
        if self._notebook is not None:
            (self._notebook.note if stays else self._notebook.show)(text)
            return
        try:
            self._stream.write(f"\r\x1b[K{text}" + "\n" * stays if self._live else f"{text}\n")
            self._stream.flush()
        except (OSError, ValueError):  # a closed pipe, a closed file
            self._quiet = True


def write_metrics(folder: Path, history: Sequence[Evaluation]) -> None:
    """Write all evaluations as metrics.csv."""
    path = folder / "metrics.csv"
    with writing(path, "An earlier file is unchanged."), replace_file(path) as part:
        pd.DataFrame([asdict(one) for one in history]).to_csv(part, index=False, na_rep="nan")


def write_tensorboard(folder: Path, evaluation: Evaluation) -> None:
    """Append an evaluation to the TensorBoard log of a run, if tensorboard is installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for name, value in asdict(evaluation).items():
            if name != "step" and math.isfinite(value):
                writer.add_scalar(name.replace("_", "/", 1), value, evaluation.step)
