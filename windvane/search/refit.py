"""Train models again: on all rows, those that validated them among them, or without a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from windvane.evaluation.columns.importance import EncodedColumn, exchange
from windvane.models.base import Config, DataSplit, Family, Model, TrainingContext
from windvane.models.targets.multi_target import for_task
from windvane.persistence import Predictor
from windvane.runtime.columns.table import Floats, Table
from windvane.search.problem import Problem
from windvane.search.run.replace_folder import replace_folder
from windvane.search.trial import Trial

MAX_STOPPING_ROWS = 2_000
MAX_DROP_ROWS = 10_000  # that models without a column are trained on


def train_on_all(
    family: Family, config: Config, rows: DataSplit, iterations: int, context: TrainingContext, deadline: float = np.inf
) -> Model:
    """Return a model that has learned from all rows for a number of iterations, fewer where the deadline ends it."""
    few = np.arange(0, rows.table.n_rows, -(-rows.table.n_rows // MAX_STOPPING_ROWS))  # spread over sorted tables
    # Early stopping looks at rows that are trained on, so that nothing stops before its number of iterations.
    model = family.create_model(config, rows, rows.take(few), context)
    model.train_until(max(1, iterations), deadline)
    return model


def refit_ensemble(
    predictor: Predictor, trials: Sequence[Trial], families: Mapping[str, Family], train: DataSplit, folder: Path
) -> Predictor:
    """Return the ensemble with one model a member, in `folder`, trained for the mean of its folds' iterations."""
    trial_of = {trial.number: trial for trial in trials}
    members = predictor.ensemble.members
    names = [f"{member.number:05d}/fold_0" for member in members]
    trained: list[tuple[Family, TrainingContext]] = []
    with replace_folder(folder, f"{folder.name}.temporary", "The ensemble is as it was.") as temporary:
        for member, name in zip(members, names, strict=True):
            trial = trial_of[member.number]
            family = for_task(families[member.family], predictor.task)
            context = TrainingContext(predictor.task, trial.seed)
            model = train_on_all(family, trial.config, train, _mean_best_iteration(trial), context)
            (temporary / name).mkdir(parents=True)
            model.save(temporary / name)
            trained.append((family, context))
    models = [[family.load(folder / name, context)] for (family, context), name in zip(trained, names, strict=True)]
    ensemble = replace(predictor.ensemble, members=tuple(replace(member, folds=()) for member in members))
    return replace(predictor, ensemble=ensemble, models=models, folders=[[folder / name] for name in names])


def trainer_without(
    predictor: Predictor, trials: Sequence[Trial], families: Mapping[str, Family], problem: Problem
) -> Callable[[EncodedColumn, Table], Floats]:
    """Return a function that trains without a column, and predicts a table.

    Trained is the configuration with the largest weight in the ensemble, for its mean number of iterations, on at most
    `MAX_DROP_ROWS` training rows. Without a column means that all rows have its value of the first row.
    """
    member = max(predictor.ensemble.members, key=lambda member: member.weight)
    trial = next(trial for trial in trials if trial.number == member.number)
    rows = problem.sample_rows(np.arange(problem.table.n_rows), min(MAX_DROP_ROWS, problem.table.n_rows))
    train = problem.part(rows)

    def predict_without(column: EncodedColumn, table: Table) -> Floats:
        def constant(some: Table) -> Table:
            return exchange(some, train.table.take(np.zeros(some.n_rows, dtype=np.int64)), column)

        context = TrainingContext(predictor.task, trial.seed)
        without = replace(train, table=constant(train.table))
        family = for_task(families[member.family], predictor.task)
        model = train_on_all(family, trial.config, without, _mean_best_iteration(trial), context)
        return model.predict(constant(table))

    return predict_without


def _mean_best_iteration(trial: Trial) -> int:
    return round(float(np.mean(trial.best_iterations)))
