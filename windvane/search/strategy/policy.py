"""Policy: how to validate and how to spend, and which one suits a task.

Auto-Sklearn 2.0, section 3.1: {hold-out, 3, 5, 10 folds} x {full budget, successive halving}. What suits a table of
some size stands in a small file that ships with the package; what the budget cannot carry is cut from it here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from windvane.data.task import Task
from windvane.pages.texts import counted
from windvane.runtime.serialization import read_json
from windvane.settings import VALIDATIONS

# One round of boosting on one core costs about this many seconds for each cell (rows x columns), and a
# useful model has about this many rounds; measured in benchmarks/engine/engine.py, good to a factor of two.
_SECONDS_PER_CELL = 1.5e-8
_ROUNDS = 200
_CONFIGURATIONS = 5  # fewer than these say little about which one is best


@dataclass(frozen=True)
class Policy:
    """How to validate and how to spend."""

    name: str  # out of `windvane.settings.POLICIES`, never "auto"
    n_folds: int  # 1 for hold-out
    halving: bool  # whether trials are cut by successive halving
    reason: str  # in words

    def for_groups(self, n_groups: int) -> Policy:
        """Return the policy with as many folds as there are groups, at least two, where it has more."""
        n_folds = max(2, n_groups)
        if n_folds >= self.n_folds:
            return self
        named = [name for name, folds in VALIDATIONS.items() if folds == n_folds]
        name = named[0] + "-halving" * self.halving if named else self.name
        reason = f"groups has {counted(n_groups, 'distinct value')}, which carry no more folds"
        return replace(self, name=name, n_folds=n_folds, reason=reason)


@dataclass(frozen=True)
class PolicyTable:
    """The policy that suits tables of some size, for a budget that carries it."""

    # Lower edges of the r x c cells, ascending; the first cell of each reaches down to 0, the last is open.
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    policies: tuple[tuple[str, ...], ...]  # names, r times c
    reasons: Mapping[str, str]  # of each name, in words

    def choose(self, task: Task) -> Policy:
        row = max(0, bisect_right(self.rows, task.n_rows) - 1)
        column = max(0, bisect_right(self.columns, task.n_columns) - 1)
        name = self.policies[row][column]
        return make_policy(name, f"{task.n_rows:,} rows: {self.reasons[name]}")

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> PolicyTable:
        policies = tuple(tuple(line) for line in record["policies"])
        return cls(tuple(record["rows"]), tuple(record["columns"]), policies, dict(record["reasons"]))


def make_policy(name: str, reason: str) -> Policy:
    """Read a policy's name."""
    validation = name.removesuffix("-halving")
    return Policy(name, VALIDATIONS[validation], name != validation, reason)


@cache
def read_policies(kind: str) -> PolicyTable:
    """Read the table that ships."""
    return PolicyTable.from_json(read_json(Path(__file__).with_name("learned") / f"policy_{kind}.json"))


def select_policy(task: Task, cpu_seconds: float) -> Policy:
    """Choose a policy: the one that suits the size of the table, with no more folds than the budget carries.

    On the published results of Auto-Sklearn 2.0's 208 tasks, more folds help where they do not fail, and their failures
    are budgets that no fold survives. So folds are counted against what they cost.
    """
    wanted = read_policies("classification" if task.is_classification else "regression").choose(task)
    # Many classes make boosting slow, but not the families that win there: they do not count.
    cells = task.n_rows * task.n_columns
    one_fit = 0.02 + cells * _SECONDS_PER_CELL * _ROUNDS
    affordable = cpu_seconds / (_CONFIGURATIONS * one_fit)
    rows_allow = task.n_rows / 4  # of tiny data every part still has some rows
    most = min(affordable, rows_allow, wanted.n_folds)
    validation, folds = max((pair for pair in VALIDATIONS.items() if pair[1] <= max(1, most)), key=lambda pair: pair[1])
    if folds == wanted.n_folds:
        return wanted
    name = validation + "-halving" * wanted.halving
    if rows_allow < affordable:
        return make_policy(name, f"{task.n_rows:,} rows are too few for more folds")
    return make_policy(name, f"the budget of {cpu_seconds:.0f} CPU seconds carries no more folds on {cells:,} cells")
