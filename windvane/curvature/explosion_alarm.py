"""An alarm for an explosion of the Fisher trace early in training: a heuristic that compares runs.

Values of Tr(F) cannot be compared across networks, so no absolute value is alarming. In the paper's runs the peak at
too low a learning rate is 2.1 to 4.0 times the peak at the best one (arXiv 2012.14193, table 4), which is where the
default factors come from; ``docs/how/fisher.md`` says how often they are wrong. Compare with a reference run if you
can: a run's own start says little, since the trace rises in good runs too.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from numbers import Real
from typing import Literal

import numpy as np

from windvane.curvature.fisher_trace import FisherRecord, check_records
from windvane.errors import InputError, check_integer, warn_user
from windvane.pages.texts import counted

REMEDIES = (
    "raise the learning rate",
    "lower the batch size",
    "add the Fisher Penalty (windvane.curvature.FisherPenalty)",
    "check the initialization",
)


class ExplosionWarning(UserWarning):
    """The Fisher trace stays far above its reference."""


@dataclass(frozen=True)
class Alarm:
    """An alarm that was raised."""

    step: int
    ratio: float  # smoothed trace over the trace that it is compared with
    level: Literal["warn", "strong"]
    message: str  # with the remedies in order


class ExplosionAlarm:
    """Warn when the smoothed Fisher trace stays far above its start, or above that of a run that went well.

    It issues an `ExplosionWarning` while the run continues.

    Parameters
    ----------
    warmup_steps
        Steps to ignore: the learning rate warmup, and the first epoch of networks with batch norm, whose trace is
        large at the start.
    warn, strong
        Factors of the two levels.
    window
        Records over which the trace is smoothed by their median. The first window after the warmup is the start.
    patience
        Records in a row that must exceed a factor.
    reference
        Records of a run of the same network that went well, to compare with instead of the run's own start. The runs
        are compared at equal mean entropy of the predictions, since a run with a lower learning rate reaches the same
        state later; without entropies, at equal steps.
    until_step
        Step from which the alarm is off; the paper's explosion happens early in training.
    quiet
        Issue no warnings; `update` still returns alarms.

    Attributes
    ----------
    alarms_
        Alarms so far: each level at most once.
    max_ratio_
        Largest ratio so far; nan before the first.

    Examples
    --------
    >>> from windvane.curvature import ExplosionAlarm, FisherRecord
    >>> alarm = ExplosionAlarm(window=1, patience=1, quiet=True)
    >>> for step, trace in enumerate([1.0, 5.0]):
    ...     raised = alarm.update(FisherRecord(step, trace, 0.1, "draws", {}, n_examples=32, draws=4))
    >>> raised.level, alarm.max_ratio_
    ('strong', 5.0)
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
        are_numbers = isinstance(warn, Real) and isinstance(strong, Real)
        if not (are_numbers and 1 < warn <= strong < math.inf):
            raise InputError(f"warn={warn!r}, strong={strong!r} are not valid factors. Allowed: 1 < warn <= strong.")
        window, patience = check_integer("window", window), check_integer("patience", patience)
        warmup_steps = check_integer("warmup_steps", warmup_steps, 0)
        if until_step is not None:
            until_step = check_integer("until_step", until_step, warmup_steps + 1)
        if reference is not None:
            _check_reference(reference)
        self.warmup_steps, self.warn, self.strong, self.until_step = warmup_steps, warn, strong, until_step
        self.window, self.patience, self.quiet = window, patience, quiet
        self._reference = None if reference is None else _Reference(reference, window, warmup_steps)
        self._recent: list[FisherRecord] = []
        self._start: float | None = None
        self._n_above = {"warn": 0, "strong": 0}
        self.alarms_: list[Alarm] = []
        self.max_ratio_ = math.nan

    def update(self, record: FisherRecord | None) -> Alarm | None:
        """Check one more record.

        Parameters
        ----------
        record
            The next one in the order of steps. None is ignored: `FisherTracker.update` returns it where no measurement
            is due, so ``alarm.update(tracker.update(logits, step))`` can be called at each step.

        Returns
        -------
        Alarm or None
            An alarm when a level is reached for the first time, else None.
        """
        if record is None:
            return None
        if not isinstance(record, FisherRecord):
            raise InputError(
                f"record is of type {type(record).__name__}. Allowed: what FisherTracker.update returns, a "
                "FisherRecord or None."
            )
        if record.step < self.warmup_steps or (self.until_step is not None and record.step >= self.until_step):
            return None
        self._recent = [*self._recent, record][-self.window :]
        if len(self._recent) < self.window:
            return None
        current = _smooth(self._recent)
        if self._start is None:
            self._start = current.trace
        baseline = self._start if self._reference is None else self._reference.trace_at(current)
        ratio = current.trace / baseline if baseline > 0 else math.nan
        self.max_ratio_ = float(np.fmax(self.max_ratio_, ratio))  # of two of which one is nan the other
        for level, factor in (("strong", self.strong), ("warn", self.warn)):
            self._n_above[level] = self._n_above[level] + 1 if ratio > factor else 0
        raised = {alarm.level for alarm in self.alarms_}
        if self._n_above["strong"] >= self.patience and "strong" not in raised:
            return self._raise_alarm(record.step, ratio, "strong")
        if self._n_above["warn"] >= self.patience and not raised:
            return self._raise_alarm(record.step, ratio, "warn")
        return None

    def _raise_alarm(self, step: int, ratio: float, level: Literal["warn", "strong"]) -> Alarm:
        if self._reference is None:
            baseline = "its value after the warmup"
            meaning = "Good runs do that too: compare with a run at a higher learning rate."
        else:
            equal = self._reference.has_entropy
            where = "where both are equally certain of their predictions" if equal else "at the same step"
            baseline = f"that of the reference run {where}"
            meaning = "Such runs tend to generalize worse."
        remedies = ", ".join(f"{number}. {remedy}" for number, remedy in enumerate(REMEDIES, start=1))
        message = (
            f"Step {step}: the Fisher trace is {ratio:.1f} times {baseline}, {counted(self.patience, 'measurement')} "
            f"in a row. {meaning} What helps, in this order: {remedies}. This is a heuristic."
        )
        self.alarms_.append(Alarm(step, ratio, level, message))
        if not self.quiet:
            warn_user(message, ExplosionWarning)
        return self.alarms_[-1]


def _check_reference(reference: Sequence[FisherRecord]) -> None:
    check_records("reference", reference, FisherRecord, "records, such as tracker.records_, or None")
    if not any(math.isfinite(one.trace) for one in reference):
        raise InputError("reference has no records with a finite trace. Allowed: those of a tracked run, or None.")


def _smooth(records: Sequence[FisherRecord]) -> FisherRecord:
    """The last of some records, with the medians of all."""
    entropy, trace = np.median([(record.entropy, record.trace) for record in records], axis=0).tolist()  # nan if one is
    return replace(records[-1], entropy=entropy, trace=trace)


class _Reference:
    """The smoothed reference run, without its warmup if enough records remain."""

    def __init__(self, records: Sequence[FisherRecord], window: int, warmup_steps: int) -> None:
        after_warmup = [record for record in records if record.step >= warmup_steps]
        records = after_warmup if len(after_warmup) >= window else records
        ends = range(min(window, len(records)), len(records) + 1)
        smoothed = [_smooth(records[max(0, end - window) : end]) for end in ends]
        self.steps, self.traces = [one.step for one in smoothed], [one.trace for one in smoothed]
        self.has_entropy = not any(math.isnan(one.entropy) for one in smoothed)
        self.negated_min_entropy = [-lowest for lowest in accumulate((one.entropy for one in smoothed), min)]

    def trace_at(self, current: FisherRecord) -> float:
        """Return the trace where the entropy first was as low; without entropies, the trace at the same step."""
        if self.has_entropy and not math.isnan(current.entropy):
            index = bisect_left(self.negated_min_entropy, -current.entropy)
            return self.traces[min(index, len(self.traces) - 1)]
        return float(np.interp(current.step, self.steps, self.traces))
