"""Driver of windvane itself, run by the python that runs the comparison."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import peer_common

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from benchmarks.engine.engine import facts_of
from windvane import AutoClassifier, AutoRegressor

packages = ("windvane", "scikit-learn", "numpy", "pandas")


def fit(task: peer_common.Task) -> Any:
    """Fit with the default metric ("auto")."""
    kind = AutoRegressor if task.kind == "regression" else AutoClassifier
    model = kind(time_budget=task.budget, n_jobs=task.jobs, random_state=task.seed, verbose=0)
    return model.fit(task.X_train, task.y_train)


def facts(model: Any, task: peer_common.Task) -> dict[str, Any]:
    """Read off what `benchmarks/engine/engine.py` reports of a run."""
    return facts_of(model, task.budget, task.jobs)


predictor = peer_common.sklearn_predictor


if __name__ == "__main__":
    peer_common.run(sys.modules[__name__])
