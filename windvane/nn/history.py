"""What came of a run at each evaluation: rows in memory, a CSV file, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import importlib.util
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Evaluation:
    """A look at the network in the course of its training.

    Attributes
    ----------
    step, epoch, progress
        Steps and passes over the images so far, share of the schedule.
    seconds
        Since the run began.
    rate
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
    rate: float
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
