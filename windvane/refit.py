"""The members of an ensemble trained once more, on all rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.models.base import Family, Part, Setting
from windvane.predictor import Predictor
from windvane.runtime.table import Floats, Table
from windvane.search.trial import Trial

MOST_STOPPING_ROWS = 2_000


def refitted(
    predictor: Predictor,
    trials: Sequence[Trial],
    families: Mapping[str, Family],
    rows: tuple[Table, NDArray[Any], Floats | None],
    folder: Path,
) -> Predictor:
    """Train every member once on all rows.

    Parameters
    ----------
    predictor
        Gives members and weights.
    trials
        Give configurations and the best iterations of the folds.
    families
        Of the run.
    rows
        Table, target and weight of all rows.
    folder
        Where the new models are kept; an earlier one is replaced.

    Returns
    -------
    Predictor
        The same ensemble with one model a member.
    """
    making = folder.with_name(folder.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    train = Part(*rows)
    table, target, weight = rows
    few = np.arange(0, table.n_rows, -(-table.n_rows // MOST_STOPPING_ROWS))  # spread over tables sorted by target
    # Early stopping looks at rows that are trained on, so that nothing stops before its number of iterations.
    judged = Part(table.take(few), target[few], None if weight is None else weight[few])
    by_number = {trial.number: trial for trial in trials}
    settings = [Setting(predictor.task, by_number[member.number].seed) for member in predictor.ensemble.members]
    places = [f"{member.number:05d}/fold_0" for member in predictor.ensemble.members]
    for member, setting, place in zip(predictor.ensemble.members, settings, places, strict=True):
        trial = by_number[member.number]
        model = families[member.family].start(trial.config, train, judged, setting)
        model.grow(max(1, round(float(np.mean(trial.iterations)))))
        (making / place).mkdir(parents=True)
        model.save(making / place)
    shutil.rmtree(folder, ignore_errors=True)  # only now that all went well
    making.rename(folder)
    models = [
        [families[member.family].load(folder / place, setting)]
        for member, setting, place in zip(predictor.ensemble.members, settings, places, strict=True)
    ]
    members = tuple(replace(member, folds=()) for member in predictor.ensemble.members)
    ensemble = replace(predictor.ensemble, members=members)
    return replace(predictor, ensemble=ensemble, models=models, folders=[[folder / place] for place in places])
