"""The score of every trial on rows that the search did not see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from windvane.errors import MetricError, ModelFileError
from windvane.evaluation.predictions import Predictions
from windvane.evaluation.score_text import natural_score
from windvane.models.base import Family
from windvane.persistence import Predictor, load_fold_models
from windvane.runtime.ensemble import Ensemble, Member
from windvane.search.run.run_directory import RunDirectory
from windvane.search.trial import Trial


def score_trials(
    predictor: Predictor,
    trials: Sequence[Trial],
    directory: RunDirectory | None,
    families: Mapping[str, Family],
    test: Predictions,
    on_trial: Callable[[int, int], None],
) -> dict[int | None, float]:
    """Return the score (higher is better) of each trial whose models exist, by its number.

    A trial predicts with the models of all its folds. Without the run directory only the members of the ensemble have
    models, those that predict. `on_trial` is called with the number of trials done, and of all.
    """
    metric, table = predictor.metric, test.table.take(test.rows)
    usable = [trial for trial in trials if trial.usable]
    found: dict[int | None, float] = {}
    for done, trial in enumerate(usable, start=1):
        single = _of_trial(predictor, trial, directory, families)
        if single is not None:
            scored = replace(test, prediction=single.predict_raw(table), ensemble=single.ensemble)
            try:
                found[trial.number] = natural_score(metric, scored.score(metric))
            except MetricError:
                found[trial.number] = float("nan")
        on_trial(done, len(usable))
    return found


def _of_trial(
    predictor: Predictor, trial: Trial, directory: RunDirectory | None, families: Mapping[str, Family]
) -> Predictor | None:
    """Return a predictor of one trial; None if its models are gone or damaged."""
    member = Member(trial.number, trial.checkpoint or "", trial.family, 1.0)
    alone = Ensemble((member,), trial.loss, averages_roots=predictor.ensemble.averages_roots)
    if directory is not None and directory.checkpoint(trial.number, member.checkpoint).is_dir():
        (folders,) = directory.model_folders(alone)
        try:
            loaded = load_fold_models(trial.family, folders, predictor.task, families)
        except (ModelFileError, OSError):
            return None
        return replace(predictor, ensemble=alone, models=[loaded], folders=[folders])
    for i, one in enumerate(predictor.ensemble.members):
        if one.number == trial.number:
            models, kept = [predictor.models[i]], [predictor.folders[i]]
            return replace(predictor, ensemble=alone, models=models, folders=kept)
    return None
