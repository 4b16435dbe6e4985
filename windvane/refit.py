"""The members of an ensemble trained once more, on all rows."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.table import Floats, Table
from windvane.models.base import Family, Part, Setting
from windvane.predictor import Predictor
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
    shutil.rmtree(folder, ignore_errors=True)
    train = Part(*rows)
    table, target, weight = rows
    few = np.arange(min(MOST_STOPPING_ROWS, table.n_rows))
    # Early stopping looks at rows that are trained on, so that nothing stops before its number of iterations.
    judged = Part(table.take(few), target[few], None if weight is None else weight[few])
    by_number = {trial.number: trial for trial in trials}
    models, folders = [], []
    for member in predictor.ensemble.members:
        trial = by_number[member.number]
        setting = Setting(predictor.task, trial.seed, threads=1)
        model = families[member.family].start(trial.config, train, judged, setting)
        model.grow(max(1, round(float(np.mean(trial.iterations)))))
        kept = folder / f"{member.number:05d}" / "fold_0"
        kept.mkdir(parents=True)
        model.save(kept)
        models.append([families[member.family].load(kept, setting)])
        folders.append([kept])
    return replace(predictor, models=models, folders=folders)
