"""Driver of AutoGluon 1.6, preset best_quality, on the CPU."""

from __future__ import annotations

import sys
from typing import Any

import peer_common
from autogluon.tabular import TabularPredictor

packages = ("autogluon.tabular", "scikit-learn", "lightgbm", "catboost", "torch", "ray", "numpy", "pandas")

LABEL = "target_"
METRICS = {"roc_auc": "roc_auc", "log_loss": "log_loss", "rmse": "root_mean_squared_error"}


def fit(task: peer_common.Task) -> Any:
    """Fit with the preset's own stacking, bagging and portfolio."""
    predictor = TabularPredictor(
        LABEL, problem_type=task.kind, eval_metric=METRICS[task.metric], path=str(task.scratch / "autogluon")
    )
    return predictor.fit(
        task.X_train.assign(**{LABEL: task.y_train}),
        presets="best_quality",
        time_limit=task.budget,
        num_cpus=task.jobs,
        num_gpus=0,
    )


def predictor(model: Any, task: peer_common.Task) -> peer_common.Predict:
    """Keep the models in memory, then return the best model's probabilities or values."""
    model.persist()
    if task.kind == "regression":
        return lambda X: model.predict(X, as_pandas=False)
    classes = model.class_labels
    return lambda X: peer_common.full_width(
        model.predict_proba(X, as_pandas=False, as_multiclass=True), classes, task.n_classes
    )


if __name__ == "__main__":
    peer_common.run(sys.modules[__name__])
