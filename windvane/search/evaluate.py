"""One configuration evaluated: grown step by step on all folds together, every step kept.

The folds advance side by side, so whatever ends a trial, its last finished step predicts all validation rows and
can enter the ensemble (Auto-Sklearn 2.0, section 3.2: intermediate results are its largest single gain). A step is
safe on disk, by an atomic rename, before the next begins. This is the only place that catches failures of models.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.models.base import Family, Model, Part, Setting
from windvane.runtime.table import Integers
from windvane.search.run import Problem, write_json
from windvane.search.trial import Job, Trial

Prediction = NDArray[np.floating[Any]]

# Steps that take less than this are joined: keeping each would cost more than repeating it.
SHORTEST_STEP = 1.0


@dataclass(frozen=True)
class Limits:
    """What a trial may use, and what ends it early.

    Attributes
    ----------
    until
        `time.monotonic` instant to stop growing at; infinity: no clock.
    threads
        For the libraries.
    """

    until: float = np.inf
    threads: int = 1


@dataclass
class Meter:
    """Seconds spent inside the models' methods."""

    fit: float = 0.0
    predict: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Add what the block takes to the fit and CPU seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.fit += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu

    @contextmanager
    def predicting(self) -> Iterator[None]:
        """Add what the block takes to the predict and CPU seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.predict += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def evaluate(
    job: Job, problem: Problem, family: Family, folder: Path, limits: Limits, report: Callable[[Trial], None]
) -> Trial:
    """Train a configuration on every fold and keep each step.

    Parameters
    ----------
    job
        What to train. Where `folder` holds a step of it, training goes on from there.
    problem
        Data, folds and metric.
    family
        The family of the job.
    folder
        The trial's own folder; made where it is missing.
    limits
        Time and threads.
    report
        Gets the trial after each kept step.

    Returns
    -------
    Trial
        What came of it. A failure of the model is a status, never an exception, and what was kept still counts.
    """
    trial = Trial.of(job, "partial", error="no step was finished on every fold in its time")
    try:
        kept = kept_trial(folder)
        if kept is not None:
            trial = replace(kept, share=job.share, status="partial", error=None)
        # A step whose record cannot be read is not gone on with.
        training = _Training(job, problem, family, limits, None if kept is None else latest_step(folder))
        if kept is not None:
            training.meter = Meter(kept.fit_seconds, kept.predict_seconds, kept.cpu_seconds)
        training.start()
        for trial in _steps(training, folder):
            report(trial)
    except MemoryError as error:
        return replace(trial, status="memory", error=f"out of memory: {error}".rstrip(": "))
    except Exception as error:  # whatever a library or a user's family raises ends this trial only
        return replace(trial, status="failed", error=f"{type(error).__name__}: {error}"[:2000])
    return trial


class _Training:
    """The models of a job, one for each fold, and what they cost.

    Attributes
    ----------
    full, last
        Totals of iterations of the family's steps, and that at which this job ends.
    """

    def __init__(self, job: Job, problem: Problem, family: Family, limits: Limits, kept: Path | None) -> None:
        self.job, self.problem, self.family, self.limits, self.kept = job, problem, family, limits, kept
        self.full = family.steps(job.config, problem.task)
        self.last = max(1, round(self.full[-1] * job.share))
        self.models: list[Model] = []
        self.meter = Meter()
        self._final: dict[int, Prediction] = {}  # of folds that grow no further

    def start(self) -> None:
        """Make the models, one for each fold."""
        for i in range(len(self.problem.folds)):
            with self.meter.fitting():
                self.models.append(self._model(i))

    def complete(self, i: int) -> bool:
        """Whether a fold grows no further in this job."""
        return self.models[i].finished or self.models[i].iterations >= self.last

    def predict(self, i: int) -> Prediction:
        """Predict the validation part of a fold, in the precision in which it is judged and kept."""
        if i in self._final:
            return self._final[i]
        task, rows = self.problem.task, self.problem.folds[i].valid
        with self.meter.predicting():
            found = np.asarray(self.models[i].predict(self.problem.table.take(rows)))
        shape = (len(rows), task.n_classes) if task.is_classification else (len(rows),)
        if found.shape != shape:
            raise ValueError(f"predict gave an array of shape {found.shape}, but must give {shape}")
        # Numbers may vary little around a large mean.
        found = found.astype(np.float32 if task.is_classification else np.float64)
        if self.complete(i):
            self._final[i] = found
        return found

    def judged(self, fold_losses: Sequence[float]) -> Trial:
        """Make the record of the folds so far."""
        return replace(
            Trial.of(self.job, "partial"),
            fold_losses=tuple(fold_losses),
            fit_seconds=self.meter.fit,
            predict_seconds=self.meter.predict,
            cpu_seconds=self.meter.cpu,
        )

    def _model(self, i: int) -> Model:
        job, problem = self.job, self.problem
        fold = problem.folds[i]
        train = fold.train if job.rows is None else sample_rows(problem, fold.train, job.rows)
        seed = int(np.random.SeedSequence([job.seed, i]).generate_state(1)[0] % 2**31)
        setting = Setting(problem.task, seed, self.limits.threads)
        kept = None if self.kept is None else self.kept / f"fold_{i}"
        return self.family.start(job.config, part(problem, train), part(problem, fold.valid), setting, kept)


def _steps(training: _Training, folder: Path) -> Iterator[Trial]:
    models, last, limits = training.models, training.last, training.limits
    latest = latest_step(folder)
    number = 0 if latest is None else int(latest.name.removeprefix("step_")) + 1
    total = min((model.iterations for i, model in enumerate(models) if not training.complete(i)), default=last)
    totals = [step for step in training.full if total < step < last] + [last]
    while totals:
        from_total, seconds = total, training.meter.fit
        total = totals.pop(0)
        with training.meter.fitting():
            for model in models:
                if not model.finished and model.iterations < total:
                    model.grow(total, limits.until)
        if any(model.iterations == 0 for model in models):
            return  # the time ended inside the first step
        complete = all(training.complete(i) for i in range(len(models)))
        parts = [training.predict(i) for i in range(len(models))]
        trial = _judge(training, parts)
        trial = replace(
            trial,
            status="done" if complete else "partial",
            step=f"step_{number:04d}",
            iterations=tuple(model.best_iteration for model in models),
        )
        _keep(trial, models, parts, folder)
        yield trial
        if complete or time.monotonic() >= limits.until:
            return
        number += 1
        # Doublings too short to be worth keeping are joined. This changes nothing in the model.
        pace = (training.meter.fit - seconds) / max(1, total - from_total)
        while len(totals) > 1 and (totals[0] - total) * pace < SHORTEST_STEP:
            totals.pop(0)


def part(problem: Problem, rows: Integers) -> Part:
    """Cut some rows out of the problem.

    Parameters
    ----------
    problem
        All rows.
    rows
        Positions.

    Returns
    -------
    Part
        Copies of those rows.
    """
    weight = None if problem.weight is None else problem.weight[rows]
    return Part(problem.table.take(rows), problem.target[rows], weight)


def sample_rows(problem: Problem, train: Integers, n_rows: int) -> Integers:
    """Draw some of the training rows, every class among them; a larger draw contains the smaller ones.

    Parameters
    ----------
    problem
        Gives target and seed.
    train
        Positions to draw from, shape (n,).
    n_rows
        How many.

    Returns
    -------
    ndarray
        Positions in ascending order, shape (min(n, max(n_rows, n_classes)),).
    """
    order = np.random.default_rng(problem.seed).permutation(len(train))
    if problem.task.is_classification:
        # The first row of each class comes first, so that no sample lacks a class.
        _, first = np.unique(problem.target[train[order]], return_index=True)
        order = np.concatenate([order[first], np.delete(order, first)])
        n_rows = max(n_rows, len(first))
    return np.sort(train[order[:n_rows]])


def _judge(training: _Training, parts: list[Prediction]) -> Trial:
    problem = training.problem
    pairs = zip(parts, problem.folds, strict=True)
    trial = training.judged([_loss(problem, prediction, fold.valid) for prediction, fold in pairs])
    return replace(trial, loss=_loss(problem, np.concatenate(parts), problem.valid_rows))


def _loss(problem: Problem, prediction: Prediction, rows: Integers) -> float:
    loss = problem.loss(prediction.astype(np.float64), rows) if np.isfinite(prediction).all() else math.inf
    return float(loss) if math.isfinite(loss) else math.inf


def latest_step(folder: Path) -> Path | None:
    """Find the last kept step of a trial.

    Parameters
    ----------
    folder
        The trial's folder; need not exist.

    Returns
    -------
    Path or None
        The step's folder.
    """
    return max(folder.glob("step_*"), default=None, key=lambda path: path.name)


def kept_trial(folder: Path) -> Trial | None:
    """Read the record of a trial's last kept step.

    Parameters
    ----------
    folder
        The trial's folder; need not exist.

    Returns
    -------
    Trial or None
        None where nothing was kept, or it cannot be read.
    """
    step = latest_step(folder)
    if step is None:
        return None
    try:
        return Trial.from_json(json.loads((step / "trial.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _keep(trial: Trial, models: list[Model], parts: list[Prediction], folder: Path) -> None:
    """Put the step beside the earlier one, whole or not at all, then drop the earlier one."""
    assert trial.step is not None
    earlier, making, kept = latest_step(folder), folder / "making", folder / trial.step
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    np.save(making / "valid.npy", np.concatenate(parts))  # (v, n_classes) or (v,)
    for i, model in enumerate(models):
        (making / f"fold_{i}").mkdir()
        model.save(making / f"fold_{i}")
    write_json(making / "trial.json", trial.to_json())
    os.replace(making, kept)
    if earlier is not None:
        shutil.rmtree(earlier, ignore_errors=True)
