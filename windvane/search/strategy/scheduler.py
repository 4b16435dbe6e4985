"""Which trial is next. Pure decisions: no clock, no workers, no files.

In this order: a trial that is promoted to a higher rung; after a first pass through the families, the best trial if
its deadline stopped it; the next of the portfolio; another good trial that was stopped; a suggestion of the sampler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from windvane.data.task import Task
from windvane.models.base import Config, Family
from windvane.search.run.history import History
from windvane.search.strategy.halving import Rung, promote, promotion
from windvane.search.strategy.portfolio import PortfolioEntry
from windvane.search.strategy.sampler import ConfigSampler
from windvane.search.trial import Source, Trial, config_key, derive_seed

# With a trial limit, trial i is suggested from the results of trials 0 .. i - RESULT_LAG alone: the same for one worker
# as for up to RESULT_LAG of them.
RESULT_LAG = 8
FIRST_PASS = 5  # entries of the portfolio, of as many families, that come before any trial is resumed
MAX_FAILURES = 2  # of a family without a usable trial, before it is left out
MAX_RESUMED_RANK = 3  # only trials up to this rank are resumed


class Scheduler:
    """Chooses trials; `history` is shared with the search, which appends the results."""

    def __init__(
        self,
        task: Task,
        families: Mapping[str, Family],
        history: History,
        portfolio: Sequence[PortfolioEntry],
        rungs: Sequence[Rung],
        *,
        seed: int,
        n_trials: int | None = None,
    ) -> None:
        self.families, self.history, self.rungs = families, history, rungs
        self.seed, self.n_trials = seed, n_trials
        trials = history.trials
        self.next_number = 1 + max((trial.number for trial in trials), default=-1)
        self._submitted = [trial.without_results() for trial in history.records]
        self._n_submitted = len(trials)  # a trial limit counts those of earlier fits too
        self._evaluated = {trial.key for trial in trials}
        self._waiting = [entry for entry in portfolio if config_key(entry.family, entry.config) not in self._evaluated]
        self._portfolio = list(portfolio)
        self._sampler = ConfigSampler(families, task, seed, rungs)
        self._suggestion: tuple[str, Config] | None = None  # computed in advance

    @property
    def is_exhausted(self) -> bool:
        return self.n_trials is not None and self._n_submitted >= self.n_trials

    @property
    def active_families(self) -> list[str]:
        """Families that have a usable trial or have not failed too often."""
        ended = self.visible_trials
        usable = {trial.family for trial in ended if trial.usable}
        failures = [trial.family for trial in ended if not trial.usable and trial.status != "stopped"]
        return [name for name in self.families if name in usable or failures.count(name) < MAX_FAILURES]

    @property
    def always_stopped_families(self) -> set[str]:
        """Families that were always stopped before they were any good: others come before them."""
        ended = self.visible_trials
        best = min((trial.loss for trial in ended if trial.usable), default=np.inf)
        finished = {trial.family for trial in ended if trial.status == "done" or trial.loss <= best}
        return {trial.family for trial in ended if trial.status in ("stopped", "timeout")} - finished

    @property
    def visible_trials(self) -> list[Trial]:
        """Records that may decide what is next: all, or, with a trial limit, those that the lag makes certain."""
        if self.n_trials is None:
            return self.history.records
        certain = sorted(self.history.records, key=lambda trial: trial.number)
        return [trial for trial in certain if trial.number < self.next_number - RESULT_LAG]

    def next_trial(self, running: Sequence[Trial], seconds_left: float) -> Trial | None:
        """Return the next trial; None if nothing is left to train, or a running trial must end first."""
        if self.is_exhausted or self._must_wait(running):
            return None
        if len(self.rungs) > 1:
            promoted = promotion(self.visible_trials, self._submitted, self.rungs)
            if promoted is not None:
                return promote(*promoted, self.next_number)
        if len(self._portfolio) - len(self._waiting) >= FIRST_PASS:
            stopped = self._stopped_trial(1, running, seconds_left)
            if stopped is not None:
                return stopped
        if self._waiting:
            slow = self.always_stopped_families
            entry = min(self._waiting, key=lambda entry: entry.family in slow)  # the first of the others, if any
            self._waiting.remove(entry)
            return self._new_trial(entry.family, entry.config, "portfolio")
        stopped = self._stopped_trial(MAX_RESUMED_RANK, running, seconds_left)
        if stopped is not None:
            return stopped
        suggestion, self._suggestion = self._suggestion or self._suggest(), None
        return None if suggestion is None else self._new_trial(*suggestion, "sampler")

    def first_config(self, family: str) -> Config:
        """Return the first configuration of a family in the portfolio; without one its defaults."""
        return next((entry.config for entry in self._portfolio if entry.family == family), {})

    def register(self, trial: Trial) -> None:
        self._submitted.append(trial.without_results())
        self._n_submitted += 1
        self._evaluated.add(trial.key)
        self.next_number = max(self.next_number, trial.number + 1)

    def suggest_in_advance(self) -> None:
        """Compute the next suggestion while all workers are busy."""
        if self._suggestion is None and not self._waiting and self.n_trials is None:
            self._suggestion = self._suggest()

    def _must_wait(self, running: Sequence[Trial]) -> bool:
        """Whether a trial whose result must count for the next one still runs."""
        return self.n_trials is not None and any(t.number < self.next_number - RESULT_LAG for t in running)

    def _new_trial(self, family: str, config: Config, source: Source) -> Trial:
        number, first = self.next_number, self.rungs[0]
        seed = derive_seed(self.seed, number)
        return Trial(number, family, dict(config), source, seed, first.n_rows, first.iteration_fraction)

    def _stopped_trial(self, max_rank: int, running: Sequence[Trial], seconds_left: float) -> Trial | None:
        """Return a trial among the best that was stopped, if there is time to double it."""
        if self.n_trials is not None:
            return None
        numbers = {trial.number for trial in running}
        ranked = [t for t in sorted(self.history.trials, key=lambda t: (t.loss, t.number)) if t.usable]
        for trial in ranked[:max_rank]:
            stopped = trial.status == "stopped" and trial.number not in numbers
            if stopped and seconds_left > 0.25 * trial.fit_seconds:
                return trial.without_results()
        return None

    def _suggest(self) -> tuple[str, Config] | None:
        active = self.active_families
        if not active:
            return None
        return self._sampler.suggest(
            self.visible_trials,
            lambda family, config: family in active and config_key(family, config) not in self._evaluated,
        )
