"""Look at the trials of a run with Optuna's tools: parameters, values, durations, importance.

The search ends after four trials. optuna-dashboard opens the same file.
"""

import tempfile
from pathlib import Path

import optuna
from sklearn.datasets import load_diabetes

from windvane import AutoRegressor

X, y = load_diabetes(return_X_y=True, as_frame=True)
model = AutoRegressor(n_trials=4, policy="holdout", families=["linear", "extra_trees"], random_state=0, verbose=0)
model.fit(X, y)

with tempfile.TemporaryDirectory() as work:
    model.to_optuna(Path(work) / "study.db")
    study = optuna.load_study(study_name="windvane", storage=f"sqlite:///{work}/study.db")
    for trial in study.trials:
        print(f"trial {trial.number}: {trial.params['family']}, {study.metric_names[0]} {trial.value:.2f}")
    print(f"the best is trial {study.best_trial.number} with {study.best_trial.params}")
