from __future__ import annotations

import numpy as np
import pytest

from windvane.data.task import Task
from windvane.search.policy import ENOUGH_ROWS, Policy, make_policy, select_policy
from windvane.settings import POLICIES, VALIDATIONS


def test_every_name_is_read() -> None:
    for name in POLICIES[1:]:
        policy = make_policy(name, "chosen by the user")
        assert policy == Policy(name, VALIDATIONS[name.split("-")[0]], "-" in name, "chosen by the user")


@pytest.mark.parametrize(
    ("task", "cpu_seconds", "name", "reason"),
    [
        (Task("binary", 500, 20, 2), 120, "cv5", "500 rows: five folds use every row, and the budget carries them"),
        (Task("binary", 500, 20, 2), np.inf, "cv5", "five folds"),
        (Task("regression", 500, 20), 120, "cv5", "five folds"),
        (Task("binary", ENOUGH_ROWS, 5, 2), 1e9, "holdout", "100,000 rows: a hold-out part is large enough to trust"),
        (Task("binary", 50_000, 600, 2), 120, "holdout", "the budget of 120 CPU seconds carries no more folds on"),
        (Task("binary", 50_000, 600, 2), 1e5, "cv5", "five folds"),
        (Task("binary", 50_000, 600, 2), 1800, "cv3", "the budget of 1800 CPU seconds carries no more folds"),
        (Task("binary", 500, 20, 2), 0.01, "holdout", "the budget of 0 CPU seconds"),
        (Task("binary", 15, 4, 2), 120, "cv3", "15 rows are too few for more folds"),
        (Task("binary", 8, 4, 2), np.inf, "holdout", "8 rows are too few for more folds"),
    ],
)
def test_policy_by_size_and_budget(task: Task, cpu_seconds: float, name: str, reason: str) -> None:
    policy = select_policy(task, cpu_seconds)
    assert (policy.name, policy.n_folds, policy.halving) == (name, VALIDATIONS[name], False)
    assert reason in policy.reason


def test_more_budget_never_means_fewer_folds() -> None:
    for rows in (10, 100, 1000, 19_999, ENOUGH_ROWS):
        for columns in (1, 50, 5000):
            task = Task("multiclass", rows, columns, 5)
            folds = [select_policy(task, seconds).n_folds for seconds in np.geomspace(1, 1e8, 30)]
            assert folds == sorted(folds)
