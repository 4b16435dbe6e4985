"""Open what was saved, or a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from windvane import persistence
from windvane.automl.images import AutoImageClassifier
from windvane.automl.tables import AutoClassifier, AutoRegressor
from windvane.errors import RunError, WindvaneError, warn_user
from windvane.models import FAMILIES
from windvane.runtime.serialization import DAMAGE
from windvane.search.run.record import RunRecord
from windvane.search.run.run_directory import RunDirectory
from windvane.search.runner import read_result
from windvane.search.strategy.families import choose_families
from windvane.settings import resolve_jobs

AutoEstimator = AutoClassifier | AutoRegressor | AutoImageClassifier
_ESTIMATORS: dict[str, type[AutoEstimator]] = {
    estimator.__name__: estimator for estimator in (AutoClassifier, AutoRegressor, AutoImageClassifier)
}


def load(
    path: str | Path, *, metric: Any = None, families: Sequence[Any] | None = None, n_jobs: int | None = -1
) -> AutoClassifier | AutoRegressor | AutoImageClassifier:
    """Open a saved model, or a run, finished or not.

    Parameters
    ----------
    path
        A folder from ``save`` or ``export``, or a run directory.
    metric
        The user's own metric if the run had one; no file can hold it. Without it ``score`` is that of
        ``metric="auto"``, and a warning says so.
    families
        Estimators and own families of the run, beside the names of others it may use; None for windvane's.
    n_jobs
        Threads for prediction, and workers if the run is resumed.

    Returns
    -------
    AutoClassifier, AutoRegressor or AutoImageClassifier
        Fitted.

    Raises
    ------
    RunError
        If the folder is neither.
    VersionError
        If another version wrote it and this one cannot read it.
    ModelFileError
        If a file is missing, damaged or not trusted; nothing in it is executed.
    NoModelError
        If an unfinished run has no usable model yet.

    Examples
    --------
    >>> model = load("runs/churn")  # doctest: +SKIP
    >>> model.predict(X[:3])  # doctest: +SKIP
    array(['no', 'yes', 'no'], dtype=object)
    """
    folder = Path(path).absolute()  # the process may change its working directory later
    try:
        return _load(folder, metric, families, n_jobs)
    except WindvaneError:
        raise
    except DAMAGE as error:
        raise RunError(f"{str(folder)!r} is damaged: {error!r}") from error


def _load(folder: Path, metric: Any, families: Sequence[Any] | None, n_jobs: int | None) -> AutoEstimator:
    manifest = persistence.read_manifest(folder / "manifest.json")
    if manifest.get("estimator") not in _ESTIMATORS:
        raise RunError(f"{str(folder)!r} is damaged: its manifest names no estimator of windvane.")
    is_run = manifest.get("kind") == "run"
    searched = [name for name in manifest.get("families", ()) if name in FAMILIES]  # the user's own must be passed
    model = _ESTIMATORS[manifest["estimator"]](
        metric=metric if metric is not None else "auto" if manifest.get("own_metric") else manifest.get("metric"),
        families=families if families is not None else searched or None,
        n_jobs=n_jobs,
        run_dir=folder if is_run else None,
    )
    known = choose_families(families)
    if is_run:
        directory = RunDirectory(folder)
        model._set_result(*read_result(directory, known, metric, resolve_jobs(n_jobs)), directory)
    else:
        model._set_record(RunRecord.of_manifest(manifest))
        model._set_predictor(persistence.read_predictor(folder, known, metric, threads=resolve_jobs(n_jobs)))
    if manifest.get("own_metric") and metric is None:
        warn_user(
            f"The metric {manifest['metric']!r} was the user's own, and no file can hold it: score() is that of "
            f"{model.predictor_.metric.name!r} now. load(path, metric=...) brings it."
        )
    return model


def keep_decision(model: AutoEstimator, folder: Path) -> None:
    """Write the decision and calibration of a loaded model into its folder; a run directory has them already."""
    if persistence.read_manifest(folder / "manifest.json").get("kind") != "run":
        persistence.update_ensemble(folder, model.predictor_.ensemble, model._record().to_json())
