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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.table import Integers
from windvane.models.base import Family, Model, Part, Setting
from windvane.search.run import Problem, write_json
from windvane.search.trial import Job, Trial

Prediction = NDArray[np.floating[Any]]

# Steps that take less than this are joined: keeping each would cost more than repeating it.
SHORTEST_STEP = 1.0


@dataclass(frozen=True)
class Limits:
    """What a trial may use: a `time.monotonic` instant to stop growing at (infinity: no clock), and threads."""

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
            trial = replace(kept, share=job.share, status="partial")
        for trial in _steps(job, problem, family, folder, limits, kept):
            report(trial)
    except MemoryError as error:
        return replace(trial, status="memory", error=f"out of memory: {error}".rstrip(": "))
    except Exception as error:  # whatever a library or a user's family raises ends this trial only
        return replace(trial, status="failed", error=f"{type(error).__name__}: {error}"[:2000])
    return trial


def _steps(
    job: Job, problem: Problem, family: Family, folder: Path, limits: Limits, before: Trial | None
) -> Iterator[Trial]:
    latest, kept, meter = latest_step(folder), None, Meter()
    number = 0 if latest is None else int(latest.name.removeprefix("step_")) + 1
    if before is not None:  # a step whose record cannot be read is not gone on with
        kept = latest
        meter = Meter(before.fit_seconds, before.predict_seconds, before.cpu_seconds)
    full = family.steps(job.config, problem.task)
    last = max(1, round(full[-1] * job.share))
    with meter.fitting():
        models = [_start(job, problem, family, i, limits, kept) for i in range(len(problem.folds))]
    total = max(model.iterations for model in models)
    totals = [step for step in full if total < step < last] + [last]
    while totals:
        from_total, seconds = total, meter.fit
        total = totals.pop(0)
        with meter.fitting():
            for model in models:
                if not model.finished:
                    model.grow(total, limits.until)
        if any(model.iterations == 0 for model in models):
            return  # the time ended inside the first step
        complete = all(model.finished or model.iterations >= last for model in models)
        with meter.predicting():
            parts = _predict(models, problem)
        trial = replace(
            _judge(job, problem, parts, meter),
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
        pace = (meter.fit - seconds) / max(1, total - from_total)
        while len(totals) > 1 and (totals[0] - total) * pace < SHORTEST_STEP:
            totals.pop(0)


def _start(job: Job, problem: Problem, family: Family, i: int, limits: Limits, kept: Path | None) -> Model:
    fold = problem.folds[i]
    train = fold.train if job.rows is None else sample_rows(problem, fold.train, job.rows)
    seed = int(np.random.SeedSequence([job.seed, i]).generate_state(1)[0] % 2**31)
    setting = Setting(problem.task, seed, limits.threads)
    kept_fold = None if kept is None else kept / f"fold_{i}"
    return family.start(job.config, part(problem, train), part(problem, fold.valid), setting, kept_fold)


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


def _predict(models: list[Model], problem: Problem) -> list[Prediction]:
    """Predict the validation part of each fold, in the precision in which it is judged and kept."""
    task = problem.task
    precision = np.float32 if task.is_classification else np.float64  # numbers may vary little around a large mean
    parts: list[Prediction] = []
    for model, fold in zip(models, problem.folds, strict=True):
        found = np.asarray(model.predict(problem.table.take(fold.valid)))
        shape = (len(fold.valid), task.n_classes) if task.is_classification else (len(fold.valid),)
        if found.shape != shape:
            raise ValueError(f"predict gave an array of shape {found.shape}, but must give {shape}")
        parts.append(found.astype(precision))
    return parts


def _judge(job: Job, problem: Problem, parts: list[Prediction], meter: Meter) -> Trial:
    return replace(
        Trial.of(job, "partial"),
        loss=_loss(problem, np.concatenate(parts), problem.valid_rows),
        fold_losses=tuple(
            _loss(problem, prediction, fold.valid) for prediction, fold in zip(parts, problem.folds, strict=True)
        ),
        fit_seconds=meter.fit,
        predict_seconds=meter.predict,
        cpu_seconds=meter.cpu,
    )


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
