"""What a fitted estimator can tell of its run: pure functions from records to frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from windvane.evaluation.metrics import Metric
from windvane.runtime.ensemble import Ensemble
from windvane.search.trial import Trial


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
