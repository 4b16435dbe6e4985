"""The portfolio, learned from many tables: collect the matrix of losses, build from it, compare with what ships.

Claim: none until it is run; `build` prints how the new portfolio and the one that ships do on tables left out.
Data: ../shared/data/tables without the tables of the other benchmarks; which are used follows from a rule on their
    sizes, classes and kinds of columns (windvane.metalearning.collect.choose_tables). A quarter of each table judges.
Score: the mean loss over the time of the budget, one worker, normalised per table: 0 is the best of all candidates, 1 a
    constant prediction.
Hardware: the seconds of a cell are CPU seconds of the machine that collects, of one thread. Repeats: 1; seed 0.
Commands:
    python benchmarks/portfolio.py tables --kind regression
    python benchmarks/portfolio.py collect --kind regression --minutes 600    # goes on where it was ended
    python benchmarks/portfolio.py build --kind regression --out windvane/search/learned
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import peers
from engine import NAMES, ROOT, TABLES
from sklearn.model_selection import train_test_split

from windvane.data.task import Task
from windvane.metalearning.candidates import make_candidates, read_published
from windvane.metalearning.cells import read_lines, to_outcomes
from windvane.metalearning.collect import Effort, Source, choose_tables, collect
from windvane.metalearning.portfolio import Outcomes, Plan, build, simulate, write
from windvane.models import DEFAULT, FAMILIES
from windvane.search.halving import make_rungs
from windvane.search.portfolio import Entry, read_portfolio

ASKL2 = TABLES.parent / "askl2"
RESULTS = ROOT / "benchmarks" / "results" / "portfolio"
RESERVED = frozenset((*NAMES, *peers.TABLES["regression"]))
TASKS = {"classification": Task("binary", 1000, 10, 2), "regression": Task("regression", 1000, 10)}
ROWS, CELLS = (300, 20_000), 1_000_000
STRONG = ("lightgbm", "catboost", "network")  # of which more configurations are drawn
# What a practitioner would try beside the defaults; ranges are wide, so that few random draws lie where this lies.
GUESSES = (
    Entry("network", {"width": 256}),
    Entry("network", {"depth": 2, "width": 64, "learning_rate": 0.06}),
    Entry("network", {"dropout": 0.3, "weight_decay": 0.06}),
    Entry("network", {"dropout": 0.0, "learning_rate": 0.02}),
    Entry("network", {"embedding": "none", "activation": "relu"}),
    Entry("network", {"embedding": "none", "scale": "quantile", "width": 256, "dropout": 0.3}),
    Entry("network", {"sigma": 0.5}),
    Entry("catboost", {"depth": 4, "learning_rate": 0.1}),
    Entry("catboost", {"depth": 8, "learning_rate": 0.08}),
    Entry("lightgbm", {"learning_rate": 0.1, "num_leaves": 16, "feature_fraction": 0.7, "bagging_fraction": 0.8}),
    Entry("lightgbm", {"learning_rate": 0.05, "num_leaves": 31, "feature_fraction": 0.4, "min_data_in_leaf": 10}),
    Entry("lightgbm", {"learning_rate": 0.1, "num_leaves": 4, "feature_fraction": 0.7}),
    Entry("extra_trees", {"max_features": 0.8, "min_samples_leaf": 3}),
    Entry("random_forest", {"max_features": 0.7, "min_samples_leaf": 3}),
)
PARTS = 5  # of the tables, left out in turn


def choose(kind: str, count: int) -> list[str]:
    """Choose the tables of a kind, none of them one of the benchmarks'."""
    index = pd.read_csv(TABLES / "index.csv")
    index = index[(index["task"] == "regression") == (kind == "regression")]
    chosen = choose_tables(index, count, rows=ROWS, cells=CELLS, without=RESERVED)
    reserved = RESERVED.intersection(chosen)
    if reserved:
        raise SystemExit(f"tables of the benchmarks must not be learned from: {', '.join(sorted(reserved))}")
    return chosen


def load(name: str, kind: str) -> Source:
    """Read a table and divide it 75/25, stratified by class, seed 0."""
    row = pd.read_csv(TABLES / "index.csv").set_index("name").loc[name]
    frame = pd.read_parquet(TABLES / row["file"])
    X, y = frame.drop(columns=[row["target"]]), frame[row["target"]]
    strata = y if kind == "classification" else None
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, random_state=0, stratify=strata)
    return Source(name, "regression" if kind == "regression" else "classification", X, y, X_test, y_test)


def candidates(kind: str, per_family: int, strong: int, published: int) -> list[Entry]:
    """List what is evaluated."""
    families = {name: FAMILIES[name] for name in DEFAULT}
    draws = {name: strong if name in STRONG else per_family for name in families}
    others = read_published(ASKL2, families, published) if kind == "classification" else []
    return make_candidates(TASKS[kind], families, draws, seed=0, published=[*GUESSES, *others])


def collect_all(arguments: argparse.Namespace) -> None:
    """Evaluate every cell that is missing, table after table."""
    until = time.monotonic() + 60 * arguments.minutes
    listed = candidates(arguments.kind, arguments.per_family, arguments.strong, arguments.published)
    effort = Effort(
        arguments.policy, arguments.seconds, arguments.workers, memory=arguments.memory, keep=arguments.keep
    )
    arguments.cells.parent.mkdir(parents=True, exist_ok=True)
    for name in choose(arguments.kind, arguments.tables):
        if time.monotonic() < until:
            finished = collect(load(name, arguments.kind), listed, effort, arguments.cells, until)
            print(f"{name}: {finished} of {len(listed)} cells", flush=True)


def compare(outcomes: Outcomes, entries: list[Entry], plan: Plan, size: int, shipped: list[Entry]) -> dict[str, float]:
    """Score portfolios on tables that they were not built from; ours is built anew for each part of the tables."""
    n_tables = outcomes.valid.shape[1]
    order = np.random.default_rng(0).permutation(n_tables)
    ours = np.empty(n_tables)
    for part in np.array_split(order, min(PARTS, n_tables)):
        rest = np.setdiff1d(order, part)
        if len(rest):
            chosen = [one for one, _ in build(outcomes.take(rest), plan, size)]
            ours[part] = simulate(chosen, outcomes.take(part), plan)
        else:
            ours[part] = np.nan
    there = [entries.index(entry) for entry in shipped if entry in entries]
    return {"learned": float(ours.mean()), "shipped": float(simulate(there, outcomes, plan).mean())}


def build_all(arguments: argparse.Namespace) -> None:
    """Build the portfolio of a kind from the cells, and write it."""
    lines = read_lines(arguments.cells)
    outcomes, entries, tables = to_outcomes(lines)
    if len(tables) < arguments.least_tables:
        raise SystemExit(f"{len(tables)} complete table(s), but --least-tables asks for {arguments.least_tables}")
    rungs = tuple(rung.share for rung in make_rungs(1, halving=arguments.halving, first_rows=None))
    plan = Plan(rungs, arguments.budget, over_time=True)
    chosen = build(outcomes, plan, arguments.size)
    for position, mean in chosen:
        print(f"{mean:.4f}  {entries[position].family}  {dict(entries[position].config)}")
    shipped = read_portfolio(TASKS[arguments.kind], FAMILIES)
    left_out = compare(outcomes, entries, plan, arguments.size, shipped)
    print("tables left out:", {name: round(value, 4) for name, value in left_out.items()})
    policies = ", ".join(Counter(line["policy"] for line in lines))
    made = (
        f"learned on {datetime.now(UTC):%Y-%m-%d}: greedy for the mean loss over {arguments.budget:g} s of one worker, "
        f"{'successive halving' if arguments.halving else 'full budget'}, from {len(entries)} configurations on "
        f"{len(tables)} tables ({policies})"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"portfolio_{arguments.kind}.json"
    write(path, [entries[position] for position, _ in chosen], made)
    print(path)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["tables", "collect", "build"])
    parser.add_argument("--kind", choices=list(TASKS), required=True)
    parser.add_argument("--cells", type=Path, help="the file of finished cells")
    parser.add_argument("--tables", type=int, default=14)
    parser.add_argument("--per-family", type=int, default=1, help="random configurations of a family")
    parser.add_argument("--strong", type=int, default=3, help="the same of " + ", ".join(STRONG))
    parser.add_argument("--published", type=int, default=4)
    parser.add_argument("--policy", default="cv3")
    parser.add_argument("--seconds", type=float, default=15.0, help="limit on one cell")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no cell is begun after these")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", type=float, default=6000.0, help="megabytes for all workers")
    parser.add_argument("--keep", type=Path, help="folder for the predictions of all cells")
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--budget", type=float, default=70.0, help="seconds of one worker that the portfolio has")
    parser.add_argument("--halving", action="store_true")
    parser.add_argument("--least-tables", type=int, default=8)
    parser.add_argument("--out", type=Path, help="folder of the portfolio")
    arguments = parser.parse_args()
    arguments.cells = arguments.cells or RESULTS / f"cells_{arguments.kind}.jsonl"
    if arguments.command == "tables":
        print(*choose(arguments.kind, arguments.tables), sep="\n")
    elif arguments.command == "collect":
        collect_all(arguments)
    elif arguments.out is None:
        parser.error("build needs --out, the folder of the portfolio")
    else:
        build_all(arguments)


if __name__ == "__main__":
    main()
