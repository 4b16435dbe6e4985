"""Build a portfolio: the order of configurations with the best ensembles over time on many tables, greedily.

Auto-Sklearn 2.0 adds, step by step, the configuration that lowers the mean loss of the best single model most. Here the
loss is that of the *ensemble*, at several budgets at once, in replayed runs: what is slow, or adds nothing beside what
is there, comes late or not at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from windvane.metalearning.replay import RunPlan, TableReplay, losses_of, run_trials, score_run
from windvane.runtime.columns.table import Floats

BUDGETS = (5.0, 10.0, 20.0, 60.0, 180.0, 600.0)
FLOOR = 0.03  # of the loss of a constant prediction: losses nearer to zero are not told apart
MAX_SCORE = 1.0  # so that one table where everything fails does not decide


@dataclass(frozen=True)
class BuildPlan:
    """What a portfolio is built for."""

    budgets: tuple[float, ...] = BUDGETS
    workers: int = 2
    size: int = 4  # entries that are chosen one by one; more follow the noise of few tables
    start: tuple[str, ...] = ()  # entries that come first instead of chosen ones, as where an earlier order is kept


def relative_loss(loss: float, best: float, constant: float) -> float:
    """Return log(loss / best loss known), floored by a share of the loss of a constant prediction and capped."""
    floor = FLOOR * max(constant, 1e-12)
    return min(MAX_SCORE, math.log((loss + floor) / (best + floor)))


@dataclass
class AnytimeScore:
    """Scores orders of entries on one table; remembers the scores of equal sets of checkpoints."""

    table: TableReplay
    plan: BuildPlan
    best: float
    known: dict[tuple[tuple[str, int], ...], float] = field(default_factory=dict)

    def scores(self, order: Sequence[str]) -> list[float]:
        """Return the `relative_loss` of the ensemble at each budget."""
        found = []
        for seconds in self.plan.budgets:
            reached = run_trials(order, self.table, RunPlan(seconds, self.plan.workers))
            key = tuple(sorted(reached))
            if key not in self.known:
                loss = score_run(reached, self.table)
                self.known[key] = relative_loss(loss, self.best, self.table.constant)
            found.append(self.known[key])
        return found


def make_scores(tables: Sequence[TableReplay], plan: BuildPlan) -> list[AnytimeScore]:
    """Prepare tables; the reference is the ensemble of everything that was collected, or the best single model."""
    found = []
    for table in tables:
        everything = [(entry, len(curve.cpu) - 1) for entry, curve in table.curves.items()]
        tests = np.stack([prediction for curve in table.curves.values() for prediction in curve.test])  # (p, v)
        single = float(np.min(losses_of(tests, table.test_target, table.metric)))
        found.append(AnytimeScore(table, plan, min(single, score_run(everything, table))))
    return found


def build(scores: Sequence[AnytimeScore], candidates: Sequence[str], size: int) -> list[tuple[str, float]]:
    """Choose entries greedily, at most `size`; return them in order with the mean score after each.

    An entry is compared on the tables where it was evaluated, by what it adds to those chosen before.
    """
    tables = [score.table for score in scores]
    chosen: list[tuple[str, float]] = []
    left = [entry for entry in candidates if any(entry in table.curves for table in tables)]
    reached = np.array([np.mean(score.scores([])) for score in scores])  # (t,)
    while left and len(chosen) < size:
        order = [entry for entry, _ in chosen]
        after, change = dict[str, Floats](), dict[str, float]()
        for entry in left:
            known = [i for i, table in enumerate(tables) if entry in table.curves]
            after[entry] = reached.copy()
            after[entry][known] = [np.mean(scores[i].scores([*order, entry])) for i in known]
            change[entry] = float(np.mean((after[entry] - reached)[known]))
        best = min(left, key=change.__getitem__)
        left.remove(best)
        reached = after[best]
        chosen.append((best, float(np.mean(reached))))
    return chosen


def rank_alone(scores: Sequence[AnytimeScore], candidates: Sequence[str]) -> list[str]:
    """Sort entries by their mean score alone, on the tables where each was evaluated: good and quick ones first."""

    def alone(entry: str) -> float:
        return float(np.mean([score.scores([entry]) for score in scores if entry in score.table.curves]))

    return sorted((one for one in candidates if any(one in score.table.curves for score in scores)), key=alone)
