"""How much a loss varies from sample to sample: the bootstrap (Efron, 1979)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.runtime.columns.table import Floats, Integers


def bootstrap(
    loss_of: Callable[[Integers], float],
    n_rows: int,
    n_resamples: int,
    *,
    seed: int,
    strata: NDArray[Any] | None = None,
    max_seconds: float = np.inf,
) -> Floats:
    """Losses on rows drawn with replacement, at most `n_resamples` of them; each stratum keeps its number of rows."""
    rng, end = np.random.default_rng(seed), time.monotonic() + max_seconds
    groups = [np.arange(n_rows)] if strata is None else [np.flatnonzero(strata == one) for one in np.unique(strata)]
    losses: list[float] = []
    while len(losses) < n_resamples and time.monotonic() < end:
        losses.append(loss_of(np.concatenate([rng.choice(rows, len(rows)) for rows in groups])))
    return np.array(losses)


def bootstrap_interval(resampled: Floats, biased: float | None = None) -> tuple[float, float]:
    """95 % interval of a score from its resamples, (b,): their percentiles.

    `biased` is the score of the rows themselves where it is a mean distance, which noise increases. Noise adds up in
    squares, once in the score and twice in its resamples, which tells its share. The interval goes from the lower
    percentile below the distance without noise to the upper one above the score; no distance is below 0.
    """
    low, high = np.quantile(resampled, [0.025, 0.975]).tolist()
    if biased is None:
        return low, high
    mean = float(np.mean(resampled))
    without_noise = max(0.0, 2 * biased**2 - mean**2) ** 0.5
    return max(0.0, min(without_noise - (mean - low), biased)), biased + high - mean


def bootstrap_standard_error(
    loss: Callable[[Integers, Floats, Floats | None], float],
    target: Integers,
    prediction: Floats,
    weight: Floats | None = None,
) -> float:
    """Standard error of a loss, in its units; resampled within the classes, so that no class is ever missing."""

    def loss_of(rows: Integers) -> float:
        return loss(target[rows], prediction[rows], None if weight is None else weight[rows])

    losses = bootstrap(loss_of, len(target), n_resamples=30, seed=0, strata=target)
    return float(np.std(losses, ddof=1))
