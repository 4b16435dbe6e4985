"""MLflow: the parameters, scores, page and model of a run in its tracking store, and the model as a pyfunc.

The model is logged as the folder of ``save``, which holds no pickle; MLflow opens it by `_load_pyfunc` of this module.
"""

from __future__ import annotations

import importlib
import math
import tempfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from windvane.automl.loading import AutoEstimator, load
from windvane.errors import InputError
from windvane.evaluation.score_text import natural_score
from windvane.search.trial import Trial
from windvane.version import VERSION

_MAX_PARAMETER = 500  # characters of a value that every store of MLflow takes


def log_run(model: AutoEstimator, *, name: str = "model", report: bool = True) -> str:
    """Log a fitted model to MLflow: in the active run, or in a new one.

    Parameters
    ----------
    model
        Fitted.
    name
        Of the logged model.
    report
        Whether the page of the run is an artifact, "report.html".

    Returns
    -------
    str
        Identifier of the run of MLflow. It has the parameters of the constructor; the metrics ``validation_score``,
        ``test_score`` (if there is one) and ``n_trials``; for each trial by its number ``trial_score`` and
        ``trial_fit_seconds``; the artifact "leaderboard.csv"; and the model as a pyfunc, whose ``predict`` returns what
        `predict` of the model does, or probabilities with ``params={"method": "predict_proba"}``. Scores are in the
        direction of their metric, whose name is the tag ``windvane.metric``.

    Raises
    ------
    InputError
        If mlflow is not installed.
    NotFittedError
        If the model is not fitted.

    Examples
    --------
    >>> run_id = log_run(model)  # doctest: +SKIP
    >>> mlflow.pyfunc.load_model(f"runs:/{run_id}/model").predict(X)  # doctest: +SKIP
    """
    mlflow = _import_mlflow()
    board = model.leaderboard()
    predictor = model.predictor_
    metric, ensemble = predictor.metric, predictor.ensemble
    scores = {"validation_score": metric.score(ensemble.loss), "n_trials": float(len(model.trials_))}
    if hasattr(model, "test_score_"):
        scores["test_score"] = natural_score(metric, model.test_score_)
    active = mlflow.active_run()
    with (
        warnings.catch_warnings(),
        mlflow.start_run() if active is None else nullcontext(active) as run,
        tempfile.TemporaryDirectory(prefix="windvane-") as folder,
    ):
        mlflow.log_params({key: str(value)[:_MAX_PARAMETER] for key, value in model.get_params(deep=False).items()})
        mlflow.set_tags(
            {"windvane.version": VERSION, "windvane.metric": metric.name, "windvane.estimator": type(model).__name__}
        )
        now = int(1000 * time.time())
        series = [mlflow.entities.Metric(key, value, now, 0) for key, value in scores.items() if math.isfinite(value)]
        for trial in model.trials_:
            if trial.usable:
                series.append(mlflow.entities.Metric("trial_score", metric.score(trial.loss), now, trial.number))
                series.append(mlflow.entities.Metric("trial_fit_seconds", trial.fit_seconds, now, trial.number))
        for start in range(0, len(series), 1000):  # as many as one call takes
            mlflow.MlflowClient().log_batch(run.info.run_id, metrics=series[start : start + 1000])
        here = Path(folder)
        board.to_csv(here / "leaderboard.csv")
        mlflow.log_artifact(str(here / "leaderboard.csv"))
        if report:
            mlflow.log_artifact(str(model.report(here / "report.html")))
        model.save(here / "windvane_model")
        # MLflow may write a color before the words.
        warnings.filterwarnings("ignore", ".*An input example was not provided", UserWarning)
        parameters = mlflow.types.ParamSchema([mlflow.types.ParamSpec("method", "string", "predict")])
        mlflow.pyfunc.log_model(
            name=name,
            loader_module=__name__,
            data_path=str(here / "windvane_model"),
            pip_requirements=[f"windvane=={VERSION}"],
            signature=mlflow.models.ModelSignature(params=parameters),
        )
        return str(run.info.run_id)


def log_trial(trial: Trial) -> None:
    """Log a trial when it has ended: a callback of `fit`, in the active run of MLflow.

    Parameters
    ----------
    trial
        Its loss becomes the metric ``trial_loss``, and its family the tag ``trial_NUMBER``, both by its number.

    Raises
    ------
    InputError
        If mlflow is not installed.

    Examples
    --------
    >>> with mlflow.start_run():  # doctest: +SKIP
    ...     model = AutoClassifier("10m").fit(X, y, callbacks=[log_trial])
    ...     log_run(model)
    """
    mlflow = _import_mlflow()
    mlflow.set_tag(f"trial_{trial.number}", f"{trial.family}: {trial.status}")
    if trial.usable:
        mlflow.log_metric("trial_loss", trial.loss, step=trial.number)


class _PyFunc:
    """What MLflow calls for predictions."""

    def __init__(self, model: AutoEstimator) -> None:
        self._model = model

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        method = (params or {}).get("method", "predict")
        allowed = ["predict", *(["predict_proba"] if hasattr(self._model, "classes_") else [])]
        if method not in allowed:
            raise InputError(f"method={method!r} is not usable. Allowed: {' or '.join(allowed)}.")
        return getattr(self._model, method)(model_input)


def _load_pyfunc(path: str) -> _PyFunc:
    """Open what `log_run` logged; MLflow calls this."""
    return _PyFunc(load(path))


def _import_mlflow() -> Any:
    try:
        for name in ("models", "pyfunc", "types"):
            importlib.import_module(f"mlflow.{name}")
    except ImportError as error:
        raise InputError("mlflow is missing: pip install 'windvane[mlflow]'.") from error
    return importlib.import_module("mlflow")
