"""Train models again on all rows, those that validated them among them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from windvane.models.base import Config, DataSplit, Family, Model, TrainingContext
from windvane.models.targets.multi_target import for_task
from windvane.persistence import Predictor
from windvane.search.trial import Trial

MAX_STOPPING_ROWS = 2_000


def train_on_all(
    family: Family,
    config: Config,
    rows: DataSplit,
    iterations: int,
    context: TrainingContext,
    deadline: float = np.inf,
) -> Model:
    """Return a model that has learned from all rows for a number of iterations, fewer where the deadline ends it."""
    few = np.arange(0, rows.table.n_rows, -(-rows.table.n_rows // MAX_STOPPING_ROWS))  # spread over sorted tables
    # Early stopping looks at rows that are trained on, so that nothing stops before its number of iterations.
    weight = None if rows.weight is None else rows.weight[few]
    stopping = DataSplit(rows.table.take(few), rows.target[few], weight)
    model = family.create_model(config, rows, stopping, context)
    model.train_until(max(1, iterations), deadline)
    return model


def refit_ensemble(
    predictor: Predictor, trials: Sequence[Trial], families: Mapping[str, Family], train: DataSplit, folder: Path
) -> Predictor:
    """Return the same ensemble with one model a member, each trained for the mean of the folds' best iterations.

    The new models are written to `folder`; an earlier one is replaced.
    """
    temporary = folder.with_name(folder.name + ".temporary")
    shutil.rmtree(temporary, ignore_errors=True)
    trial_of = {trial.number: trial for trial in trials}
    members = predictor.ensemble.members
    settings = [TrainingContext(predictor.task, trial_of[member.number].seed) for member in members]
    names = [f"{member.number:05d}/fold_0" for member in members]
    for member, setting, name in zip(members, settings, names, strict=True):
        trial = trial_of[member.number]
        iterations = round(float(np.mean(trial.best_iterations)))
        family = for_task(families[member.family], predictor.task)
        model = train_on_all(family, trial.config, train, iterations, setting)
        (temporary / name).mkdir(parents=True)
        model.save(temporary / name)
    shutil.rmtree(folder, ignore_errors=True)  # only now that all went well
    temporary.rename(folder)
    models = [
        [for_task(families[member.family], predictor.task).load(folder / name, setting)]
        for member, setting, name in zip(members, settings, names, strict=True)
    ]
    ensemble = replace(predictor.ensemble, members=tuple(replace(member, folds=()) for member in members))
    return replace(predictor, ensemble=ensemble, models=models, folders=[[folder / name] for name in names])
