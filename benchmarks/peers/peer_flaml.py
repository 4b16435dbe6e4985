"""Driver of FLAML 2.7 with its default learners (LightGBM, XGBoost, CatBoost, forests, linear)."""

from __future__ import annotations

import sys
from typing import Any

import peer_common
from flaml import AutoML

packages = ("FLAML", "scikit-learn", "lightgbm", "xgboost", "catboost", "numpy", "pandas")


def fit(task: peer_common.Task) -> Any:
    """Search, then retrain the best learner on all rows, as the system does by default."""
    model = AutoML()
    model.fit(
        X_train=task.X_train,
        y_train=task.y_train,
        task="regression" if task.kind == "regression" else "classification",
        metric=task.metric,
        time_budget=task.budget,
        n_jobs=task.jobs,
        seed=task.seed,
        verbose=0,
    )
    return model


predictor = peer_common.sklearn_predictor


if __name__ == "__main__":
    peer_common.run(sys.modules[__name__])
