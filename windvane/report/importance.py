"""How much worse the score gets when a column is shuffled (Breiman 2001; Fisher et al. 2019), within a time limit.

A column is shuffled where the models read it, in the encoded table, and out-of-fold rows are predicted by the models
that did not see them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from windvane.report.evidence import Judged, predict_again
from windvane.runtime.table import Table

MOST_ROWS = 1_000
MOST_REPEATS = 5
MOST_SECONDS = 10.0


@dataclass(frozen=True)
class Importance:
    """What was measured.

    Attributes
    ----------
    rows
        On how many rows.
    repeats
        How often each column was shuffled.
    losses
        Name -> how much the loss grows on average, and the standard deviation over the repeats; largest first.
    left_out
        How many columns the time did not suffice for.
    """

    rows: int
    repeats: int
    losses: Mapping[str, tuple[float, float]]
    left_out: int


def measure_importance(
    judged: Judged, columns: Mapping[str, Sequence[int]], order: Sequence[str], seed: int
) -> Importance | None:
    """Shuffle one column after the other.

    Parameters
    ----------
    judged
        Rows to measure on; at most `MOST_ROWS` of them are used.
    columns
        Name -> columns of the matrix.
    order
        Names, the most promising first, for the case that the time does not suffice for all.
    seed
        Of sample and shuffles.

    Returns
    -------
    Importance or None
        None where nothing can be shuffled.
    """
    if judged.predictor is None or not columns:
        return None
    some = judged.sample(MOST_ROWS, seed)
    table = some.table.take(some.rows)
    end, rng = time.monotonic() + MOST_SECONDS, np.random.default_rng(seed)
    before = _loss(some, table)
    growth: dict[str, list[float]] = {}
    for _ in range(MOST_REPEATS):
        begun = time.monotonic()
        for name in order:
            if time.monotonic() > end:
                break
            shuffled = table.matrix.copy()
            where = list(columns[name])
            shuffled[:, where] = shuffled[rng.permutation(len(shuffled))][:, where]
            growth.setdefault(name, []).append(_loss(some, replace(table, matrix=shuffled)) - before)
        if time.monotonic() + (time.monotonic() - begun) > end:  # the next round would not end in time
            break
    repeats = min(map(len, growth.values()))
    found = {name: (float(np.mean(values)), float(np.std(values))) for name, values in growth.items()}
    ranked = dict(sorted(found.items(), key=lambda item: -item[1][0]))
    return Importance(table.n_rows, repeats, ranked, len(order) - len(growth))


def _loss(judged: Judged, table: Table) -> float:
    predictor, raw = judged.predictor, predict_again(judged, table)
    assert predictor is not None
    shown = predictor.weighted(raw) if predictor.metric.needs == "labels" else raw
    return predictor.metric.loss(judged.target, shown, judged.weight)
