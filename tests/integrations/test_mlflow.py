"""A run in a local store of MLflow, and its model read back as a pyfunc."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer

from windvane import AutoClassifier
from windvane.errors import InputError
from windvane.integrations.mlflow import log_run, log_trial

mlflow = pytest.importorskip("mlflow", reason="mlflow is too large for the environment of development")


@pytest.mark.filterwarnings("default")  # of MLflow's own code
def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mlflow", "alembic"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", True)
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X = X.iloc[:, :4].assign(kind=pd.Categorical(np.where(X.iloc[:, 0] > 14, "a", "b")))
    y = y.map({0: "ill", 1: "well"})
    options = {"families": ["linear"], "n_trials": 2, "n_jobs": 1, "random_state": 0, "verbose": 0, "policy": "holdout"}
    with mlflow.start_run() as run:
        model = AutoClassifier(**options).fit(X[::2], y[::2], X_test=X[1::2], y_test=y[1::2], callbacks=[log_trial])
        assert log_run(model) == run.info.run_id
    client = mlflow.MlflowClient()
    data = client.get_run(run.info.run_id).data
    assert data.params["families"] == "['linear']" and data.params["random_state"] == "0"
    assert data.tags["windvane.metric"] == "roc_auc" and data.tags["trial_1"] == "linear: done"
    assert data.metrics["test_score"] == model.test_score_ and data.metrics["n_trials"] == 2
    logged = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "trial_score")]
    metric = model.predictor_.metric
    assert logged == [(trial.number, metric.score(trial.loss)) for trial in model.trials_]
    assert data.metrics["trial_loss"] == model.trials_[-1].loss
    assert {one.path for one in client.list_artifacts(run.info.run_id)} == {"leaderboard.csv", "report.html"}
    read = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    assert (read.predict(X) == model.predict(X)).all()
    np.testing.assert_array_equal(read.predict(X, params={"method": "predict_proba"}), model.predict_proba(X))
    with pytest.raises(InputError, match="Allowed: predict or predict_proba"):
        read.predict(X, params={"method": "fit"})
