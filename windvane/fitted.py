"""What a fitted estimator can tell of its run: pure functions from records to frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.inspection import permutation_importance

from windvane.data.files import to_frame
from windvane.data.metrics import Metric
from windvane.errors import InputError
from windvane.runtime.ensemble import Ensemble
from windvane.search.trial import Trial

MOST_IMPORTANCE_ROWS = 5_000


def leaderboard(trials: Sequence[Trial], ensemble: Ensemble) -> pd.DataFrame:
    """Rank the trials.

    Parameters
    ----------
    trials
        Of one run.
    ensemble
        Gives weights.

    Returns
    -------
    pandas.DataFrame
        One row for each trial, best validation loss first, indexed by rank. That loss helped to choose the
        ensemble, so it is optimistic.
    """
    weights = {member.number: member.weight for member in ensemble.members}
    ranked = sorted(trials, key=lambda trial: (trial.loss, trial.number))
    rows = [
        {
            "trial": trial.number,
            "family": trial.family,
            "ensemble_weight": weights.get(trial.number, 0.0),
            "validation_loss": trial.loss if np.isfinite(trial.loss) else np.nan,
            "fit_seconds": trial.fit_seconds,
            "predict_seconds": trial.predict_seconds,
            "status": trial.status,
            "origin": trial.origin,
        }
        for trial in ranked
    ]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="rank"))


def performance_over_time(curve: Sequence[tuple[float, float, float]], metric: Metric) -> pd.DataFrame:
    """Show how the best single model and the ensemble went on.

    Parameters
    ----------
    curve
        Seconds since the start of the run, loss of the best single trial, loss of the ensemble.
    metric
        Turns losses into scores.

    Returns
    -------
    pandas.DataFrame
        Columns seconds, best_single and ensemble: validation scores in the metric's own direction.
    """
    return pd.DataFrame(
        {
            "seconds": [seconds for seconds, _, _ in curve],
            "best_single": [metric.score(single) for _, single, _ in curve],
            "ensemble": [metric.score(blend) for _, _, blend in curve],
        }
    )


def feature_importance(estimator: Any, X: Any, y: Any, n_repeats: int, seed: int) -> pd.DataFrame:
    """Measure how much worse the score gets when a column is shuffled (Breiman 2001; Fisher et al. 2019).

    Parameters
    ----------
    estimator
        Fitted, with ``score``.
    X, y
        Rows to measure on, best such that were not trained on; at most `MOST_IMPORTANCE_ROWS` of them are used.
    n_repeats
        Shuffles of each column.
    seed
        Randomness of the shuffles.

    Returns
    -------
    pandas.DataFrame
        Columns importance (mean loss of score) and std, one row for each column, largest first.

    Raises
    ------
    InputError
        Where X is sparse, or X and y differ in length.
    """
    frame, target = to_frame(X), np.asarray(y)
    if not isinstance(frame, pd.DataFrame):
        raise InputError("X is a sparse matrix, whose columns cannot be shuffled one by one. Allowed: a dense table.")
    if len(target) != len(frame):
        raise InputError(f"X and y have different lengths: {len(frame)} and {len(target)}.")
    if len(frame) > MOST_IMPORTANCE_ROWS:
        rows = np.random.default_rng(seed).choice(len(frame), MOST_IMPORTANCE_ROWS, replace=False)
        frame, target = frame.iloc[rows], target[rows]
    found = permutation_importance(estimator, frame, target, n_repeats=n_repeats, random_state=seed)
    names = pd.Index([str(name) for name in frame.columns], name="column")
    result = pd.DataFrame({"importance": found.importances_mean, "std": found.importances_std}, index=names)
    return result.sort_values("importance", ascending=False, kind="stable")
