"""The constant baseline of a run, which costs nothing."""

from __future__ import annotations

import numpy as np

from windvane.errors import MetricError
from windvane.evaluation.baseline import ConstantBaseline, constant_prediction
from windvane.search.problem import Problem


def constant_baseline(problem: Problem) -> ConstantBaseline | None:
    """Evaluate a constant on the run's folds; None if the user's metric cannot be computed of it."""
    task, metric, target, weight = problem.task, problem.metric, problem.target, problem.weight
    parts = []
    for fold in problem.folds:
        of_fold = None if weight is None else weight[fold.train]
        constant = constant_prediction(target[fold.train], task.n_classes, metric, of_fold)
        parts.append(np.broadcast_to(constant, (len(fold.validation), *constant.shape)))
    rows = problem.validation_rows
    try:
        loss = metric.loss(target[rows], np.concatenate(parts), None if weight is None else weight[rows])
    except MetricError:
        return None
    whole = np.atleast_1d(constant_prediction(target, task.n_classes, metric, weight))
    return ConstantBaseline(tuple(map(float, whole)), loss)
