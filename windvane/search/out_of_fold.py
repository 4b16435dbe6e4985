"""Predictions of the validation rows by models that did not train on them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from windvane.evaluation.predictions import Predictions
from windvane.models import FAMILIES
from windvane.models.base import TrainingContext
from windvane.models.targets.multi_target import for_task
from windvane.persistence import Predictor
from windvane.runtime.columns.table import Floats, Integers, Table
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
        blend += member.weigh(prediction)
    return Predictions(
        problem.table,
        rows,
        problem.target[rows],
        ensemble.calibrate(blend) if problem.task.is_classification else blend,
        problem.weight_of(rows),
        np.repeat(np.arange(len(problem.folds)), [len(fold.validation) for fold in problem.folds]),
        ensemble,
        _OutOfFoldPredictor.of(predictor, problem, directory) if can_predict else None,
    )


@dataclass(frozen=True)
class _OutOfFoldPredictor:
    """Predicts each row with the models of its fold, which did not train on it."""

    predictor: Predictor  # with the models of all folds

    @classmethod
    def of(cls, predictor: Predictor, problem: Problem, directory: RunDirectory) -> Self | None:
        """Load the models of all folds; None if other models predict (after a refit) or a family is the user's."""
        members = predictor.ensemble.members
        checkpoints = [directory.checkpoint(member.number, member.checkpoint) for member in members]
        as_searched = all(
            folder.parent == checkpoint
            for folders, checkpoint in zip(predictor.folders, checkpoints, strict=True)
            for folder in folders
        )
        if not as_searched or any(member.family not in FAMILIES for member in members):
            return None
        context, folds = TrainingContext(problem.task, 0), range(len(problem.folds))
        models = [
            [
                for_task(FAMILIES[member.family], problem.task).load(checkpoint / f"fold_{fold}", context)
                for fold in folds
            ]
            for member, checkpoint in zip(members, checkpoints, strict=True)
        ]
        return cls(replace(predictor, models=models))

    def __call__(self, table: Table, fold_of: Integers | None) -> Floats:  # (n, k), (n,) or (n, t)
        assert fold_of is not None
        prediction = np.empty(self.predictor.raw_shape(table.n_rows))
        for fold in np.unique(fold_of):
            rows = np.flatnonzero(fold_of == fold)
            one = replace(self.predictor, models=[[models[fold]] for models in self.predictor.models])
            prediction[rows] = one.predict_raw(table.take(rows))
        return prediction
