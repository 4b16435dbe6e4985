"""Policy: how to validate and how to spend, and which one suits a task.

Auto-Sklearn 2.0, section 3.1: {hold-out, 3, 5, 10 folds} x {full budget, successive halving}.
"""

from __future__ import annotations

from dataclasses import dataclass

from windvane.data.task import Task
from windvane.settings import VALIDATIONS

# One round of boosting on one core costs about this many seconds for each cell (rows x columns), and a
# useful model has about this many rounds; measured in benchmarks/engine.py, good to a factor of two.
_SECONDS_PER_CELL = 1.5e-8
_ROUNDS = 200
ENOUGH_ROWS = 100_000
_CONFIGURATIONS = 5  # fewer than these say little about which one is best


@dataclass(frozen=True)
class Policy:
    """How to validate and how to spend.

    Attributes
    ----------
    name
        Out of `windvane.settings.POLICIES`, never "auto".
    n_folds
        1 for hold-out.
    halving
        Whether trials are cut by successive halving.
    reason
        Why, in words.
    """

    name: str
    n_folds: int
    halving: bool
    reason: str


def make_policy(name: str, reason: str) -> Policy:
    """Read a policy's name.

    Parameters
    ----------
    name
        Such as "cv5" or "holdout-halving".
    reason
        Why it is used.

    Returns
    -------
    Policy
        The policy.
    """
    validation = name.removesuffix("-halving")
    return Policy(name, VALIDATIONS[validation], name != validation, reason)


def select_policy(task: Task, cpu_seconds: float) -> Policy:
    """Choose a policy: more folds while the data are small and the budget carries them.

    On the published results of Auto-Sklearn 2.0's 208 tasks, more folds help where they do not fail, and their failures
    are budgets that no fold survives. So folds are counted against what they cost.

    Parameters
    ----------
    task
        Its size decides.
    cpu_seconds
        Time budget x workers.

    Returns
    -------
    Policy
        The policy with its reason.
    """
    # Many classes make boosting slow, but not the families that win there: they do not count.
    cells = task.n_rows * task.n_columns
    one_fit = 0.02 + cells * _SECONDS_PER_CELL * _ROUNDS
    affordable = cpu_seconds / (_CONFIGURATIONS * one_fit)
    if task.n_rows >= ENOUGH_ROWS:
        return make_policy("holdout", f"{task.n_rows:,} rows: a hold-out part is large enough to trust")
    rows_allow = task.n_rows / 4  # of tiny data every part still has some rows
    folds = max((k for k in (1, 3, 5) if k <= min(affordable, rows_allow)), default=1)
    name = next(name for name, k in VALIDATIONS.items() if k == folds)
    if folds == 5:
        return make_policy(name, f"{task.n_rows:,} rows: five folds use every row, and the budget carries them")
    if rows_allow < affordable:
        return make_policy(name, f"{task.n_rows:,} rows are too few for more folds")
    return make_policy(name, f"the budget of {cpu_seconds:.0f} CPU seconds carries no more folds on {cells:,} cells")
