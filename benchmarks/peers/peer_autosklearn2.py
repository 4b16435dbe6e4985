"""Driver of auto-sklearn 0.15: Auto-Sklearn 2.0 (classification), auto-sklearn 1 (regression)."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import peer_common
from autosklearn import metrics
from autosklearn.experimental.askl2 import AutoSklearn2Classifier
from autosklearn.regression import AutoSklearnRegressor

packages = ("auto-sklearn", "scikit-learn", "smac", "numpy", "pandas")

MEMORY_MB = 6000
METRICS = {"roc_auc": metrics.roc_auc, "log_loss": metrics.log_loss, "rmse": metrics.root_mean_squared_error}


def _estimator(task: peer_common.Task) -> Any:
    kind = AutoSklearnRegressor if task.kind == "regression" else AutoSklearn2Classifier
    return kind(
        time_left_for_this_task=task.budget,
        n_jobs=task.jobs,
        memory_limit=MEMORY_MB,
        metric=METRICS[task.metric],
        seed=task.seed,
        tmp_folder=str(task.scratch / "autosklearn"),
    )


def prepare(task: peer_common.Task) -> None:
    """Construct once: the first construction on a machine trains the selector and caches it."""
    _estimator(task)


def fit(task: peer_common.Task) -> Any:
    """Construct and fit."""
    return _estimator(task).fit(task.X_train, task.y_train)


def predictor(model: Any, task: peer_common.Task) -> peer_common.Predict:
    """Return the ensemble's probabilities or values."""
    if task.kind == "regression":
        return model.predict
    # The ensemble orders its columns by the sorted labels.
    present = np.unique(task.y_train)
    return lambda X: peer_common.full_width(model.predict_proba(X), present, task.n_classes)


if __name__ == "__main__":
    peer_common.run(sys.modules[__name__])
