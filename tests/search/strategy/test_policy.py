from __future__ import annotations

import numpy as np
import pytest

import windvane.search.strategy.policy as module
from windvane.data.task import Task
from windvane.search.strategy.policy import Policy, PolicyTable, make_policy, read_policies, select_policy
from windvane.settings import POLICIES, VALIDATIONS

GRID = PolicyTable(
    rows=(0, 1000, 50_000),
    columns=(0, 100),
    policies=(("cv10", "cv5-halving"), ("cv3", "cv3"), ("holdout", "holdout-halving")),
    reasons={name: f"because of {name}" for name in POLICIES[1:]},
)


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
        (Task("binary", 100_000, 5, 2), 1e9, "holdout", "100,000 rows: a hold-out part is large enough to trust"),
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
    for rows in (10, 100, 1000, 19_999, 100_000):
        for columns in (1, 50, 5000):
            task = Task("multiclass", rows, columns, 5)
            folds = [select_policy(task, seconds).n_folds for seconds in np.geomspace(1, 1e8, 30)]
            assert folds == sorted(folds)


@pytest.mark.parametrize(
    ("rows", "columns", "name"),
    [
        (1, 1, "cv10"),
        (999, 99, "cv10"),
        (999, 100, "cv5-halving"),
        (1000, 100, "cv3"),
        (49_999, 99, "cv3"),
        (50_000, 99, "holdout"),
        (10**9, 10**6, "holdout-halving"),
    ],
)
def test_a_table_is_looked_up_by_cells_with_lower_edges(rows: int, columns: int, name: str) -> None:
    assert GRID.choose(Task("binary", rows, columns, 2)) == make_policy(name, f"{rows:,} rows: because of {name}")


def test_fewer_groups_than_folds() -> None:
    wanted = make_policy("cv10-halving", "because")
    assert wanted.for_groups(10) == wanted
    assert wanted.for_groups(5) == Policy(
        "cv5-halving", 5, True, "groups has 5 distinct values, which carry no more folds"
    )
    assert wanted.for_groups(1).n_folds == 2  # which raises later
    assert make_policy("holdout", "because").for_groups(2).n_folds == 1


def test_below_the_first_edge_is_the_first_cell() -> None:
    assert PolicyTable((100,), (5,), (("cv3",),), {"cv3": "x"}).choose(Task("binary", 10, 1, 2)).name == "cv3"


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_what_ships_is_whole(kind: str) -> None:
    table = read_policies(kind)
    assert [len(line) for line in table.policies] == [len(table.columns)] * len(table.rows)
    assert list(table.rows) == sorted(set(table.rows)) and list(table.columns) == sorted(set(table.columns))
    named = {name for line in table.policies for name in line}
    assert named == set(table.reasons) and named <= set(POLICIES[1:])


def test_a_learned_table_replaces_the_rule_and_the_budget_cuts_its_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "read_policies", lambda kind: GRID)
    assert select_policy(Task("binary", 500, 20, 2), np.inf).name == "cv10"
    wide = Task("binary", 999, 100, 2)
    one_fit = 0.02 + 999 * 100 * 1.5e-8 * 200
    assert select_policy(wide, 5 * one_fit * 5.1) == make_policy("cv5-halving", "999 rows: because of cv5-halving")
    cut = select_policy(wide, 5 * one_fit * 4.9)
    assert (cut.name, cut.n_folds, cut.halving) == ("cv3-halving", 3, True)
    assert cut.reason.endswith("CPU seconds carries no more folds on 99,900 cells")
    assert select_policy(wide, 0.01).name == "holdout-halving"
    assert select_policy(Task("binary", 30, 5, 2), np.inf).name == "cv5"
