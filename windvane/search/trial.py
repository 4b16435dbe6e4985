"""What is tried, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from windvane.models.base import Config

Status = Literal["done", "partial", "failed", "timeout", "memory", "crashed"]


@dataclass(frozen=True)
class Job:
    """One configuration to evaluate.

    Attributes
    ----------
    number
        Number of the trial; a job that goes on with a kept state has the number of the first.
    family, config, origin
        What to train, and where the configuration comes from: "portfolio", "random" or "optimiser".
    seed
        Root of the trial's randomness.
    rows
        Rows of each training part to use; None for all.
    share
        How far to grow, as a share of the family's full number of iterations, in (0, 1].
    """

    number: int
    family: str
    config: Config
    origin: str
    seed: int
    rows: int | None = None
    share: float = 1.0


@dataclass(frozen=True)
class Trial:
    """What came of a job.

    Attributes
    ----------
    number, family, config, origin, seed, rows, share
        As in `Job`.
    status
        "done": grown as far as asked; "partial": stopped by its time with a usable state; "failed": the library raised;
        "timeout", "memory": killed at a limit; "crashed": the worker program died. Also a trial that did not end
        well is usable when `step` is not None: its last finished step predicts.
    loss
        Validation loss (lower is better) of the last kept step; infinity where there is none.
    fold_losses
        The same for each fold alone.
    step
        Name of the last kept step's folder, or None.
    iterations
        The best iteration of each fold.
    fit_seconds, predict_seconds
        Seconds spent in growing and predicting, all folds together.
    cpu_seconds
        CPU seconds inside the models' methods.
    started, ended
        Seconds since the start of the run, earlier fits of the same run included.
    error
        Why it did not end well, in words.
    """

    number: int
    family: str
    config: Config
    origin: str
    seed: int
    status: Status
    rows: int | None = None
    share: float = 1.0
    loss: float = math.inf
    fold_losses: tuple[float, ...] = ()
    step: str | None = None
    iterations: tuple[int, ...] = ()
    fit_seconds: float = 0.0
    predict_seconds: float = 0.0
    cpu_seconds: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    error: str | None = None

    @classmethod
    def of(cls, job: Job, status: Status, error: str | None = None) -> Trial:
        """Start the record of a job.

        Parameters
        ----------
        job
            What is tried.
        status
            How it stands.
        error
            Why it did not end well.

        Returns
        -------
        Trial
            Without results yet.
        """
        names = {f.name for f in fields(Job)}
        return cls(**{name: getattr(job, name) for name in names}, status=status, error=error)

    @property
    def job(self) -> Job:
        """The job that this trial came from."""
        return Job(**{f.name: getattr(self, f.name) for f in fields(Job)})

    @property
    def usable(self) -> bool:
        """Whether a kept state with a finite loss exists."""
        return self.step is not None and math.isfinite(self.loss)

    def to_json(self) -> dict[str, Any]:
        """Make a dictionary that JSON can hold; infinity becomes None."""
        record = asdict(self)
        record["config"] = dict(self.config)
        record["loss"] = self.loss if math.isfinite(self.loss) else None
        record["fold_losses"] = [value if math.isfinite(value) else None for value in self.fold_losses]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Trial:
        """Read what `to_json` made.

        Parameters
        ----------
        record
            The dictionary.

        Returns
        -------
        Trial
            The trial.

        Raises
        ------
        KeyError, TypeError, ValueError
            Where the record is not that of a trial.
        """
        trial = cls(**record)
        return replace(
            trial,
            loss=math.inf if trial.loss is None else float(trial.loss),
            fold_losses=tuple(math.inf if value is None else float(value) for value in trial.fold_losses),
            iterations=tuple(int(value) for value in trial.iterations),
        )
