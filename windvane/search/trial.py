"""A trial: one configuration, and the result of training it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from windvane.models.base import Config, Value

Source = Literal["portfolio", "sampler"]
ConfigKey = tuple[str, tuple[tuple[str, Value], ...]]  # family and configuration, hashable
Status = Literal["waiting", "running", "done", "stopped", "failed", "timeout", "out_of_memory", "crashed"]


@dataclass(frozen=True)
class Trial:
    """One configuration, and the result of training it.

    Examples
    --------
    >>> trial = Trial(0, "lightgbm", {"num_leaves": 31}, "portfolio", seed=1)
    >>> trial.status, trial.usable
    ('waiting', False)
    """

    number: int  # number of the trial, which stays the same when it is resumed from its checkpoint
    family: str  # model family
    config: Config  # hyperparameters of the family
    source: Source  # where the configuration comes from: "portfolio" or "sampler"
    seed: int  # root of the trial's randomness
    n_rows: int | None = None  # rows of each training set that are used; None for all
    iteration_fraction: float = 1.0  # how far to train: fraction of the family's full number of iterations, in (0, 1]
    # "waiting" and "running" before it ends. "done": trained as far as asked; "stopped": by its deadline, the end of
    # the search or Ctrl-C; "failed": the library raised; "timeout", "out_of_memory": killed at a limit; "crashed": the
    # worker process died.
    status: Status = "waiting"
    loss: float = math.inf  # validation loss (lower is better) of the last checkpoint; infinity without one
    fold_losses: tuple[float, ...] = ()  # the same for each fold
    checkpoint: str | None = None  # name of the last checkpoint's folder, or None
    best_iterations: tuple[int, ...] = ()  # the best iteration of each fold
    fit_seconds: float = 0.0  # seconds spent in training, all folds together
    predict_seconds: float = 0.0  # seconds spent in predicting, all folds together
    cpu_seconds: float = 0.0  # CPU seconds inside the models' methods
    started: float = 0.0  # seconds since the start of the run, earlier fits of the same run included
    ended: float = 0.0  # as for `started`
    error: str | None = None  # why it did not end well

    @property
    def usable(self) -> bool:
        """Whether a checkpoint with a finite loss exists, whatever the status."""
        return self.checkpoint is not None and math.isfinite(self.loss)

    @property
    def key(self) -> ConfigKey:
        return config_key(self.family, self.config)

    def without_results(self) -> Trial:
        """Return the same trial as it was before any training."""
        submitted = (self.number, self.family, self.config, self.source, self.seed)
        return Trial(*submitted, n_rows=self.n_rows, iteration_fraction=self.iteration_fraction)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold; infinity becomes None."""
        record = asdict(self)
        record["config"] = dict(self.config)
        record["loss"] = self.loss if math.isfinite(self.loss) else None
        record["fold_losses"] = [value if math.isfinite(value) else None for value in self.fold_losses]
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Trial:
        """Read the result of `to_json`; raises KeyError, TypeError or ValueError if it is not the record of a trial."""
        trial = cls(**record)
        texts = (trial.family, trial.status, trial.source)
        sound = type(trial.number) is int and trial.number >= 0 and all(isinstance(text, str) for text in texts)
        named = trial.checkpoint is None or re.fullmatch(r"\w+", trial.checkpoint)  # no path to elsewhere
        if not sound or not named or not isinstance(trial.config, Mapping):
            raise ValueError("a field of the trial has a value that it cannot have")
        return replace(
            trial,
            loss=math.inf if trial.loss is None else float(trial.loss),
            fold_losses=tuple(math.inf if value is None else float(value) for value in trial.fold_losses),
            best_iterations=tuple(int(value) for value in trial.best_iterations),
        )


def derive_seed(seed: int, index: int) -> int:
    """Return the seed of one of the parts, such as trials or folds, of what has a seed."""
    return int(np.random.SeedSequence([seed, index]).generate_state(1)[0] % 2**31)


def config_key(family: str, config: Config) -> ConfigKey:
    return family, tuple(sorted(config.items()))
