"""An alarm for the explosion of the Fisher trace early in training: a heuristic, and a relative one.

Values of Tr(F) cannot be carried from one network to another, so no value is alarming by itself. In the paper's runs
the peak at too low a learning rate is 2.1 to 4.0 times that at the best rate (arXiv 2012.14193, table 4), which is
where the factors come from; ``docs/fisher.md`` says how often they are wrong. Compare to another run where you can: a
run's own start tells little, since the trace rises in good runs too.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Literal

from windvane.curvature.tracker import FisherRecord
from windvane.errors import InputError, check_whole

REMEDIES = (
    "raise the learning rate",
    "lower the batch size",
    "add the Fisher Penalty (windvane.curvature.FisherPenalty)",
    "check the initialisation",
)


class ExplosionWarning(UserWarning):
    """The Fisher trace stays far above where it was."""


@dataclass(frozen=True)
class Alarm:
    """What the alarm has to say.

    Attributes
    ----------
    step
        When.
    ratio
        The smoothed trace over what it is compared to.
    level
        "warn", or "strong" above the higher factor.
    message
        For people, with the remedies in order.
    """

    step: int
    ratio: float
    level: Literal["warn", "strong"]
    message: str


class ExplosionAlarm:
    """Warn when the smoothed Fisher trace stays far above where it was, or above a run that went well.

    An `ExplosionWarning` says so while the run goes on.

    Parameters
    ----------
    warmup_steps
        Steps to pass over: the warmup of the learning rate, and the first epoch of networks with batch norm, whose
        trace is large at the start.
    warn, strong
        Factors of the two levels.
    window
        Records over which the trace is smoothed, by their median; the first so many after the warmup are what it is
        compared to.
    patience
        How many records in a row must lie above.
    reference
        Records of a run that went well, at other settings but with the same network; compared to instead of the run's
        own start, there where it was as certain of its predictions (equal mean entropy), since a run at a lower rate
        comes to the same place later. At the same step where entropies are not known.
    until_step
        Where to stop looking; the paper's explosion is one of early training.
    quiet
        Say nothing; `update` gives the alarm all the same.

    Attributes
    ----------
    alarms_
        What was told so far: each level at most once.
    highest_
        The largest ratio so far; nan before there is one.
    """

    def __init__(
        self,
        warmup_steps: int = 0,
        *,
        warn: float = 2.0,
        strong: float = 4.0,
        window: int = 5,
        patience: int = 3,
        reference: Sequence[FisherRecord] | None = None,
        until_step: int | None = None,
        quiet: bool = False,
    ) -> None:
        if not 1 < warn <= strong < math.inf:
            raise InputError(f"warn={warn!r}, strong={strong!r} are no factors. Allowed: 1 < warn <= strong.")
        check_whole("window", window)
        check_whole("patience", patience)
        check_whole("warmup_steps", warmup_steps, 0)
        if reference is not None:
            _check(reference)
        if until_step is not None and until_step <= warmup_steps:
            raise InputError(f"until_step={until_step!r} is not after the warmup. Allowed: from {warmup_steps + 1}.")
        self.warmup_steps, self.warn, self.strong, self.until_step = warmup_steps, warn, strong, until_step
        self.window, self.patience, self.quiet = window, patience, quiet
        self._reference = None if reference is None else _Reference(reference, window, warmup_steps)
        self._recent: list[FisherRecord] = []
        self._start: float | None = None
        self._above = {"warn": 0, "strong": 0}
        self.alarms_: list[Alarm] = []
        self.highest_ = math.nan

    def update(self, record: FisherRecord) -> Alarm | None:
        """Look at one more record.

        Parameters
        ----------
        record
            From `FisherTracker.update`, in the order of steps.

        Returns
        -------
        Alarm or None
            Where a level is reached for the first time.
        """
        if record.step < self.warmup_steps or (self.until_step is not None and record.step >= self.until_step):
            return None
        self._recent = [*self._recent, record][-self.window :]
        if len(self._recent) < self.window:
            return None
        here = _level(self._recent)
        if self._start is None:
            self._start = here.trace
        compared = self._start if self._reference is None else self._reference.at(here)
        ratio = here.trace / compared if compared > 0 else math.nan
        self.highest_ = ratio if not self.highest_ >= ratio else self.highest_
        for level, factor in (("strong", self.strong), ("warn", self.warn)):
            self._above[level] = self._above[level] + 1 if ratio > factor else 0
        told = {alarm.level for alarm in self.alarms_}
        if self._above["strong"] >= self.patience and "strong" not in told:
            return self._tell(record.step, ratio, "strong")
        if self._above["warn"] >= self.patience and not told:
            return self._tell(record.step, ratio, "warn")
        return None

    def _tell(self, step: int, ratio: float, level: Literal["warn", "strong"]) -> Alarm:
        if self._reference is None:
            than, often = "its value after the warmup", "Good runs do that too: compare to one at a higher rate."
        else:
            certain = self._reference.certain
            where = "where both are equally certain of their predictions" if certain else "at the same step"
            than, often = f"that of the reference run {where}", "This goes with worse generalisation."
        remedies = ", ".join(f"{number}. {remedy}" for number, remedy in enumerate(REMEDIES, start=1))
        message = (
            f"Step {step}: the Fisher trace is {ratio:.1f} times {than}, {self.patience} measurements in a row. "
            f"{often} What helps, in this order: {remedies}. It is a heuristic."
        )
        self.alarms_.append(Alarm(step, ratio, level, message))
        if not self.quiet:
            warnings.warn(message, ExplosionWarning, stacklevel=4)
        return self.alarms_[-1]


def _check(reference: Sequence[FisherRecord]) -> None:
    kinds = {type(one) for one in reference} if isinstance(reference, Sequence) else {type(reference)}
    if kinds and kinds != {FisherRecord}:
        names = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InputError(f"reference is of type {names}. Allowed: records, such as tracker.records_, or None.")
    if not any(math.isfinite(one.trace) for one in reference):
        raise InputError("reference has no records with a finite trace. Allowed: those of a tracked run, or None.")


@dataclass(frozen=True)
class _Level:
    """Where a run is, by the medians of some records."""

    step: int
    entropy: float
    trace: float


def _level(records: Sequence[FisherRecord]) -> _Level:
    entropy, trace = (_centre([getattr(record, part) for record in records]) for part in ("entropy", "trace"))
    return _Level(records[-1].step, entropy, trace)


def _centre(values: Sequence[float]) -> float:
    return math.nan if any(map(math.isnan, values)) else median(values)


class _Reference:
    """A run to compare to: medians of its last so many records, after the warmup where there is enough of it."""

    def __init__(self, records: Sequence[FisherRecord], window: int, warmup_steps: int) -> None:
        later = [record for record in records if record.step >= warmup_steps]
        records = later if len(later) >= window else records
        ends = range(min(window, len(records)), len(records) + 1)
        self.levels = [_level(records[max(0, end - window) : end]) for end in ends]
        self.steps = [one.step for one in self.levels]
        self.certain = not any(math.isnan(one.entropy) for one in self.levels)
        self.falling = [-lowest for lowest in accumulate((one.entropy for one in self.levels), min)]

    def at(self, here: _Level) -> float:
        """Trace where it first was as certain; by the step where entropies are not known."""
        last = len(self.levels) - 1
        if self.certain and not math.isnan(here.entropy):
            return self.levels[min(bisect_left(self.falling, -here.entropy), last)].trace
        right = bisect_left(self.steps, here.step)
        if not 0 < right <= last:
            return self.levels[min(right, last)].trace
        a, b = self.levels[right - 1], self.levels[right]
        return a.trace + (b.trace - a.trace) * (here.step - a.step) / (b.step - a.step)
