"""The trials of a run as a study of Optuna, in a file of SQLite that its dashboard opens."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from windvane.errors import check_new_file
from windvane.models.base import Family
from windvane.persistence import Predictor
from windvane.runtime.serialization import replace_file
from windvane.search.trial import Trial

NAME = "windvane"  # of the study
_ATTRIBUTES = (
    *("source", "status", "seed", "n_rows", "iteration_fraction", "fold_losses", "best_iterations", "error"),
    *("fit_seconds", "predict_seconds", "cpu_seconds"),
)


def write_study(trials: Sequence[Trial], predictor: Predictor, families: Mapping[str, Family], path: Path) -> Any:
    """Write trials as a study in a new file, and return it opened from there.

    The times of day are as if the run had just ended. InputError if the path is no new file that ends in .db.
    """
    import optuna

    check_new_file(path, ".db")
    metric = predictor.metric
    names = sorted({trial.family for trial in trials})
    begin = datetime.now() - timedelta(seconds=max(trial.ended for trial in trials))
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with replace_file(path) as part:
            storage = optuna.storages.RDBStorage(_url(part))
            study = optuna.create_study(
                storage=storage, study_name=NAME, direction="maximize" if metric.greater_is_better else "minimize"
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                study.set_metric_names([metric.name])
            for trial in trials:
                study.add_trial(_frozen(trial, begin, names, predictor, families))
            storage.remove_session()
            storage.engine.dispose()
        return optuna.load_study(study_name=NAME, storage=_url(path))
    finally:
        optuna.logging.set_verbosity(verbosity)


def _url(path: Path) -> str:
    return f"sqlite:///{path.absolute()}"


def _frozen(
    trial: Trial, begin: datetime, names: Sequence[str], predictor: Predictor, families: Mapping[str, Family]
) -> Any:
    """Return a trial as Optuna has it; a hyperparameter that is in no search space is an attribute of the user."""
    from optuna.distributions import CategoricalDistribution
    from optuna.trial import FrozenTrial, TrialState

    family = families.get(trial.family)
    space = {} if family is None else family.search_space(predictor.task)
    params: dict[str, Any] = {"family": trial.family}
    distributions: dict[str, Any] = {"family": CategoricalDistribution(names)}
    attributes = {name: getattr(trial, name) for name in _ATTRIBUTES}
    weights = {member.number: member.weight for member in predictor.ensemble.members}
    attributes |= {"number": trial.number, "ensemble_weight": weights.get(trial.number, 0.0)}
    for name, value in trial.config.items():
        full = f"{trial.family}.{name}"
        distribution = space[name].distribution if name in space else None
        if distribution is not None and distribution._contains(distribution.to_internal_repr(value)):
            params[full], distributions[full] = value, distribution
        else:
            attributes[full] = value
    return FrozenTrial(
        number=-1,  # the storage numbers them
        trial_id=-1,
        state=TrialState.COMPLETE if trial.usable else TrialState.FAIL,
        value=predictor.metric.score(trial.loss) if trial.usable else None,
        datetime_start=begin + timedelta(seconds=trial.started),
        datetime_complete=begin + timedelta(seconds=trial.ended),
        params=params,
        distributions=distributions,
        user_attrs=attributes,
        system_attrs={},
        intermediate_values={},
    )
