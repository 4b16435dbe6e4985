"""Predictions of the validation rows by models that did not train on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from windvane.evaluation.predictions import Predictions
from windvane.models import FAMILIES
from windvane.models.base import TrainingContext
from windvane.models.targets.multi_target import for_task
from windvane.persistence import Predictor
from windvane.runtime.columns.table import Floats, Integers, Table
from windvane.runtime.models.fitted import Fitted
from windvane.search.problem import Problem
from windvane.search.run.run_directory import RunDirectory


def out_of_fold(
    predictor: Predictor, problem: Problem, directory: RunDirectory, *, can_predict: bool = True
) -> Predictions | None:
    """Blend the members' validation predictions; None if one is missing. `can_predict`: of changed rows, too."""
    ensemble, rows = predictor.ensemble, problem.validation_rows
    shape = problem.task.prediction_shape(len(rows))
    blend = np.zeros(shape)  # (n, k), (n,) or (n, t)
    for member in ensemble.members:
        prediction = directory.validation_predictions(member.number, member.checkpoint)
        if prediction is None or prediction.shape != shape:
            return None
        blend += member.weigh(member.calibrate(prediction.astype(np.float64)))
    return Predictions(
        problem.table,
        rows,
        problem.target[rows],
        ensemble.calibrate(blend) if problem.task.is_classification else blend,
        problem.weight_of(rows),
        np.repeat(np.arange(len(problem.folds)), [len(fold.validation) for fold in problem.folds]),
        ensemble,
        _predict_by_fold(predictor, problem, directory) if can_predict else None,
    )


def _predict_by_fold(
    predictor: Predictor, problem: Problem, directory: RunDirectory
) -> Callable[[Table, Integers | None], Floats] | None:
    """Return a function that predicts each row with the models of its fold, which did not train on it.

    None if other models predict (after a refit) or a family is the user's.
    """
    folds_of_members: list[list[Fitted]] = []  # the models of all folds
    context = TrainingContext(problem.task, 0)
    for member, folders in zip(predictor.ensemble.members, predictor.folders, strict=True):
        checkpoint = directory.checkpoint(member.number, member.checkpoint)
        if member.family not in FAMILIES or any(folder.parent != checkpoint for folder in folders):
            return None
        family = for_task(FAMILIES[member.family], problem.task)
        folds_of_members.append([family.load(checkpoint / f"fold_{i}", context) for i in range(len(problem.folds))])

    def predict(table: Table, fold_of: Integers | None) -> Floats:  # (n, k), (n,) or (n, t)
        assert fold_of is not None
        prediction = np.empty(predictor.raw_shape(table.n_rows))
        for fold in np.unique(fold_of):
            rows = np.flatnonzero(fold_of == fold)
            of_fold = replace(predictor, models=[[models[fold]] for models in folds_of_members])
            prediction[rows] = of_fold.predict_raw(table.take(rows))
        return prediction

    return predict
