"""A portfolio built greedily from what many configurations came to on many tables.

The builder of Auto-Sklearn 2.0 (Feurer et al., arXiv 2007.04074): running the portfolio in its order is simulated on
every table, under a policy; the configuration that lowers the mean outcome most is added, again and again. Where losses
alone count and the best is known, the outcome covers the tables as a set function with diminishing returns, and greed
is within 1 - 1/e of the best (Nemhauser, Wolsey and Fisher 1978). With a budget and `Plan.over_time` the outcome is the
mean loss over the time of the budget, so that what is quick and good comes first (as in Streeter and Golovin, "An
online algorithm for maximizing submodular functions", 2008).

`windvane.search.portfolio` reads what `write` writes. Notation: c configurations, t tables, p points of a learning
curve.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from windvane.errors import InputError
from windvane.runtime.table import Floats
from windvane.search.halving import ETA
from windvane.search.portfolio import Entry

_LEAST_GAIN = 1e-12  # what is less is rounding


@dataclass(frozen=True)
class Outcomes:
    """What configurations came to on tables, point by point of their learning curves.

    Attributes
    ----------
    shares
        Share of a configuration's iterations at each point, ascending; the last is 1. Shape (p,).
    valid
        Validation losses, which select; infinite where there is no model. Shape (c, t, p).
    test
        Test losses, which score, as `normalise` makes them: 0 is the best of a table, 1 the worst. Shape (c, t, p).
    seconds
        From the start of the configuration up to the point, ascending and finite. Shape (c, t, p).
    """

    shares: tuple[float, ...]
    valid: Floats
    test: Floats
    seconds: Floats

    def __post_init__(self) -> None:
        shape = (*self.valid.shape[:2], len(self.shares))
        if not self.valid.shape == self.test.shape == self.seconds.shape == shape:
            raise InputError(
                f"valid, test, seconds have the shapes {self.valid.shape}, {self.test.shape}, {self.seconds.shape} "
                f"with {len(self.shares)} share(s). Allowed: all (configurations, tables, shares)."
            )
        if not (np.isfinite(self.seconds).all() and self.test.min() >= 0 and self.test.max() <= 1):
            raise InputError("seconds must be finite, and test between 0 and 1 (see normalise).")

    def take(self, tables: Sequence[int]) -> Outcomes:
        """Keep some of the tables.

        Parameters
        ----------
        tables
            Positions.

        Returns
        -------
        Outcomes
            Of all configurations on those.
        """
        kept = list(tables)
        return Outcomes(self.shares, self.valid[:, kept], self.test[:, kept], self.seconds[:, kept])


@dataclass(frozen=True)
class Plan:
    """How a portfolio is run, by one worker, and what counts in the end.

    Attributes
    ----------
    rungs
        Shares at which configurations wait for promotion, as in `windvane.search.halving`; (1.0,) is full budget.
    seconds
        Budget; what a configuration reached before its end counts. Infinity for no clock.
    over_time
        Whether the mean loss over the budget counts, 1 as long as there is no model; otherwise the loss in the end.
    """

    rungs: tuple[float, ...] = (1.0,)
    seconds: float = math.inf
    over_time: bool = False

    def __post_init__(self) -> None:
        if self.over_time and not math.isfinite(self.seconds):
            raise InputError(f"seconds={self.seconds} does not go with over_time=True. Allowed: a finite budget.")


@dataclass
class _Course:
    """How far the run on one table has come."""

    seconds: float = 0.0
    valid: float = math.inf  # the lowest so far
    loss: float = 1.0  # what its model scores
    area: float = 0.0  # the loss summed over the seconds so far
    begun: int = 0  # configurations
    reached: list[list[tuple[float, int, int]]] = field(default_factory=list)  # per rung: loss, place, configuration

    def copy(self) -> _Course:
        return replace(self, reached=[rung.copy() for rung in self.reached])


# One table's learning curves: for each configuration a list of p numbers.
_Curves = list[list[float]]


@dataclass(frozen=True)
class _Simulation:
    """The run of a portfolio on one table, configuration after configuration."""

    valid: _Curves
    test: _Curves
    seconds: _Curves
    ends: tuple[int, ...]  # the point of each rung
    plan: Plan

    def start(self) -> _Course:
        return _Course(reached=[[] for _ in self.ends])

    def add(self, course: _Course, configuration: int) -> _Course:
        """Go on with a new configuration, and with all that may go up a rung before the next one."""
        course = course.copy()
        self._climb(course, course.begun, configuration, 0)
        course.begun += 1
        while course.seconds <= self.plan.seconds and (up := _next_up(course)) is not None:
            self._climb(course, *up)
        return course

    def outcome(self, course: _Course) -> float:
        if not self.plan.over_time:
            return course.loss
        return (course.area + course.loss * max(0.0, self.plan.seconds - course.seconds)) / self.plan.seconds

    def _climb(self, course: _Course, place: int, configuration: int, level: int) -> None:
        valid, test, seconds = (curves[configuration] for curves in (self.valid, self.test, self.seconds))
        budget = self.plan.seconds
        first = self.ends[level - 1] + 1 if level else 0
        for point in range(first, self.ends[level] + 1):
            ended = course.seconds + seconds[point] - (seconds[point - 1] if point else 0.0)
            course.area += course.loss * (min(ended, budget) - min(course.seconds, budget))
            course.seconds = ended
            if ended > budget:
                return
            if valid[point] < course.valid:
                course.valid, course.loss = valid[point], test[point]
        course.reached[level].append((valid[self.ends[level]], place, configuration))


def _next_up(course: _Course) -> tuple[int, int, int] | None:
    """Apply the rule of `windvane.search.halving.promotion`: place, configuration and the rung to go to."""
    for level in range(len(course.reached) - 2, -1, -1):
        above = {place for rung in course.reached[level + 1 :] for _, place, _ in rung}
        ranked = sorted(entry for entry in course.reached[level] if math.isfinite(entry[0]))
        for _, place, configuration in ranked[: len(ranked) // ETA]:
            if place not in above:
                return place, configuration, level + 1
    return None


def normalise(losses: Floats, worst: Floats | None = None) -> Floats:
    """Bring the losses of each table between 0, the smallest of all configurations and points, and 1, the largest.

    Parameters
    ----------
    losses
        Shape (c, t, p); not finite where something failed, which counts as 1.
    worst
        Loss of each table above which nothing is told apart, such as that of a constant prediction, so that one
        model gone wild does not make all others equal. Shape (t,).

    Returns
    -------
    ndarray
        Shape (c, t, p).
    """
    there = np.isfinite(losses)
    if worst is not None:
        losses = np.minimum(losses, worst[:, None])
    lowest = np.min(losses, axis=(0, 2), where=there, initial=np.inf)  # (t,)
    highest = np.max(losses, axis=(0, 2), where=there, initial=-np.inf)
    empty = ~there.any(axis=(0, 2))
    lowest[empty], highest[empty] = 0.0, 1.0
    span = np.where(highest > lowest, highest - lowest, 1.0)
    return np.where(there, (np.where(there, losses, 0.0) - lowest[:, None]) / span[:, None], 1.0)


def simulate(order: Sequence[int], outcomes: Outcomes, plan: Plan) -> Floats:
    """Run a portfolio in its order.

    Parameters
    ----------
    order
        Configurations, as positions.
    outcomes
        What they came to.
    plan
        How it is run.

    Returns
    -------
    ndarray
        What counts in the end on each table, shape (t,).
    """
    found = []
    for simulation in _simulations(outcomes, plan):
        course = simulation.start()
        for configuration in order:
            course = simulation.add(course, configuration)
        found.append(simulation.outcome(course))
    return np.array(found)


def build(outcomes: Outcomes, plan: Plan, size: int, seed: int = 0) -> list[tuple[int, float]]:
    """Choose configurations greedily.

    Parameters
    ----------
    outcomes
        What each came to.
    plan
        How the portfolio will be run.
    size
        How many at the most; fewer where no other lowers the mean.
    seed
        Of the order in which configurations with equal outcomes come first.

    Returns
    -------
    list of (int, float)
        Positions in the order of the portfolio, and the mean over the tables after each.
    """
    left = np.random.default_rng(seed).permutation(len(outcomes.valid)).tolist()
    simulations = _simulations(outcomes, plan)
    courses = [simulation.start() for simulation in simulations]
    chosen: list[tuple[int, float]] = []
    mean = 1.0
    while left and len(chosen) < size:
        tried = [[s.add(course, one) for s, course in zip(simulations, courses, strict=True)] for one in left]
        means = [_mean(simulations, after) for after in tried]
        best = min(range(len(left)), key=means.__getitem__)  # the first in the shuffled order
        if mean - means[best] < _LEAST_GAIN:
            break
        courses, mean = tried[best], means[best]
        chosen.append((left.pop(best), mean))
    return chosen


def _mean(simulations: Sequence[_Simulation], courses: Sequence[_Course]) -> float:
    values = [simulation.outcome(course) for simulation, course in zip(simulations, courses, strict=True)]
    return round(math.fsum(values) / len(values), 12)


def _simulations(outcomes: Outcomes, plan: Plan) -> list[_Simulation]:
    missing = [share for share in plan.rungs if share not in outcomes.shares]
    if missing or list(plan.rungs) != sorted(plan.rungs):
        raise InputError(f"rungs={plan.rungs} are not usable. Allowed: some of {outcomes.shares}, ascending.")
    ends = tuple(outcomes.shares.index(share) for share in plan.rungs)
    valid, test, seconds = (np.moveaxis(a, 1, 0).tolist() for a in (outcomes.valid, outcomes.test, outcomes.seconds))
    return [_Simulation(*curves, ends, plan) for curves in zip(valid, test, seconds, strict=True)]


def write(path: Path, entries: Sequence[Entry], made: str) -> None:
    """Write a portfolio as `windvane.search.portfolio` reads it, a line for each configuration.

    Parameters
    ----------
    path
        Such as ``portfolio_classification.json``.
    entries
        In the order in which they are to be tried.
    made
        How it was made, in words.
    """
    lines = [json.dumps({"family": entry.family, "config": dict(entry.config)}) for entry in entries]
    body = ",\n  ".join(lines)
    path.write_text(f'{{\n "made": {json.dumps(made)},\n "entries": [\n  {body}\n ]\n}}\n', encoding="utf-8")
