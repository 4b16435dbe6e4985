"""Racing: which trials end early because nothing can come of them; pure functions over losses.

The rule of "Don't Waste Your Time: Early Stopping Cross-Validation" (Bergman, Purucker and Hutter 2024), section 3, in
its forgiving form: a trial is out when its mean loss over the folds done is above the loss of the best trial on *its
worst fold*. Cheap trials run it fold by fold. Of trials that grow on all folds together the mean curve is carried on,
and they are out when even its optimistic end is above that bar.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from windvane.search.trial import Job, Trial

ON = False  # until it is seen to pay: docs/decisions.md
# Seconds that a fold may grow ahead of the others to decide the race; without a clock (with a trial limit), the rows x
# columns x outputs up to which folds are grown one after the other.
SECONDS_A_FOLD = 1.0
CELLS = 3e6
# How much faster than in its last doubling a curve is thought to fall from then on, per doubling. A curve exp(-r n)
# that has only begun, r n = 0.1 as at a learning rate of 0.006 after 16 rounds, falls up to 2.5 times as fast later.
OPTIMISM = 3.0


def bar(job: Job, trials: Sequence[Trial]) -> float:
    """Say what a job has to beat.

    Parameters
    ----------
    job
        What is about to run.
    trials
        Those whose results may decide.

    Returns
    -------
    float
        The loss of the best trial on as many rows and iterations, on its worst fold. Infinity where the job runs no
        race: it is the first of its family (an ensemble lives by variety), or there is one fold only, which says
        nothing of the spread.
    """
    peers = [trial for trial in trials if trial.usable and (trial.rows, trial.share) == (job.rows, job.share)]
    if all(trial.family != job.family for trial in peers):
        return math.inf
    best = min(peers, key=lambda trial: (trial.loss, trial.number))
    return max(best.fold_losses) if len(best.fold_losses) > 1 else math.inf


def is_out(losses: Sequence[float], limit: float) -> bool:
    """Say whether the folds done decide the race.

    Parameters
    ----------
    losses
        Of the folds done, at least one.
    limit
        From `bar`.

    Returns
    -------
    bool
        Whether their mean is above it.
    """
    return math.fsum(losses) / len(losses) > limit


def is_hopeless(curve: Sequence[tuple[int, float]], last: int, limit: float) -> bool:
    """Say whether a trial that grows on all folds together can still come below the bar.

    Parameters
    ----------
    curve
        Iterations, increasing, and mean loss over the folds after them.
    last
        Iterations at which it would be fully grown.
    limit
        From `bar`.

    Returns
    -------
    bool
        Whether the curve, falling `OPTIMISM` times as fast per doubling as in its last part, ends above it.
    """
    if len(curve) < 2:
        return False
    (before, high), (now, low) = curve[-2:]
    a_doubling = max(0.0, high - low) / math.log2(now / before)
    return low - OPTIMISM * a_doubling * math.log2(max(1.0, last / now)) > limit
