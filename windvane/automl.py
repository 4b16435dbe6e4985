"""The public estimators, and how one is opened again."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin

from windvane import persist
from windvane.data.target import TaskType
from windvane.errors import RunError
from windvane.estimator import Estimator
from windvane.results import Results, predictor_of
from windvane.runs import Outcome
from windvane.search.prepare import choose_families
from windvane.search.run import RunDirectory, read_manifest
from windvane.settings import resolve_jobs


class AutoClassifier(ClassifierMixin, Results, Estimator):
    """Finds the best classifier that a time budget allows.

    Parameters
    ----------
    time_budget
        Seconds, or a text such as "10m"; `fit` returns within it.
    metric
        "auto" (roc_auc for two classes, log_loss for more), a scikit-learn name or scorer, or a `windvane.Metric`.
    n_jobs
        Worker programs; -1 for all cores, on a cluster for all its threads.
    memory_limit
        Megabytes for all that windvane starts; None for 80 % of what is available, on a cluster of each machine.
    policy
        "auto", or "holdout", "cv3", "cv5", "cv10", each also with "-halving".
    families
        Names out of `windvane.FAMILIES`, scikit-learn estimators, and own families; None for those that measurement
        put into the portfolio.
    ensemble_size
        Rounds of the greedy ensemble selection.
    n_trials
        Limit on trials. With it and a seed the result is the same on every run, for one worker or several.
    run_dir
        Directory of the run; None for a temporary one that goes with the object.
    random_state
        Seed; None for another one each time.
    verbose
        0 for silence.
    keep_data
        Whether the run directory keeps the data, which `resume` needs.
    portfolio
        File of the configurations that are evaluated first, from ``windvane portfolio build``; None for the portfolio
        that ships.
    scheduler
        Address of a Dask scheduler, as in "tcp://host:8786", whose cluster evaluates the trials; None for this machine.

    Attributes
    ----------
    classes_
        Labels in the order of the columns of `predict_proba`.
    trials_
        Every `windvane.Trial` of the run.
    policy_
        How it was validated, with the reason in words.
    test_score_
        Score on ``X_test``, which chose nothing: the honest number.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    >>> model = AutoClassifier(time_budget="30s").fit(X, y)  # doctest: +SKIP
    >>> model.predict(X[:3])  # doctest: +SKIP
    array([0, 0, 0])
    """

    _goal: TaskType = "classification"
    score = Estimator.score  # by the run's metric, where the mixin has the accuracy

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Predict probabilities.

        Parameters
        ----------
        X
            n rows.

        Returns
        -------
        ndarray
            Shape (n, n_classes), columns in the order of ``classes_``, rows sum to 1.
        """
        return predictor_of(self).predict_raw(self._table(X))


class AutoRegressor(RegressorMixin, Results, Estimator):
    """Finds the best regressor that a time budget allows.

    Parameters and attributes are those of `AutoClassifier`, without classes; ``metric="auto"`` is rmse.
    """

    _goal: TaskType = "regression"
    score = Estimator.score  # by the run's metric, where the mixin has R2


def load(
    path: str | Path, *, metric: Any = None, families: Sequence[Any] | None = None, n_jobs: int | None = -1
) -> AutoClassifier | AutoRegressor:
    """Open a saved model, or a run, finished or not.

    Parameters
    ----------
    path
        A folder from ``save``, or a run directory.
    metric
        The user's own metric where the run had one; no file can hold it. Without it ``score`` is that of
        ``metric="auto"``, which a warning says.
    families
        Estimators and own families of the run, beside the names of others it may use; None for windvane's.
    n_jobs
        Threads for prediction, and workers where the run is resumed.

    Returns
    -------
    AutoClassifier or AutoRegressor
        Fitted.

    Raises
    ------
    RunError
        Where the folder is neither.
    VersionError
        Where another version wrote it and this one cannot read it.
    ModelFileError
        Where a file is missing, damaged or not trusted; nothing in it is executed.
    NoModelError
        Where an unfinished run has no usable model yet.
    """
    folder = Path(path)
    manifest = read_manifest(folder / "manifest.json")
    kinds: dict[str, type[AutoClassifier] | type[AutoRegressor]]
    kinds = {"AutoClassifier": AutoClassifier, "AutoRegressor": AutoRegressor}
    if manifest.get("estimator") not in kinds:
        raise RunError(f"{str(folder)!r} is damaged: its manifest names no estimator of windvane.")
    model = kinds[manifest["estimator"]](
        metric=metric if metric is not None else "auto" if manifest.get("own_metric") else manifest["metric"],
        families=families if families is not None else manifest.get("families"),
        n_jobs=n_jobs,
        run_dir=folder if manifest.get("kind") == "run" else None,
    )
    known = choose_families(families)
    if manifest.get("kind") == "run":
        model._take(Outcome.of_run(RunDirectory(folder), known, metric, resolve_jobs(n_jobs)), RunDirectory(folder))
    else:
        model.predictor_ = persist.read_predictor(folder, known, metric, threads=resolve_jobs(n_jobs))
        model.trials_, model.curve_ = [], []
        model._learn_names(model.predictor_)
    if manifest.get("own_metric") and metric is None:
        warnings.warn(
            f"The metric {manifest['metric']!r} was the user's own, and no file can hold it: score() is that of "
            f"{model.predictor_.metric.name!r} now. load(path, metric=...) brings it.",
            UserWarning,
            stacklevel=2,
        )
    return model
