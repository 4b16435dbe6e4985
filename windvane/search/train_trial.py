"""Train one trial: all folds side by side, with a checkpoint after each stage.

If `Problem.refits`, a trial with one fold ends with a second model that learns from all rows. It predicts; the trial's
validation predictions stay those of the first one.

Whatever ends a trial, its last checkpoint predicts all validation rows and can enter the ensemble (Auto-Sklearn 2.0,
section 3.2: intermediate results are its largest single gain). This is the only place that catches errors of models.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from windvane.errors import DiskError
from windvane.models.base import Family, Model, TrainingContext, train_side_by_side
from windvane.runtime.columns.table import Integers
from windvane.search.problem import Problem
from windvane.search.refit import train_on_all
from windvane.search.run.checkpoint import Prediction, latest_checkpoint, next_name, read_checkpoint, write_checkpoint
from windvane.search.trial import Trial, derive_seed

# Stages that take less than this are merged: a checkpoint of each would cost more than repeating it.
MIN_STAGE_SECONDS = 1.0
REFIT_SHARE = 0.5  # of the seconds left of a trial that training on all rows may be expected to take


@dataclass
class Timer:
    """Seconds spent inside the models' methods."""

    fit: float = 0.0
    predict: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def measure(self, name: Literal["fit", "predict"]) -> Iterator[None]:
        """Add the time of the block to those seconds and to the CPU seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        seconds = time.perf_counter() - wall
        if name == "fit":
            self.fit += seconds
        else:
            self.predict += seconds
        self.cpu += time.process_time() - cpu


def train_trial(
    trial: Trial,
    problem: Problem,
    family: Family,
    folder: Path,
    on_checkpoint: Callable[[Trial], None],
    *,
    deadline: float = np.inf,
) -> Trial:
    """Train a configuration on every fold and return the trial with its result.

    A checkpoint in `folder`, the trial's own, is resumed. `on_checkpoint` is called after each new one. `deadline` is a
    `time.monotonic` instant. An error of the model is a status, never an exception, and earlier checkpoints count.
    Raises DiskError if a checkpoint cannot be written: no other trial could write one either.
    """
    submitted = trial.without_results()
    trial = replace(submitted, status="stopped", error="no checkpoint was written for every fold in its time")
    try:
        saved = read_checkpoint(folder)
        timer = Timer()
        if saved is not None:
            trial = replace(saved, iteration_fraction=submitted.iteration_fraction, status="stopped", error=None)
            timer = Timer(saved.fit_seconds, saved.predict_seconds, saved.cpu_seconds)
        # A checkpoint whose record cannot be read is not resumed.
        models = _create_models(submitted, problem, family, None if saved is None else latest_checkpoint(folder), timer)
        all_targets = family.checkpoint_iterations(submitted.config, problem.task)
        last = max(1, round(all_targets[-1] * submitted.iteration_fraction))
        iterations = min((m.iterations for m in models if not _is_complete(m, last)), default=last)
        targets = [target for target in all_targets if iterations < target < last] + [last]
        final: dict[int, Prediction] = {}  # by fold, of models that train no further
        while targets:
            before, seconds_before = iterations, timer.fit
            is_first = any(model.iterations == 0 for model in models)
            iterations = targets.pop(0)
            with timer.measure("fit"):
                train_side_by_side(models, iterations, deadline)
            if any(model.iterations == 0 for model in models):
                break  # the time ended inside the first stage
            predictions = []
            for i, model in enumerate(models):
                prediction = final[i] if i in final else _predict(model, i, problem, timer)
                if _is_complete(model, last):
                    final[i] = prediction
                predictions.append(prediction)
            complete = len(final) == len(models)
            reached = replace(
                submitted,
                status="done" if complete else "stopped",
                loss=_loss(problem, np.concatenate(predictions), problem.validation_rows),
                fold_losses=tuple(
                    _loss(problem, prediction, fold.validation)
                    for prediction, fold in zip(predictions, problem.folds, strict=True)
                ),
                checkpoint=next_name(folder),
                best_iterations=tuple(model.best_iteration for model in models),
                fit_seconds=timer.fit,
                predict_seconds=timer.predict,
                cpu_seconds=timer.cpu,
            )
            write_checkpoint(folder, reached, models, np.concatenate(predictions))
            trial = reached
            on_checkpoint(trial)
            if complete or time.monotonic() >= deadline:
                break
            if is_first and not targets:
                targets = [last]  # for models whose share of the time ended before
            # Stages too short for a separate checkpoint are merged. This changes nothing in the model.
            seconds_per_iteration = (timer.fit - seconds_before) / max(1, iterations - before)
            while len(targets) > 1 and (targets[0] - iterations) * seconds_per_iteration < MIN_STAGE_SECONDS:
                targets.pop(0)
        if trial.status == "done" and _may_refit(trial, problem, family, deadline):
            trial = _refit(trial, problem, family, folder, models[0], final[0], deadline, timer)
    except DiskError:
        raise
    except MemoryError as error:
        return replace(trial, status="out_of_memory", error=f"out of memory: {error}".rstrip(": "))
    except Exception as error:  # an error of a library or of a user's family ends this trial only
        return replace(trial, status="failed", error=f"{type(error).__name__}: {error}"[:2000])
    return trial


def _create_models(
    trial: Trial, problem: Problem, family: Family, checkpoint: Path | None, timer: Timer
) -> list[Model]:
    models = []
    for i, fold in enumerate(problem.folds):
        context = TrainingContext(problem.task, derive_seed(trial.seed, i))
        fold_folder = None if checkpoint is None else checkpoint / f"fold_{i}"
        with timer.measure("fit"):
            rows = fold.train if trial.n_rows is None else problem.sample_rows(fold.train, trial.n_rows)
            train, validation = problem.part(rows), problem.part(fold.validation)
            models.append(family.create_model(trial.config, train, validation, context, fold_folder))
    return models


def _may_refit(trial: Trial, problem: Problem, family: Family, deadline: float) -> bool:
    """Whether a second model that learns from all rows is wanted, and there is time for it."""
    if not (problem.refits and getattr(family, "refits", True)) or len(problem.folds) > 1:
        return False
    if trial.n_rows is not None or trial.iteration_fraction < 1:  # a rung of successive halving
        return False
    expected = trial.fit_seconds * problem.task.n_rows / len(problem.folds[0].train)
    return expected <= REFIT_SHARE * (deadline - time.monotonic())


def _refit(
    trial: Trial,
    problem: Problem,
    family: Family,
    folder: Path,
    validated: Model,
    predictions: Prediction,
    deadline: float,
    timer: Timer,
) -> Trial:
    """Write a checkpoint with one more model, which learned from all rows and predicts in place of the validated."""
    context = TrainingContext(problem.task, derive_seed(trial.seed, 0))
    with timer.measure("fit"):
        rows = problem.part(np.arange(problem.task.n_rows))
        iterations = trial.best_iterations[0]
        model = train_on_all(family, trial.config, rows, iterations, context, deadline)
    if not (model.finished or model.iterations >= iterations):
        return trial
    reached = replace(trial, checkpoint=next_name(folder), fit_seconds=timer.fit, cpu_seconds=timer.cpu)
    write_checkpoint(folder, reached, [validated], predictions, refitted=model)
    return reached


def _is_complete(model: Model, last: int) -> bool:
    return model.finished or model.iterations >= last


def _predict(model: Model, fold: int, problem: Problem, timer: Timer) -> Prediction:
    """Predict the validation set of a fold, in the precision of checkpoints."""
    task, rows = problem.task, problem.folds[fold].validation
    with timer.measure("predict"):
        prediction = np.asarray(model.predict(problem.table.take(rows)))
    shape = task.prediction_shape(len(rows))
    if prediction.shape != shape:
        raise ValueError(f"predict returned an array of shape {prediction.shape}, but must return {shape}")
    # Numbers may vary little around a large mean.
    return prediction.astype(np.float32 if task.is_classification else np.float64)


def _loss(problem: Problem, prediction: Prediction, rows: Integers) -> float:
    loss = problem.loss(prediction.astype(np.float64), rows) if np.isfinite(prediction).all() else math.inf
    return float(loss) if math.isfinite(loss) else math.inf
