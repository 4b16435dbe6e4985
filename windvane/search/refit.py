"""Train the members of an ensemble again, on all rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from windvane.models.base import DataSplit, Family, TrainingContext
from windvane.persistence import Predictor
from windvane.search.trial import Trial

MAX_STOPPING_ROWS = 2_000


def refit_ensemble(
    predictor: Predictor, trials: Sequence[Trial], families: Mapping[str, Family], train: DataSplit, folder: Path
) -> Predictor:
    """Return the same ensemble with one model a member, each trained for the mean of the folds' best iterations.

    The new models are written to `folder`; an earlier one is replaced.
    """
    temporary = folder.with_name(folder.name + ".temporary")
    shutil.rmtree(temporary, ignore_errors=True)
    n_rows = train.table.n_rows
    few = np.arange(0, n_rows, -(-n_rows // MAX_STOPPING_ROWS))  # spread over tables sorted by target
    # Early stopping looks at rows that are trained on, so that nothing stops before its number of iterations.
    weight = None if train.weight is None else train.weight[few]
    validation = DataSplit(train.table.take(few), train.target[few], weight)
    trial_of = {trial.number: trial for trial in trials}
    members = predictor.ensemble.members
    settings = [TrainingContext(predictor.task, trial_of[member.number].seed) for member in members]
    names = [f"{member.number:05d}/fold_0" for member in members]
    for member, setting, name in zip(members, settings, names, strict=True):
        trial = trial_of[member.number]
        model = families[member.family].create_model(trial.config, train, validation, setting)
        model.train_until(max(1, round(float(np.mean(trial.best_iterations)))))
        (temporary / name).mkdir(parents=True)
        model.save(temporary / name)
    shutil.rmtree(folder, ignore_errors=True)  # only now that all went well
    temporary.rename(folder)
    models = [
        [families[member.family].load(folder / name, setting)]
        for member, setting, name in zip(members, settings, names, strict=True)
    ]
    ensemble = replace(predictor.ensemble, members=tuple(replace(member, folds=()) for member in members))
    return replace(predictor, ensemble=ensemble, models=models, folders=[[folder / name] for name in names])
