"""The eight policies replayed from separate cells, and ways to choose one for a table.

Claim: none beforehand; the tables say whether another policy than the shipped rule's, or one chosen by what is known of
    a table and a budget, is better beyond noise.
Data: tables that were collected with a hold-out, 3, 5 and 10 folds; the same configurations under each. "ten" are the
    strongest of an earlier order under all four; "all" are those that were evaluated under all but ten folds.
Score: log(test loss of the ensemble / best that any policy has on the table at any budget) in %, mean over tables;
    differences with their standard errors over tables. Runs are replayed with the scheduler of the search, so with its
    successive halving, on two workers. A run ends when its configurations are exhausted.
    Choices are made for tables that were left out: a tenth at a time, all budgets of a table together.
Hardware: costs are CPU seconds of one thread. Repeats: 1; seed 0.
Commands:
    python -m benchmarks.metalearning.portfolio collect --policy cv3 --entries 10 --tables 20    # each policy, hours
    python -m benchmarks.metalearning.policies pack     # cells and predictions -> policy_*.parquet
    python -m benchmarks.metalearning.policies run      # replays and choices, a minute
    python -m benchmarks.metalearning.policies table
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeRegressor

from benchmarks.command_line import make_main
from benchmarks.markdown import print_head
from benchmarks.metalearning.matrix import read_matrix
from benchmarks.metalearning.matrix import write_matrix as write
from benchmarks.metalearning.pairwise_selector import Selector
from benchmarks.metalearning.portfolio import CELLS, STRONGEST, cells_of
from benchmarks.metalearning.replay_search import replay_search
from benchmarks.result_table import ResultTable, Row
from windvane.data.task import Task
from windvane.metalearning.build_portfolio import relative_loss
from windvane.metalearning.collect import GUESSES
from windvane.metalearning.learn import entries_of
from windvane.metalearning.replay import RunPlan, TableReplay, entry_id, read_replays, score_run
from windvane.search.strategy.policy import select_policy
from windvane.settings import VALIDATIONS

HERE = Path(__file__).resolve().parent
BUDGETS = (10, 60, 600, 3600)  # seconds of wall time
WORKERS = 2
KEPT_ROWS = 1_000  # of validation and test predictions
MIN_STEP = 1.0  # CPU seconds between two checkpoints; a run joins shorter stages
ENTRIES = list(dict.fromkeys(entry_id(one.family, one.config) for one in (*STRONGEST, *GUESSES)))
TEN, MIN_TEN = 10, 8  # configurations of the block "ten", and how many of them a table has at least
MIN_ALL = 20  # configurations of a table under all but ten folds, to count in the block "all"
BLOCKS = {"ten": tuple(VALIDATIONS), "all": ("holdout", "cv3", "cv5")}
DEFAULT_FIT = entry_id("lightgbm", {})
N_PARTS = 10
N_TREES = 25  # of a forest of the selector
WAYS = ("single best", "single best of the budget", "shipped rule", "pairwise selector", "learned rule")
BOUNDS = ("oracle", "random")
RESULTS = ResultTable(
    HERE / "policies.jsonl", ("entries", "policy", "budget"), {"workers": WORKERS, "trees": N_TREES, "parts": N_PARTS}
)
Scores = NDArray[np.float64]
Choices = NDArray[np.int64]


def matrix_of(validation: str) -> Path:
    """Return the file of the packed cells of a policy."""
    return HERE / f"policy_{validation}.parquet"


def pack() -> None:
    """Pack what the replays need: the configurations that were evaluated under all but ten folds, else ten of them."""
    found = {name: read_cells_of(name) for name in VALIDATIONS}
    entries = entries_of(CELLS)
    for validation in VALIDATIONS:
        entries |= entries_of(cells_of(validation))
    for validation, tables in found.items():
        packed = []
        for name, table in tables.items():
            known = [set(found[other][name].curves) for other in BLOCKS["all"] if name in found[other]]
            if len(known) < len(BLOCKS["all"]):
                continue
            common = set.intersection(*known)
            listed = [entry for entry in ENTRIES if entry in table.curves]
            kept = [entry for entry in listed if entry in common] if len(common) >= MIN_TEN else listed[:TEN]
            if len(kept) >= MIN_TEN:
                packed.append(replace(table, curves={entry: table.curves[entry] for entry in kept}))
        write(packed, entries, matrix_of(validation), min_step=MIN_STEP, all_classes=True)
        print(f"{validation}: {len(packed)} tables, {sum(len(table.curves) for table in packed)} cells")


def read_cells_of(validation: str) -> dict[str, TableReplay]:
    """Read the tables of a policy; five folds are in the cells of portfolios too."""
    paths = [*([CELLS] if validation == "cv5" else []), cells_of(validation)]
    tables: dict[str, TableReplay] = {}
    for path in paths:
        for table in read_replays(path, path.parent / "cache", max_rows=KEPT_ROWS):
            if table.name in tables:
                table.curves = {**tables[table.name].curves, **table.curves}
            tables[table.name] = table
    return tables


@cache
def read_policies() -> dict[str, list[TableReplay]]:
    """Read the packed tables of every policy."""
    return {name: read_matrix(matrix_of(name))[0] for name in VALIDATIONS}


def blocks() -> list[str]:
    """Return the blocks that some table has."""
    frame = pd.read_parquet(matrix_of("holdout"), columns=["table", "config"])
    counts = frame[frame["config"] != ""].groupby("table")["config"].nunique()
    return ["ten", *(["all"] if (counts >= MIN_ALL).any() else [])]


def policies_of(block: str) -> list[str]:
    """Return the names of the policies of a block."""
    return [name + halving for halving in ("", "-halving") for name in BLOCKS[block]]


def plan() -> list[tuple[str, str, int]]:
    return [
        (block, policy, budget)
        for block in blocks()
        for policy in (*policies_of(block), *WAYS, *BOUNDS)
        for budget in BUDGETS
    ]


@dataclass(frozen=True)
class Examples:
    """What is known of e tables at a budget each, and the score of p policies there."""

    tables: NDArray[Any]  # names, shape (e,)
    budgets: Scores  # seconds, shape (e,)
    sizes: Scores  # rows and columns, shape (e, 2)
    facts: Scores  # rows, columns, classes, share of the rarest class, budget in default fits; shape (e, 5)
    policies: tuple[str, ...]
    scores: Scores  # shape (e, p)


def examples_of(block: str, tables: Mapping[str, Sequence[TableReplay]]) -> Examples:
    """Replay every policy at every budget on the tables of a block."""
    names, budgets, facts, scores = [], [], [], []
    by_name = {name: {table.name: table for table in tables[name]} for name in BLOCKS[block]}
    for first in tables["holdout"]:
        if not all(first.name in known for known in by_name.values()):
            continue
        of_policy = {name: known[first.name] for name, known in by_name.items()}
        common = set.intersection(*(set(table.curves) for table in of_policy.values()))
        allowed, fewest = (ENTRIES[:TEN], MIN_TEN) if block == "ten" else (ENTRIES, MIN_ALL)
        order = [entry for entry in allowed if entry in common]
        if len(order) < fewest:
            continue
        losses = [[loss_of(name, order, of_policy, budget) for name in policies_of(block)] for budget in BUDGETS]
        best = float(np.min(losses))
        share = float(np.bincount(first.target).min() / len(first.target)) if first.classes else 0.0
        default = first.curves.get(DEFAULT_FIT)
        unit = min(curve.cost for curve in first.curves.values()) if default is None else default.cost
        for budget, line in zip(BUDGETS, losses, strict=True):
            names.append(first.name)
            budgets.append(float(budget))
            facts.append([first.rows, first.columns, first.classes, share, budget * WORKERS / unit])
            scores.append([100 * relative_loss(loss, best, first.constant) for loss in line])
    known = np.array(facts, dtype=np.float64)
    return Examples(
        np.array(names), np.array(budgets), known[:, :2], known, tuple(policies_of(block)), np.array(scores)
    )


def loss_of(policy: str, order: Sequence[str], of_policy: Mapping[str, TableReplay], budget: float) -> float:
    """Replay a run under a policy and return its test loss."""
    validation = policy.removesuffix("-halving")
    table, plan = of_policy[validation], RunPlan(float(budget), WORKERS)
    return score_run(replay_search(order, table, plan, halving=policy != validation), table)


def choose(examples: Examples, n_parts: int = N_PARTS, n_trees: int = N_TREES) -> dict[str, Choices]:
    """Choose a policy for every example, each way from the tables that were not left out."""
    names = np.unique(examples.tables)
    parts = np.array_split(np.random.default_rng(0).permutation(names), min(n_parts, len(names)))
    chosen = {way: np.full(len(examples.tables), -1) for way in WAYS}
    for part in parts:
        out = np.isin(examples.tables, part)
        chosen["single best"][out] = int(examples.scores[~out].mean(axis=0).argmin())
        for budget in np.unique(examples.budgets):
            here, there = examples.budgets == budget, out & (examples.budgets == budget)
            train = here & ~out
            means = examples.scores[train].mean(axis=0)
            chosen["single best of the budget"][there] = int(means.argmin())
            forest = RandomForestClassifier(n_trees, max_features=1, bootstrap=False)
            selector = Selector(forest, [int(i) for i in np.argsort(means, kind="stable")])
            spans = np.ptp(examples.scores[train], axis=1)
            selector.fit(examples.sizes[train], examples.scores[train], spans)
            chosen["pairwise selector"][there] = selector.select(examples.sizes[there])
        tree = DecisionTreeRegressor(max_depth=2, min_samples_leaf=max(2, int((~out).sum() // 8)), random_state=0)
        tree.fit(examples.facts[~out], examples.scores[~out])
        chosen["learned rule"][out] = tree.predict(examples.facts[out]).argmin(axis=1)
    chosen["shipped rule"] = np.array([shipped(examples, i) for i in range(len(examples.tables))])
    return chosen


def shipped(examples: Examples, i: int) -> int:
    """Return the policy of the shipped rule."""
    rows, columns, classes = examples.facts[i, :3].astype(int).tolist()
    kind = "regression" if classes == 0 else "binary" if classes == 2 else "multiclass"
    policy = select_policy(Task(kind, rows, columns, classes), examples.budgets[i] * WORKERS)  # type: ignore[arg-type]
    return examples.policies.index(policy.name)


def rows_of(block: str, examples: Examples, chosen: Mapping[str, Choices]) -> list[Row]:
    """Return a row for each policy and way at each budget, with its score on every table."""
    every = np.arange(len(examples.tables))
    found = {name: examples.scores[:, i] for i, name in enumerate(examples.policies)}
    found |= {way: examples.scores[every, choices] for way, choices in chosen.items()}
    found |= {"oracle": examples.scores.min(axis=1), "random": examples.scores.mean(axis=1)}
    rows: list[Row] = []
    for place, (name, scores) in enumerate(found.items()):
        for budget in BUDGETS:
            here = examples.budgets == budget
            row: Row = {"entries": block, "policy": name, "budget": budget, "place": place}
            row |= {"tables": examples.tables[here].tolist(), "scores": scores[here].round(4).tolist()}
            if name in chosen:
                row["choices"] = [examples.policies[i] for i in chosen[name][here]]
            rows.append(row)
    return rows


def run() -> None:
    """Replay and choose from the packed cells."""
    RESULTS.file.unlink(missing_ok=True)
    for block in blocks():
        examples = examples_of(block, read_policies())
        RESULTS.put(*rows_of(block, examples, choose(examples)))
        print(block, len(set(examples.tables)), "tables", flush=True)


def table() -> None:
    """Print the scores of policies and ways, and their differences to the policy of the shipped rule."""
    rows = sorted(RESULTS.rows(), key=lambda row: (row["place"], row["budget"]))
    for block in blocks():
        of_block = [row for row in rows if row["entries"] == block]
        names = dict.fromkeys(row["policy"] for row in of_block)
        scores = {name: np.array([row["scores"] for row in of_block if row["policy"] == name]) for name in names}
        n = scores["oracle"].shape[1]
        print(f"{block}: {n} tables; score in %, lower is better\n")
        print_block(f"policy ({block} configurations)", scores, policies_of(block), "cv5")
        print_block(f"choice ({block} configurations)", scores, [*WAYS, *BOUNDS], "single best")


def print_block(head: str, scores: Mapping[str, Scores], names: Sequence[str], reference: str) -> None:
    """Print a table of scores of shape (budgets, tables)."""
    print_head(f"| {head} | {' | '.join(f'{b} s' for b in BUDGETS)} | all budgets less {reference} |")
    for name in names:
        less = (scores[name] - scores[reference]).mean(axis=0)  # of each table
        error = less.std(ddof=1) / len(less) ** 0.5 if len(less) > 1 else np.nan
        means = " | ".join(f"{value:.2f}" for value in scores[name].mean(axis=1))
        print(f"| {name} | {means} | {less.mean():+.2f} ± {error:.2f} |")
    print()


main = make_main(__doc__, {"pack": pack, "run": run, "table": table})


if __name__ == "__main__":
    main()
