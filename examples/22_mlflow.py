"""Keep a run in MLflow: its trials, scores, report and model (pip install 'windvane[mlflow]').

The search ends after two trials. The store of this example is a temporary folder.
"""

import logging
import os
import tempfile
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

import mlflow
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from windvane import AutoClassifier
from windvane.integrations.mlflow import log_run, log_trial

for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.ERROR)
X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)

with tempfile.TemporaryDirectory() as work:
    mlflow.set_tracking_uri(f"sqlite:///{Path(work) / 'mlflow.db'}")
    mlflow.create_experiment("breast cancer", artifact_location=(Path(work) / "artifacts").as_uri())
    mlflow.set_experiment("breast cancer")
    with mlflow.start_run():
        model = AutoClassifier(n_trials=2, policy="holdout", families=["linear"], random_state=0, verbose=0)
        model.fit(X_train, y_train, X_test=X_test, y_test=y_test, callbacks=[log_trial])
        run_id = log_run(model)

    logged = mlflow.get_run(run_id).data
    print("metrics", {name: round(value, 4) for name, value in sorted(logged.metrics.items())})
    again = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    print(f"the logged model predicts the same: {(again.predict(X_test) == model.predict(X_test)).all()}")
