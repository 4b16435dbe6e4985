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

from windvane.metalearning.replay import RunPlan, Select, TableReplay, greedy, run_trials, score_run

BUDGETS = (5.0, 10.0, 20.0, 60.0, 180.0, 600.0)
FLOOR = 0.03  # of the loss of a constant prediction: losses nearer to zero are not told apart
MAX_SCORE = 1.0  # so that one table where everything fails does not decide


@dataclass(frozen=True)
class BuildPlan:
    """What a portfolio is built for."""

    budgets: tuple[float, ...] = BUDGETS
    workers: int = 2
    size: int = 8  # entries that are chosen one by one
    select: Select = greedy


@dataclass
class AnytimeScore:
    """Scores orders of entries on one table; remembers the ensembles of equal sets of checkpoints."""

    table: TableReplay
    plan: BuildPlan
    best: float
    known: dict[tuple[tuple[str, int], ...], float] = field(default_factory=dict)

    def losses(self, order: Sequence[str]) -> list[float]:
        """Return the test loss at each budget."""
        found = []
        for seconds in self.plan.budgets:
            reached = run_trials(order, self.table, RunPlan(seconds, self.plan.workers))
            key = tuple(sorted(reached))
            if key not in self.known:
                self.known[key] = score_run(reached, self.table, self.plan.select)
            found.append(self.known[key])
        return found

    def scores(self, order: Sequence[str]) -> list[float]:
        """Return log(loss / best loss known) at each budget, floored and capped."""
        floor = FLOOR * max(self.table.constant, 1e-12)
        return [min(MAX_SCORE, math.log((loss + floor) / (self.best + floor))) for loss in self.losses(order)]


def make_scores(tables: Sequence[TableReplay], plan: BuildPlan) -> list[AnytimeScore]:
    """Prepare tables; the reference is the ensemble of everything that was collected, or the best single model."""
    found = []
    for table in tables:
        everything = [(entry, len(curve.cpu) - 1) for entry, curve in table.curves.items()]
        single = min(float(np.min(curve.test_loss)) for curve in table.curves.values())
        found.append(AnytimeScore(table, plan, min(single, score_run(everything, table, plan.select))))
    return found


def build(tables: Sequence[TableReplay], candidates: Sequence[str], plan: BuildPlan) -> list[tuple[str, float]]:
    """Choose entries greedily; return them in order with the mean score after each."""
    scores = make_scores(tables, plan)
    chosen: list[tuple[str, float]] = []
    left = list(candidates)
    while left and len(chosen) < plan.size:
        order = [entry for entry, _ in chosen]
        means = {entry: float(np.mean([score.scores([*order, entry]) for score in scores])) for entry in left}
        best = min(left, key=means.__getitem__)
        left.remove(best)
        chosen.append((best, means[best]))
    return chosen
