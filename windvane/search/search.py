"""The event loop of a search: keeps all workers busy until the budget ends."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from windvane.errors import DiskError, WorkerError
from windvane.models import LAST_RESORT
from windvane.models.base import Family
from windvane.models.targets.multi_target import for_task
from windvane.runtime.ensemble import Ensemble
from windvane.search.ensemble_selection import EnsembleBuilder
from windvane.search.run.checkpoint import read_checkpoint
from windvane.search.run.history import PerformanceCurve
from windvane.search.run.history_writer import HistoryWriter
from windvane.search.strategy.scheduler import Scheduler
from windvane.search.train_trial import train_trial
from windvane.search.trial import Trial
from windvane.search.workers.dask_pool import DaskPool
from windvane.search.workers.pool import WorkerPool
from windvane.stop_signals import NEVER, StopRequest

TICK_SECONDS = 0.2
SECONDS_FOR_OPENING = 0.3  # of the grace that are left for opening the models
# Of the budget that a trial may take; the `budget_fraction` of a family says otherwise for new ones.
NEW_TRIAL_FRACTION, RESUMED_TRIAL_FRACTION = 0.3, 0.6
# Size of the model that this process trains where no worker has sent one in time: it takes a tenth of a second.
SMALL_CELLS, MIN_SMALL_ROWS, MAX_SMALL_ROWS = 50_000, 100, 1_000
MIN_TRIAL_SECONDS = 0.5  # a trial with less time is not started

Callback = Callable[[Trial], object]


@dataclass(frozen=True)
class Budget:
    """When the search must end."""

    started: float  # of this fit, a `time.monotonic` instant
    seconds: float  # that the fit may take
    earlier: float = 0.0  # seconds that earlier fits of the same run took

    def left(self, reserve: float = 0.0) -> float:
        """Return the seconds until the end of the budget, less a reserve."""
        return self.started + self.seconds - reserve - time.monotonic()

    def now(self) -> float:
        """Return the seconds since the start of the run."""
        return self.earlier + time.monotonic() - self.started


class SearchListener:
    """Is told what a search does; a progress display overrides what it shows."""

    def running(self, families: Sequence[str]) -> None:
        """Called when the set of running trials changes."""

    def trial(self, trial: Trial) -> None:
        """Called when a trial has ended."""

    def tick(self) -> None:
        """Called a few times a second."""


class Search:
    """One search. A callback that returns True ends it; `idle_callback` runs once while all workers are busy."""

    def __init__(
        self,
        scheduler: Scheduler,
        pool: WorkerPool | DaskPool,
        builder: EnsembleBuilder,
        budget: Budget,
        *,
        callbacks: Sequence[Callback] = (),
        listener: SearchListener | None = None,
        idle_callback: Callable[[], None] | None = None,
        opening_seconds: float = 0.0,
        stop: StopRequest = NEVER,
    ) -> None:
        self.scheduler, self.pool, self.builder, self.budget = scheduler, pool, builder, budget
        self.history = scheduler.history
        self.callbacks, self.idle_callback, self.stop = callbacks, idle_callback, stop
        self.listener = SearchListener() if listener is None else listener
        self.opening_seconds = opening_seconds  # kept back for models that take long to open
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

    def run(self) -> Ensemble | None:
        """Search until the time or the trials end, a callback says so, or Ctrl-C; None if no trial is usable."""
        try:
            while not self._is_finished():
                if self.writer.error is not None:
                    self.error = f"The run cannot be written: {self.writer.error}."
                    break
                self._submit_trials()
                if self._ensemble_is_due:  # only now that every worker is busy
                    self._update_ensemble()
                if self._has_grace_alone and not self._tried_here:
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
        if self._ran_out_of_time:
            self._predict_constant()
        self._limit_builder()
        ensemble = self.builder.build(self.history.trials, finish=True)
        self.writer.close(max(1.0, self.budget.left()))
        if self.writer.error is not None and not self.error:
            self.error = f"The run cannot be written: {self.writer.error}."
        if self.error and ensemble is not None:
            warnings.warn(
                f"The search ended early: {self.error} The model of the trials so far is returned; in memory it "
                "predicts, and save() keeps it elsewhere.",
                stacklevel=2,
            )
        return ensemble

    @property
    def seconds_left(self) -> float:
        """Seconds left to search. The grace of a budget is used only while there is no model at all."""
        # Kept back for the end of the workers, for the last ensemble and for opening its models.
        reserve = 0.15 + 0.003 * self.budget.seconds + 2 * self.builder.seconds + self.opening_seconds
        reserve = min(0.12 * self.budget.seconds, reserve + self.pool.closing_seconds)
        seconds = self.budget.left(reserve)
        if self._has_model:
            return seconds
        grace = max(2.0, 0.05 * self.budget.seconds) - SECONDS_FOR_OPENING - self.pool.closing_seconds
        return seconds + max(0.0, grace)

    @property
    def _has_model(self) -> bool:
        return bool(self._live) or any(trial.usable for trial in self.history.records)

    @property
    def _has_grace_alone(self) -> bool:
        """Whether the budget is over, and no worker has sent a model: the machine is busy, or the models are slow."""
        return not self._has_model and self.budget.left() <= 0

    @property
    def _ran_out_of_time(self) -> bool:
        """Whether there is no model because the time ended, and not because each one failed."""
        failures = ("failed", "crashed", "out_of_memory")
        ended = [trial.status for trial in self.history.records]
        in_vain = bool(ended) and all(status in failures for status in ended)
        return not (self._has_model or in_vain or self.error or self.interrupted or self._stopped)

    @property
    def _has_clock(self) -> bool:
        return self.scheduler.n_trials is None

    def _is_finished(self) -> bool:
        self.interrupted |= self.stop.requested
        if self._stopped or self.interrupted or self.seconds_left <= 0:
            return True
        return not self.pool.running and (self.scheduler.is_exhausted or not self.scheduler.active_families)

    def _submit_trials(self) -> None:
        while self.pool.has_idle_worker:
            if self._has_clock and self.seconds_left < MIN_TRIAL_SECONDS:
                return
            trial = self.scheduler.next_trial(self.pool.running, self.seconds_left)
            if trial is None:
                return
            seconds = np.inf
            if self._has_clock:
                # No trial may take the whole of a budget; a resumed one has proved its worth.
                fraction = max(
                    getattr(self.scheduler.families[trial.family], "budget_fraction", NEW_TRIAL_FRACTION),
                    0.0 if trial.number == self.scheduler.next_number else RESUMED_TRIAL_FRACTION,
                )
                seconds = max(MIN_TRIAL_SECONDS, min(self.seconds_left * 0.97 - 0.2, fraction * self.budget.seconds))
            self.pool.submit(replace(trial, status="running"), seconds, grace=1.0 + 0.05 * self.budget.seconds)
            self.scheduler.register(trial)
            self._started.setdefault(trial.number, self.budget.now())
            self._announce()

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
        ensemble = self.builder.build(trials)
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
        self.scheduler.suggest_in_advance()

    def _train_small_model(self) -> None:
        """Train a linear model on a few rows in this process: any real model is better than a constant."""
        problem = self.builder.problem
        if "linear" in self.scheduler.families and not problem.table.texts and self._has_clock:
            n_columns = max(1, problem.table.n_columns + sum(problem.table.cardinalities))
            n_rows = int(np.clip(SMALL_CELLS / (n_columns * problem.task.n_outputs), MIN_SMALL_ROWS, MAX_SMALL_ROWS))
            self._train_here(self.scheduler.families["linear"], n_rows)

    def _predict_constant(self) -> None:
        """Have a model at last, and say what it is."""
        task = self.builder.problem.task
        if self._train_here(for_task(LAST_RESORT, task), None):
            what = "the frequencies of the classes" if task.kind != "regression" else "the mean"
            what = what if task.quantile is None else f"the quantile {task.quantile:g}"
            warnings.warn(
                f"No model was trained within the time budget of {self.budget.seconds:g} s: this one predicts {what} "
                "for every row. The machine may be busy, or the budget too short for the data: call resume, or give "
                "more time.",
                stacklevel=2,
            )

    def _train_here(self, family: Family, n_rows: int | None) -> bool:
        """Train a configuration of defaults in this process; whether a model came out."""
        number = max([self.scheduler.next_number, *(trial.number + 1 for trial in self.pool.running)])
        trial = Trial(number, family.name, {}, "portfolio", seed=0, n_rows=n_rows)
        started, folder = self.budget.now(), self.builder.directory.trial(number)
        try:
            trained = train_trial(trial, self.builder.problem, family, folder, lambda one: None)
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
