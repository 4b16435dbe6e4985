"""What the cases of the campaign share: outcomes, time limits, and the check of a run that something happened to."""

from __future__ import annotations

import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

import windvane
from windvane import NoModelError, RunError, WindvaneError
from windvane.search.run.checkpoint import is_whole
from windvane.search.run.history import History
from windvane.search.run.run_directory import RunDirectory

# A case takes a seed and an empty folder and returns a word on what happened. A WindvaneError means that the package
# refused, a Failure that it broke a promise; whatever else is raised is a raw traceback.
Case = Callable[[int, Path], str]
BROKEN = ("wrong", "lost", "traceback", "hang", "overrun")
SLACK = 2.0  # seconds that a fit may exceed a budget of less than 40 s, see docs/guide/budgets_and_limits.md


class Failure(Exception):
    """A broken promise; `outcome` is one of `BROKEN`."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class Unavailable(Exception):
    """This system cannot run the case, as without the right to mount a disk."""


class _TimeLimit(BaseException):
    """Not an Exception: nothing that is tested may catch it."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def end(*_: object) -> None:
        raise _TimeLimit

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def evaluate(case: Case, seed: int, folder: Path, limit: float) -> dict[str, Any]:
    """Run a case; `limit` is the number of seconds after which it hangs."""
    started = time.monotonic()
    try:
        with warnings.catch_warnings(), _time_limit(limit):
            warnings.simplefilter("ignore")
            outcome, message = "ok", case(seed, folder)
    except Failure as error:
        outcome, message = error.outcome, str(error)
    except WindvaneError as error:
        outcome, message = "refused", f"{type(error).__name__}: {error}"
    except Unavailable:
        raise
    except _TimeLimit as error:
        outcome, message = "hang", _place(error)
    except Exception as error:
        outcome, message = "traceback", f"{type(error).__name__}: {error} ({_place(error)})"
    message = message.replace(str(folder), "FOLDER")[:300]
    return {"outcome": outcome, "seconds": round(time.monotonic() - started, 2), "message": message}


def _place(error: BaseException) -> str:
    """The last lines of the package that an error came through."""
    frames = traceback.extract_tb(error.__traceback__)
    inner = [frame for frame in frames if "/windvane/" in frame.filename] or frames
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(inner[-3:]))


@cache
def data() -> tuple[pd.DataFrame, pd.Series]:
    """The table of the cases in which something happens to a fit."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    return X, y


@contextmanager
def within(budget: float) -> Iterator[None]:
    """Fail if a fit takes longer than its budget allows, also if it ends in an error."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - started
        if seconds > budget + SLACK:
            raise Failure("overrun", f"{seconds:.1f} s, budget {budget:g} s")


def check_model(model: Any) -> None:
    """Fail unless a model of `data` predicts, better than a constant."""
    X, y = data()
    probabilities = model.predict_proba(X)
    if probabilities.shape != (len(X), 2) or not np.allclose(probabilities.sum(axis=1), 1):
        raise Failure("wrong", f"probabilities of shape {probabilities.shape} that do not sum to 1")
    if (accuracy := np.mean(model.predict(X) == y)) < 0.8:
        raise Failure("wrong", f"accuracy {accuracy:.2f}")


def check_run(root: Path, *, resume: bool) -> str:
    """Open a run after a fault, and continue it: every trial that its history names must be there and be used."""
    directory = RunDirectory(root)
    trials = History(directory.history).trials if directory.history.exists() else []
    named = {trial.number: str(trial.checkpoint) for trial in trials if trial.checkpoint is not None}
    damaged = [number for number, name in named.items() if not is_whole(directory.checkpoint(number, name))]
    if damaged:
        raise Failure("lost", f"the checkpoints of trials {damaged} are not whole")
    usable = {trial.number for trial in trials if trial.usable}
    try:
        model: Any = windvane.load(root, n_jobs=2)
    except (NoModelError, RunError) as error:
        if usable:
            raise Failure("lost", f"{len(usable)} usable trials in the history, but {error}") from error
        return "nothing had been trained"
    _check_trials(model, usable, "load")
    check_model(model)
    if resume:
        model.verbose, model.random_state = 0, 0
        with within(3):
            model.resume(3)
        _check_trials(model, usable, "resume")
        check_model(model)
    return f"{len(usable)} trials kept"


def _check_trials(model: Any, usable: set[int], after: str) -> None:
    missing = usable - {trial.number for trial in model.trials_ if trial.usable}
    if missing:
        raise Failure("lost", f"trials {sorted(missing)} are not usable after {after}")
