"""Rungs and promotion: pure functions over the records of a run.

A rung says how much of the training rows and how much of the full number of iterations a trial gets. Promotion is
asynchronous successive halving: whenever a worker is free, the best trial of a rung that is among the best 1 / eta
of that rung and was not promoted yet goes up; no worker ever waits for a rung to fill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from windvane.search.trial import Job, Trial

ETA = 4
LOWEST_SHARE = 1 / 16


@dataclass(frozen=True)
class Rung:
    """Rows of each training part (None for all) and share of the iterations."""

    rows: int | None
    share: float


def make_rungs(n_train: int, halving: bool, first_rows: int | None) -> tuple[Rung, ...]:
    """List the rungs of a run, cheapest first.

    Parameters
    ----------
    n_train
        Rows of a training part.
    halving
        Whether iterations are halved: 1/16, 1/4, 1.
    first_rows
        Rows of the smallest sample for large data, None where all rows are used from the start; a sample is four
        times as large as the one before it.

    Returns
    -------
    tuple of Rung
        The last is all rows and all iterations.
    """
    rungs: list[Rung] = []
    rows = first_rows
    while rows is not None and rows * 1.5 < n_train:
        rungs.append(Rung(rows, LOWEST_SHARE * ETA if halving else 1.0))
        rows *= ETA
    if halving:
        shares = [1.0]
        while shares[0] / ETA >= LOWEST_SHARE:
            shares.insert(0, shares[0] / ETA)
        rungs += [Rung(None, share) for share in shares]
    else:
        rungs.append(Rung(None, 1.0))
    return tuple(rungs)


def rung_of(trial: Trial | Job, rungs: Sequence[Rung]) -> int:
    """Say on which rung a trial stands; -1 where it was made on other rungs, by an earlier fit of the run."""
    rung = Rung(trial.rows, trial.share)
    return rungs.index(rung) if rung in rungs else -1


def promotion(records: Sequence[Trial], begun: Sequence[Job], rungs: Sequence[Rung]) -> tuple[Trial, Rung] | None:
    """Find the trial that should go up next, from the highest rung down.

    Parameters
    ----------
    records
        The lines of the history that may decide; a trial that went up has a line for each rung.
    begun
        Jobs that were begun, also those whose result may not decide yet; their lower rungs count as promoted.
    rungs
        Cheapest first.

    Returns
    -------
    tuple of Trial and Rung, or None
        Who goes up, and where to.
    """
    for level in range(len(rungs) - 2, -1, -1):
        here = {_key(t): t for t in records if t.usable and rung_of(t, rungs) == level}
        everyone: list[Trial | Job] = [*records, *begun]
        above = {_key(t) for t in everyone if rung_of(t, rungs) > level}
        ranked = sorted(here.values(), key=lambda t: (t.loss, t.number))
        best = ranked[: len(ranked) // ETA]
        for trial in best:
            if trial.usable and _key(trial) not in above:
                return trial, rungs[level + 1]
    return None


def next_job(trial: Trial, rung: Rung, number: int) -> Job:
    """Make the job that takes a trial up a rung.

    Parameters
    ----------
    trial
        Who goes up.
    rung
        Where to.
    number
        The number that a new trial would have.

    Returns
    -------
    Job
        With more iterations on the same rows it is the same trial, grown on from its kept state; with other rows it
        is a new one.
    """
    same_rows = trial.rows == rung.rows
    return replace(trial.job, number=trial.number if same_rows else number, rows=rung.rows, share=rung.share)


def _key(trial: Trial | Job) -> tuple[str, tuple[tuple[str, object], ...], int]:
    return trial.family, tuple(sorted(trial.config.items())), trial.seed
