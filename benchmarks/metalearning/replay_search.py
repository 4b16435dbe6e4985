"""Replay a run as the search conducts it: with its scheduler, so with successive halving and resumed trials.

`windvane.metalearning.replay.run_trials` takes entries in order and each once, which is quick enough to build
portfolios with; here the trials are chosen by `windvane.search.strategy.scheduler` from the results so far. A run ends
when the entries are exhausted: the configurations that its sampler would suggest were never trained.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from windvane.data.task import Task
from windvane.metalearning.replay import LearningCurve, RunPlan, TableReplay
from windvane.search.run.history import History
from windvane.search.search import MIN_TRIAL_SECONDS, RESUMED_TRIAL_FRACTION
from windvane.search.strategy.halving import make_rungs
from windvane.search.strategy.portfolio import PortfolioEntry
from windvane.search.strategy.scheduler import Scheduler
from windvane.search.trial import Status, Trial

_NAME = "entry"  # the configuration of a replayed trial is the id of its entry


def replay_search(
    order: Sequence[str], table: TableReplay, plan: RunPlan, *, halving: bool = False
) -> list[tuple[str, int]]:
    """Run entries as a search does; return those with a checkpoint at the end, with the number of the last.

    `plan.share` is of the budget for a new trial. Raises ValueError with `halving` if a curve does not say how far its
    checkpoints were trained.
    """
    portfolio = [PortfolioEntry(table.curves[entry].family, {_NAME: entry}) for entry in order if entry in table.curves]
    task = Task(table.kind, table.rows, table.columns, table.classes)  # type: ignore[arg-type]
    history = History(Path(os.devnull))
    scheduler = Scheduler(task, {}, history, portfolio, make_rungs(table.rows, halving, None), seed=0)
    now = plan.startup
    running: list[tuple[float, int, Trial]] = []  # end, number, result
    while True:
        while len(running) < plan.workers and plan.seconds - now >= MIN_TRIAL_SECONDS:
            left = plan.seconds - now
            trial = scheduler.next_trial([result for *_, result in running], left)
            if trial is None:
                break
            share = plan.share if trial.number == scheduler.next_number else max(plan.share, RESUMED_TRIAL_FRACTION)
            spent = max((one.fit_seconds for one in history.records if one.number == trial.number), default=0.0)
            allowed = min(share * plan.seconds, left - plan.overhead)
            result = _train(trial, table.curves[str(trial.config[_NAME])], spent, spent + allowed)
            scheduler.register(trial)
            heapq.heappush(running, (now + plan.overhead + result.fit_seconds - spent, trial.number, result))
        if not running:
            break
        now, _, result = heapq.heappop(running)
        history.append(result)
    return [(str(t.config[_NAME]), int(t.checkpoint or 0)) for t in history.trials if t.usable]


def _train(trial: Trial, curve: LearningCurve, spent: float, until: float) -> Trial:
    """Return the result of a trial that has used `spent` CPU seconds and may use so many in all."""
    goal = len(curve.cpu) - 1  # where the collection ended a cell, its trial ends too: nothing is known beyond
    if trial.iteration_fraction < 1:
        if curve.fraction is None:
            raise ValueError("the curves do not say how far their checkpoints were trained")
        goal = min(goal, int(np.searchsorted(curve.fraction, trial.iteration_fraction - 1e-9)))
    last = min(goal, int(np.searchsorted(curve.cpu, until, side="right")) - 1)
    status: Status = "done" if last == goal else "stopped"
    used = max(spent, min(until, float(curve.cpu[goal])))
    trained = replace(trial, status=status, fit_seconds=used)
    return trained if last < 0 else replace(trained, checkpoint=str(last), loss=float(curve.valid_loss[last]))
