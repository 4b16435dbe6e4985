"""The constant baseline of a run, which costs nothing."""

from __future__ import annotations

import numpy as np

from windvane.errors import MetricError
from windvane.evaluation.baseline import ConstantBaseline, constant_prediction
from windvane.search.problem import Problem


def constant_baseline(problem: Problem) -> ConstantBaseline | None:
    """Evaluate a constant on the run's folds; None if the user's metric cannot be computed of it."""
    n_classes, metric, target = problem.task.n_classes, problem.metric, problem.target
    parts = []
    for fold in problem.folds:
        constant = constant_prediction(target[fold.train], n_classes, metric, problem.weight_of(fold.train))
        parts.append(np.broadcast_to(constant, (len(fold.validation), *constant.shape)))
    try:
        loss = problem.loss(np.concatenate(parts), problem.validation_rows)
    except MetricError:
        return None
    whole = np.atleast_1d(constant_prediction(target, n_classes, metric, problem.weight))
    return ConstantBaseline(tuple(map(float, whole)), loss)
