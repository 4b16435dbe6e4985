"""Importance of the columns for a fitted estimator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.inspection import permutation_importance

from windvane.data.files import to_frame
from windvane.errors import InputError

MOST_IMPORTANCE_ROWS = 5_000


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
