"""Rungs and promotion: pure functions over the records of a run.

A rung says how many of the training rows and which fraction of the iterations a trial uses. Promotion is asynchronous
successive halving: whenever a worker is free, the best trial of a rung that is among the best 1 / eta of that rung and
was not promoted yet goes up; no worker ever waits for a rung to fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from windvane.search.trial import ConfigKey, Trial

ETA = 4
MIN_ITERATION_FRACTION = 1 / 16


@dataclass(frozen=True)
class Rung:
    """What a trial may use."""

    n_rows: int | None  # of each training set; None for all
    iteration_fraction: float


def make_rungs(n_train: int, halving: bool, initial_sample_size: int | None) -> tuple[Rung, ...]:
    """List the rungs of a run, cheapest first; the last is all rows and all iterations.

    `n_train` rows are in a training set. With `halving`, iterations are 1/16, 1/4, 1. On large data the first trials
    train on `initial_sample_size` rows (None: all); each larger sample has four times as many.
    """
    rungs: list[Rung] = []
    n_rows = initial_sample_size
    while n_rows is not None and n_rows * 1.5 < n_train:
        rungs.append(Rung(n_rows, MIN_ITERATION_FRACTION * ETA if halving else 1.0))
        n_rows *= ETA
    fractions = [1.0]
    while halving and fractions[0] / ETA >= MIN_ITERATION_FRACTION:
        fractions.insert(0, fractions[0] / ETA)
    return (*rungs, *(Rung(None, fraction) for fraction in fractions))


def rung_of(trial: Trial, rungs: Sequence[Rung]) -> int:
    """Return the index of a trial's rung; -1 if an earlier fit of the run used other rungs."""
    rung = Rung(trial.n_rows, trial.iteration_fraction)
    return rungs.index(rung) if rung in rungs else -1


def promotion(records: Sequence[Trial], submitted: Sequence[Trial], rungs: Sequence[Rung]) -> tuple[Trial, Rung] | None:
    """Return the trial to promote next and its new rung, from the highest rung down.

    `records` are the lines of the history that may decide; a promoted trial has a line for each rung. `submitted` are
    all trials that began, also those whose result may not decide yet; their lower rungs count as promoted.
    """
    for level in range(len(rungs) - 2, -1, -1):
        here = {_key(t): t for t in records if t.usable and rung_of(t, rungs) == level}
        above = {_key(t) for t in [*records, *submitted] if rung_of(t, rungs) > level}
        ranked = sorted(here.values(), key=lambda t: (t.loss, t.number))
        for trial in ranked[: len(ranked) // ETA]:
            if _key(trial) not in above:
                return trial, rungs[level + 1]
    return None


def promote(trial: Trial, rung: Rung, new_number: int) -> Trial:
    """Return the trial to submit on a higher rung.

    With more iterations on the same rows it is the same trial, resumed from its checkpoint; with more rows it is a new
    one.
    """
    number = trial.number if trial.n_rows == rung.n_rows else new_number
    promoted = trial.without_results()
    return replace(promoted, number=number, n_rows=rung.n_rows, iteration_fraction=rung.iteration_fraction)


def _key(trial: Trial) -> tuple[ConfigKey, int]:
    return trial.key, trial.seed
