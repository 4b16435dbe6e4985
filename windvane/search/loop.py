"""The search: portfolio, then optimiser, on all workers, until the clock ends.

One loop: free workers get jobs, events come in, the history and the ensemble are kept up to date. What a worker gets
next is, in this order: a trial that goes up a rung; after a first pass through the families, the best trial if the
clock had stopped it; the next of the portfolio; another good trial that was stopped; a suggestion of the optimiser.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from windvane.errors import WorkerError
from windvane.models.base import Config, Family
from windvane.runtime.ensemble import Ensemble
from windvane.search.ensemble import EnsembleBuilder
from windvane.search.evaluate import kept_trial
from windvane.search.halving import Rung, next_job, promotion
from windvane.search.history import History
from windvane.search.optimiser import Optimiser
from windvane.search.portfolio import Entry
from windvane.search.run import Problem
from windvane.search.trial import Job, Trial
from windvane.search.workers import Workers
from windvane.settings import Settings

# With a trial limit, trial i is suggested from the results of trials 0 .. i - LAG alone: the same for one worker as
# for up to LAG of them.
LAG = 8
TICK_SECONDS = 0.2
GRACE_KEPT = 0.3  # seconds of the grace that are left for opening the models
SHORTEST_SECONDS = 0.5  # a trial with less time is not begun
FIRST_PASS = 5  # entries of the portfolio, of as many families, that come before any trial goes on
_MOST_FAILURES = 2  # of a family that never came to a result, before it is left out
_WORTH_GOING_ON = 3  # rank up to which a trial that the clock stopped may go on

Callback = Callable[[Trial], object]


class Progress(Protocol):
    """What shows a user how the search goes."""

    def running(self, names: list[str]) -> None:
        """Hear what runs now."""

    def trial(self, trial: Trial) -> None:
        """Hear of a trial that ended."""

    def tick(self) -> None:
        """Hear that time goes by."""


@dataclass(frozen=True)
class Clock:
    """When the search must end; `time.monotonic` instants.

    Attributes
    ----------
    started
        Start of this fit.
    budget
        Seconds that the fit may take.
    earlier
        Seconds that earlier fits of the same run took.
    """

    started: float
    budget: float
    earlier: float = 0.0

    def left(self, reserve: float = 0.0) -> float:
        """Seconds until the end of the budget, less a reserve."""
        return self.started + self.budget - reserve - time.monotonic()

    def now(self) -> float:
        """Seconds since the start of the run."""
        return self.earlier + time.monotonic() - self.started


@dataclass
class Search:
    """One search over one problem.

    Attributes
    ----------
    problem, settings, families
        What is searched, under which limits, over which families.
    history, pool, builder, clock
        Where results go, who works, who blends, when it ends.
    portfolio, rungs
        What comes first, and the rungs of the run.
    callbacks, progress
        Get each finished trial; a callback that returns True ends the search.
    at_leisure
        Called once while all workers are busy: what can be done before the search ends need not be done after.
    """

    problem: Problem
    settings: Settings
    families: Mapping[str, Family]
    history: History
    pool: Workers
    builder: EnsembleBuilder
    clock: Clock
    portfolio: Sequence[Entry]
    rungs: Sequence[Rung]
    callbacks: Sequence[Callback] = ()
    progress: Progress | None = None
    at_leisure: Callable[[], None] | None = None
    curve: list[tuple[float, float, float]] = field(default_factory=list)
    failed: str = ""

    def __post_init__(self) -> None:
        trials = self.history.trials
        self._number = 1 + max((trial.number for trial in trials), default=-1)
        self._jobs = [trial.job for trial in self.history.records]  # all that were begun
        self._submitted = len(trials)  # a trial limit counts those of earlier fits too
        self._stopped = False
        self._tried = {_frozen(t.family, t.config) for t in trials}
        self._waiting = [e for e in self.portfolio if _frozen(e.family, e.config) not in self._tried]
        self._optimiser: Optimiser | None = None
        self._suggestion: tuple[str, Config] | None = None  # thought of ahead
        self._started: dict[int, float] = {}
        self._live: dict[int, Trial] = {}  # kept steps of trials in the works
        self._blended = 0.0  # when the last interim ensemble was built
        self._to_blend = False

    @property
    def reserve(self) -> float:
        """Seconds kept back for the last ensemble and for opening its models."""
        return min(0.12 * self.clock.budget, 0.15 + 0.003 * self.clock.budget + 2 * self.builder.seconds)

    def run(self) -> Ensemble | None:
        """Search until the time, the trials or the ideas end, a callback says so, or the user interrupts.

        Returns
        -------
        Ensemble or None
            The final one; None where no trial is usable.
        """
        try:
            while not self._over():
                self._fill()
                if self._to_blend:  # only now that every worker has something to do
                    self._blend()
                event = self.pool.wait(min(TICK_SECONDS, max(0.0, self.left)))
                if event is None:
                    self._use_the_pause()
                elif event.kind == "unfit":
                    self.failed = event.error
                    break
                elif event.trial is not None:
                    self._hear(event.trial, ended=event.kind == "done")
        except KeyboardInterrupt:
            self._stopped = True  # fit returns with what there is; a second one raises
        except WorkerError as error:
            self.failed = str(error)
            warnings.warn(f"The search ended early: {error}", stacklevel=2)
        self._cut_off()
        return self.builder.build(self.history.trials, finish=True)

    @property
    def left(self) -> float:
        """Seconds left to search. The grace of a budget is used only while there is no model at all."""
        seconds = self.clock.left(self.reserve)
        if self._live or any(trial.usable for trial in self.history.records):
            return seconds
        return seconds + max(2.0, 0.05 * self.clock.budget) - GRACE_KEPT

    def _over(self) -> bool:
        if self._stopped or self.left <= 0:
            return True
        spent = self.settings.n_trials is not None and self._submitted >= self.settings.n_trials
        return not self.pool.running and (spent or not self._choices())

    def _choices(self) -> list[str]:
        """Families that have not proved hopeless."""
        ended = self._settled()
        usable = {trial.family for trial in ended if trial.usable}
        failures = [trial.family for trial in ended if not trial.usable and trial.status != "partial"]
        return [name for name in self.families if name in usable or failures.count(name) < _MOST_FAILURES]

    def _fill(self) -> None:
        n_trials = self.settings.n_trials
        while self.pool.idle and (n_trials is None or self._submitted < n_trials):
            if n_trials is None and self.left < SHORTEST_SECONDS:
                return
            job = self._next()
            if job is None:
                return
            self._submit(job)

    def _submit(self, job: Job) -> None:
        seconds = np.inf
        if self.settings.n_trials is None:
            # No trial may take the whole of a budget; one that went on has proved its worth.
            share = 0.3 if job.number == self._number else 0.6
            seconds = max(SHORTEST_SECONDS, min(self.left * 0.97 - 0.2, share * self.clock.budget))
        self.pool.submit(job, seconds, 1.0 + 0.05 * self.clock.budget)
        self._jobs.append(job)
        self._started.setdefault(job.number, self.clock.now())
        self._submitted += 1
        self._tried.add(_frozen(job.family, job.config))
        self._number = max(self._number, job.number + 1)
        self._announce()

    def _next(self) -> Job | None:
        if self._lagging():
            return None
        if len(self.rungs) > 1:
            up = promotion(self._settled(), self._jobs, self.rungs)
            if up is not None:
                return next_job(*up, self._number)
        if self.settings.n_trials is None and len(self.portfolio) - len(self._waiting) >= FIRST_PASS:
            on = self._worth_going_on(1)
            if on is not None:
                return on
        if self._waiting:
            slow = self._too_slow()
            entry = min(self._waiting, key=lambda entry: entry.family in slow)  # the first of the others, if any
            self._waiting.remove(entry)
            return self._fresh(entry.family, entry.config, "portfolio")
        if self.settings.n_trials is None:
            on = self._worth_going_on(_WORTH_GOING_ON)
            if on is not None:
                return on
        suggestion, self._suggestion = self._suggestion or self._suggest(), None
        return None if suggestion is None else self._fresh(*suggestion, "optimiser")

    def _fresh(self, family: str, config: Config, origin: str) -> Job:
        seed = int(np.random.SeedSequence([self.settings.seed, self._number]).generate_state(1)[0] % 2**31)
        return Job(self._number, family, dict(config), origin, seed, self.rungs[0].rows, self.rungs[0].share)

    def _settled(self) -> list[Trial]:
        """Give the records that may decide what comes next: all, or, with a trial limit, those a lag makes certain."""
        if self.settings.n_trials is None:
            return self.history.records
        certain = sorted(self.history.records, key=lambda trial: trial.number)
        return [trial for trial in certain if trial.number < self._number - LAG]

    def _suggest(self) -> tuple[str, Config] | None:
        allowed = self._choices()
        if not allowed:
            return None
        if self._optimiser is None:
            self._optimiser = Optimiser(self.families, self.problem.task, self.settings.seed, self.rungs)
        return self._optimiser.suggest(
            self._settled(), lambda family, config: family in allowed and _frozen(family, config) not in self._tried
        )

    def _lagging(self) -> bool:
        """Whether a job whose result must count for what comes next still runs."""
        return self.settings.n_trials is not None and any(job.number < self._number - LAG for job in self.pool.running)

    def _too_slow(self) -> set[str]:
        """Families that the clock always cut short before they were any good: others are tried before them."""
        ended = self._settled()
        best = min((trial.loss for trial in ended if trial.usable), default=np.inf)
        finished = {trial.family for trial in ended if trial.status == "done" or trial.loss <= best}
        return {trial.family for trial in ended if trial.status in ("partial", "timeout")} - finished

    def _worth_going_on(self, rank: int) -> Job | None:
        """Find a trial that the clock stopped, among the best up to a rank, with time to double it."""
        busy = {job.number for job in self.pool.running}
        top = [t for t in sorted(self.history.trials, key=lambda t: (t.loss, t.number)) if t.usable]
        for trial in top[:rank]:
            stopped = trial.status == "partial" and trial.number not in busy
            if stopped and self.left > 0.25 * trial.fit_seconds:
                return trial.job
        return None

    def _hear(self, trial: Trial, *, ended: bool) -> None:
        trial = replace(trial, started=self._started.get(trial.number, 0.0), ended=self.clock.now())
        first = self._blended == 0.0 and trial.usable
        self._live[trial.number] = trial
        if ended:
            del self._live[trial.number]
            self._record(trial)
        self._to_blend |= first or (ended and trial.usable and self._may_blend())

    def _record(self, trial: Trial) -> None:
        try:
            self.history.append(trial)
        except OSError as error:
            warnings.warn(f"The history of the run cannot be written ({error}); the search ends.", stacklevel=2)
            self._stopped = True
        if self.progress is not None:
            self.progress.trial(trial)
        self._announce()
        for callback in self.callbacks:
            self._stopped |= bool(callback(trial))

    def _may_blend(self) -> bool:
        """Interim ensembles may cost 2 % of the time."""
        return time.monotonic() - self._blended > max(2.0, 50 * self.builder.seconds)

    def _blend(self) -> None:
        trials = [*self.history.trials, *self._live.values()]
        ensemble = self.builder.build(trials)
        self._blended, self._to_blend = time.monotonic(), False
        if ensemble is not None:
            best = min(trial.loss for trial in trials if trial.usable)
            self.curve.append((self.clock.now(), best, ensemble.loss))

    def _use_the_pause(self) -> None:
        """Think of the next suggestion while all workers are busy."""
        if self.progress is not None:
            self.progress.tick()
        if self.at_leisure is not None:
            self.at_leisure()
            self.at_leisure = None
        if self._suggestion is None and not self._waiting and self.settings.n_trials is None:
            self._suggestion = self._suggest()

    def _announce(self) -> None:
        if self.progress is not None:
            self.progress.running([job.family for job in self.pool.running])

    def _cut_off(self) -> None:
        """End what still runs; the last kept step of each trial counts."""
        running = self.pool.running
        self.pool.close(keep=self.failed == "")
        for job in running:
            kept = kept_trial(self.builder.directory.trial(job.number))
            if kept is not None:  # what lies on disk may be newer than the last message
                started = self._started.get(job.number, 0.0)
                self._record(replace(kept, status="partial", error=None, started=started, ended=self.clock.now()))


def _frozen(family: str, config: Config) -> tuple[str, tuple[tuple[str, object], ...]]:
    return family, tuple(sorted(config.items()))


def describe_failures(trials: Sequence[Trial]) -> str:
    """Say what failed and why.

    Parameters
    ----------
    trials
        All trials of a run.

    Returns
    -------
    str
        One line for each family and reason.
    """
    reasons: dict[tuple[str, str, str], int] = {}
    for trial in trials:
        if not trial.usable:
            key = (trial.family, trial.status, trial.error or "")
            reasons[key] = reasons.get(key, 0) + 1
    lines = [f"  {family}: {status} x{count}: {error}" for (family, status, error), count in reasons.items()]
    return "\n".join(lines) or "  no trial was finished in the time budget"
