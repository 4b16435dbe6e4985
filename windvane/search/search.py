"""The event loop of a search: keeps all workers busy until the budget ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from windvane.errors import DiskError, WindvaneError, WorkerError, warn_user
from windvane.evaluation.metrics import Metric
from windvane.models import LAST_RESORT
from windvane.models.base import Config, Family
from windvane.models.targets.multi_target import for_task
from windvane.persistence import Predictor
from windvane.runtime.ensemble import Ensemble
from windvane.search.ensemble_selection import EnsembleBuilder
from windvane.search.run.checkpoint import read_checkpoint
from windvane.search.run.history import PerformanceCurve
from windvane.search.run.history_writer import HistoryWriter
from windvane.search.strategy.budget import Budget
from windvane.search.strategy.scheduler import Scheduler
from windvane.search.train_trial import train_trial
from windvane.search.trial import Trial
from windvane.search.workers.dask_pool import DaskPool
from windvane.search.workers.pool import WorkerPool
from windvane.stop_signals import NEVER, StopRequest

TICK_SECONDS = 0.2
SECONDS_FOR_OPENING = 0.3  # of the grace, kept for opening the models
# Seconds of a core for the end: workers die, the ensemble is built, evaluated and written.
ENDING_CORE_SECONDS = 0.15
OPENING_MARGIN = 1.5  # times the seconds that opening the models of an interim ensemble took
MAX_RESERVE = 0.12  # of the budget, kept back for the end
MAX_MEASURED_RESERVE = 0.2  # the same where it was measured that the end takes so long
# Of the budget that a trial may take; the `budget_fraction` of a family replaces that of new trials.
NEW_TRIAL_FRACTION, RESUMED_TRIAL_FRACTION = 0.3, 0.6
# Where no worker has sent a model after so many seconds or this share of the budget, this process trains one itself;
# at once where a second of a core takes more than BUSY seconds, so that workers will be late.
FIRST_MODEL_SECONDS, FIRST_MODEL_SHARE, BUSY = 25.0, 0.8, 3.0
MIN_SMALL_ROWS, MAX_SMALL_ROWS, MIN_SMALL_CELLS = 100, 1_000, 50_000  # a cell: one row of one column for one output
# What it may take of the budget; the seconds of a core that its libraries and each cell take.
SMALL_SHARE, SMALL_CORE_SECONDS, CELL_CORE_SECONDS = 0.25, 0.7, 6e-7
MIN_TRIAL_SECONDS = 0.5  # a trial with less time is not started

Callback = Callable[[Trial], object]


class SearchListener:
    """Receives the events of a search; a progress display overrides those that it shows."""

    def start(self, budget_seconds: float, n_workers: int, metric: Metric) -> None:
        """Called when the search begins."""

    def resume(self, trials: Sequence[Trial]) -> None:
        """Called with the trials of earlier fits."""

    def note(self, text: str) -> None:
        """Called with a remark for the user."""

    def running(self, families: Sequence[str]) -> None:
        """Called when the set of running trials changes."""

    def trial(self, trial: Trial) -> None:
        """Called when a trial has ended."""

    def tick(self) -> None:
        """Called a few times a second."""


class Search:
    """One search. A callback that returns True ends it.

    While all workers are busy `idle_callback` runs once, and `open_models` opens the models of an interim ensemble, to
    know how long that will take in the end. `kept_seconds` of the budget are kept back for what follows the search.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        pool: WorkerPool | DaskPool,
        builder: EnsembleBuilder,
        budget: Budget,
        *,
        listener: SearchListener,
        open_models: Callable[[Ensemble], Predictor],
        callbacks: Sequence[Callback] = (),
        idle_callback: Callable[[], None] | None = None,
        kept_seconds: float = 0.0,
        stop: StopRequest = NEVER,
    ) -> None:
        self.scheduler, self.pool, self.builder, self.budget = scheduler, pool, builder, budget
        self.history = scheduler.history
        self.listener, self.callbacks, self.idle_callback, self.stop = listener, callbacks, idle_callback, stop
        self.open_models, self.kept_seconds = open_models, kept_seconds
        self.opening_seconds = 0.0  # that the models of the last interim ensemble took to open
        self.curve: PerformanceCurve = []
        self.error = ""  # why the search could not continue
        self.interrupted = False
        self.writer = HistoryWriter(builder.directory, self.history)
        self._stopped = False
        self._started: dict[int, float] = {}  # by number of the trial
        self._live: dict[int, Trial] = {}  # last checkpoints of running trials
        self._ensemble_updated = 0.0  # instant of the last interim ensemble
        self._ensemble_is_due = False
        self._tried_here = False
        self._unopened: Ensemble | None = None  # the last interim ensemble
        self._opened: set[str] = set()  # families whose models were opened once

    def run(self) -> Ensemble | None:
        """Search until the time or the trials end, a callback returns True, or Ctrl-C; None if no trial is usable."""
        try:
            while not self._is_finished():
                if self.writer.error is not None:
                    self.error = f"The run cannot be written: {self.writer.error}."
                    break
                while (trial := self._next_trial()) is not None:
                    seconds, grace = self._seconds_for(trial), 1.0 + 0.05 * self.budget.seconds
                    self.pool.submit(replace(trial, status="running"), seconds, grace)
                    self.scheduler.register(trial)
                    self._started.setdefault(trial.number, self.budget.now())
                    self._announce()
                if self._ensemble_is_due:  # only now that every worker is busy
                    self._update_ensemble()
                if self._needs_first_model and not self._tried_here:
                    self._tried_here = True
                    self._train_small_model()
                    continue
                event = self.pool.next_event(min(TICK_SECONDS, max(0.0, self.seconds_left)))
                if event is None:
                    self._on_idle()
                elif event.kind == "worker_error":
                    self.error = event.error
                    break
                elif event.trial is not None:
                    self._on_trial(event.trial, finished=event.kind == "finished")
        except WorkerError as error:
            self.error = str(error)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not self.stop.requested:
                self.interrupted = True  # fit returns with the trials so far
            else:  # a second signal, or an error of a callback
                self._stop_running()
                self.writer.close(1.0)
                raise
        self._stop_running()
        return self._build_last_ensemble()

    def _build_last_ensemble(self) -> Ensemble | None:
        """Build the ensemble of all trials, with a constant if there was no time for any; None if none is usable."""
        if self._ran_out_of_time:
            self._predict_constant()
        self._limit_builder()
        ensemble = self.builder.build(self.history.trials, finish=True)
        self.writer.close(max(1.0, self.budget.left()))
        if self.writer.error is not None and not self.error:
            self.error = f"The run cannot be written: {self.writer.error}."
        if self.error and ensemble is not None:
            warn_user(
                f"The search ended early: {self.error} The model of the trials so far is returned; in memory it "
                "predicts, and save() keeps it elsewhere.",
            )
        return ensemble

    @property
    def seconds_left(self) -> float:
        """Seconds left to search. The grace of a budget is used only while there is no model at all."""
        # Kept back for the end of the workers, for the last ensemble and for opening its models.
        delay = ENDING_CORE_SECONDS * (self.budget.slowdown - 1.0)  # beyond what the end takes on an idle core
        measured = 2 * self.builder.seconds + OPENING_MARGIN * self.opening_seconds + delay
        fixed = 0.15 + 0.003 * self.budget.seconds + self.pool.closing_seconds
        reserve = min(MAX_RESERVE * self.budget.seconds, measured + fixed)
        reserve = max(reserve, min(MAX_MEASURED_RESERVE * self.budget.seconds, measured)) + self.kept_seconds
        seconds = self.budget.left(reserve)
        if self._has_model:
            return seconds
        grace = max(2.0, 0.05 * self.budget.seconds) - SECONDS_FOR_OPENING - self.pool.closing_seconds
        return seconds + max(0.0, grace)

    @property
    def _has_model(self) -> bool:
        return bool(self._live) or any(trial.usable for trial in self.history.records)

    @property
    def _needs_first_model(self) -> bool:
        """Whether it is time for a model, and no worker has sent one: the machine is busy, or the models are slow."""
        first = min(FIRST_MODEL_SECONDS, FIRST_MODEL_SHARE * self.budget.seconds)
        first = 0.0 if self.budget.slowdown > BUSY else first
        return self._has_clock and not self._has_model and self.budget.left() <= self.budget.seconds - first

    @property
    def _ran_out_of_time(self) -> bool:
        """Whether there is no model because the time ended, and not because each one failed."""
        ended = {trial.status for trial in self.history.records}
        all_failed = bool(ended) and ended <= {"failed", "crashed", "out_of_memory"}
        return not (self._has_model or all_failed or self.error or self.interrupted or self._stopped)

    @property
    def _has_clock(self) -> bool:
        return self.scheduler.n_trials is None

    def _is_finished(self) -> bool:
        self.interrupted |= self.stop.requested
        if self._stopped or self.interrupted or self.seconds_left <= 0:
            return True
        return not self.pool.running and (self.scheduler.is_exhausted or not self.scheduler.active_families)

    def _next_trial(self) -> Trial | None:
        """Return the trial to submit; None while no worker is idle, and where there is no time or no configuration."""
        if not self.pool.has_idle_worker or (self._has_clock and self.seconds_left < MIN_TRIAL_SECONDS):
            return None
        return self.scheduler.next_trial(self.pool.running, self.seconds_left)

    def _seconds_for(self, trial: Trial) -> float:
        """Return the seconds that a trial may take, never the whole budget; infinity where there is no clock."""
        if not self._has_clock:
            return np.inf
        family = self.scheduler.families[trial.family]
        fraction = float(getattr(family, "budget_fraction", NEW_TRIAL_FRACTION))
        if trial.number != self.scheduler.next_number:  # a resumed one has proved its worth
            fraction = max(fraction, RESUMED_TRIAL_FRACTION)
        return max(MIN_TRIAL_SECONDS, min(self.seconds_left * 0.97 - 0.2, fraction * self.budget.seconds))

    def _on_trial(self, trial: Trial, *, finished: bool) -> None:
        trial = replace(trial, started=self._started.get(trial.number, 0.0), ended=self.budget.now())
        is_first = self._ensemble_updated == 0.0 and trial.usable
        self._live[trial.number] = trial
        if finished:
            del self._live[trial.number]
            self._record(trial)
        else:
            self.writer.put(trial, ended=False)
        # Interim ensembles may cost 2 % of the time.
        pause = max(2.0, 50 * self.builder.seconds)
        is_time = time.monotonic() - self._ensemble_updated > pause
        self._ensemble_is_due |= is_first or (finished and trial.usable and is_time)

    def _record(self, trial: Trial) -> None:
        self.history.append(trial)
        self.writer.put(trial, ended=True)
        self.listener.trial(trial)
        self._announce()
        for callback in self.callbacks:
            self._stopped |= bool(callback(trial))

    def _update_ensemble(self) -> None:
        trials = [*self.history.trials, *self._live.values()]
        self._limit_builder()
        ensemble = self._unopened = self.builder.build(trials)
        self._ensemble_updated, self._ensemble_is_due = time.monotonic(), False
        if ensemble is not None:
            best = min(trial.loss for trial in trials if trial.usable)
            self.curve.append((self.budget.now(), best, ensemble.loss))

    def _limit_builder(self) -> None:
        """With a limit on trials an ensemble may take the time that is left: only a budget that ends cuts it."""
        if not self._has_clock:
            self.builder.counts_time = False
            self.builder.max_seconds = max(0.02 * self.budget.seconds, self.budget.left())

    def _on_idle(self) -> None:
        self.listener.tick()
        if self.idle_callback is not None:
            self.idle_callback()
            self.idle_callback = None
        elif self._unopened is not None:
            ensemble, self._unopened = self._unopened, None
            self._measure_opening(ensemble)
        self.scheduler.suggest_in_advance()

    def _measure_opening(self, ensemble: Ensemble) -> None:
        """Open the models of an ensemble with families that no earlier one had: their libraries are loaded then."""
        families = {member.family for member in ensemble.members}
        if not self._has_clock or families <= self._opened:
            return
        started = time.monotonic()
        try:
            self.open_models(ensemble)
        except (WindvaneError, OSError):  # a newer checkpoint has replaced one of its models
            return
        self._opened |= families
        self.opening_seconds = time.monotonic() - started

    def _train_small_model(self) -> None:
        """Train a linear model on a few rows in this process: any real model is better than a constant."""
        task, table = self.builder.problem.task, self.builder.problem.table
        family = self.scheduler.families.get("linear")
        if family is None or table.texts:
            return
        n_columns = max(1, table.n_columns + sum(table.cardinalities))
        seconds = max(0.0, min(SMALL_SHARE * self.budget.seconds, self.seconds_left))
        n_cells = (seconds / self.budget.slowdown - SMALL_CORE_SECONDS) / CELL_CORE_SECONDS
        n_rows = max(MIN_SMALL_CELLS, n_cells) / (n_columns * task.n_outputs)
        n_rows = int(np.clip(n_rows, MIN_SMALL_ROWS, MAX_SMALL_ROWS))
        deadline = time.monotonic() + max(seconds, MIN_TRIAL_SECONDS)
        self._train_here(family, self.scheduler.first_config("linear"), n_rows, deadline)

    def _predict_constant(self) -> None:
        """Train the model that predicts a constant, and warn that it does."""
        task = self.builder.problem.task
        if not self._train_here(for_task(LAST_RESORT, task), {}, None):
            return
        what = "the frequencies of the classes" if task.kind != "regression" else "the mean"
        what = what if task.quantile is None else f"the quantile {task.quantile:g}"
        warn_user(
            f"No model was trained in the {self.budget.seconds:g} s of the search: this one predicts {what} "
            "for every row. The machine may be busy, or the budget too short for the data: call resume, or give "
            "more time.",
        )

    def _train_here(self, family: Family, config: Config, n_rows: int | None, deadline: float = np.inf) -> bool:
        """Train a configuration in this process, and return whether it is usable."""
        number = max([self.scheduler.next_number, *(trial.number + 1 for trial in self.pool.running)])
        trial = Trial(number, family.name, dict(config), "portfolio", seed=0, n_rows=n_rows)
        started, folder = self.budget.now(), self.builder.directory.trial(number)
        try:
            trained = train_trial(trial, self.builder.problem, family, folder, lambda one: None, deadline=deadline)
        except DiskError as error:
            self.error = str(error)
            return False
        if trained.usable:
            self.scheduler.register(trial)
            self._record(replace(trained, started=started, ended=self.budget.now()))
        return trained.usable

    def _announce(self) -> None:
        self.listener.running([trial.family for trial in self.pool.running])

    def _stop_running(self) -> None:
        """End what still runs; the last checkpoint of each trial counts."""
        running = self.pool.running
        self.pool.close(keep=self.error == "")
        for trial in running:
            saved = read_checkpoint(self.builder.directory.trial(trial.number))
            if saved is not None:  # may be newer than the last event
                started = self._started.get(trial.number, 0.0)
                self._record(replace(saved, status="stopped", error=None, started=started, ended=self.budget.now()))
