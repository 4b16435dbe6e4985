"""The portfolio, learned from many tables: collect cells, pack them into a matrix, build from it, compare.

Claim: the learned order beats the defaults alone, a random order and the greedy builder of the paper on tables left
    out; `compare` prints the scores.
Data: ../shared/data/tables without the tables of the peers' benchmark. A quarter of each table is test rows.
Score: log(test loss of the ensemble / best known on the table) at each budget, two workers, replayed from kept
    predictions; mean over tables. A tenth of a point is about 0.1 %.
Hardware: costs are CPU seconds of one thread. Repeats: 1; seed 0.
Commands:
    python -m benchmarks.metalearning.portfolio collect --minutes 600    # resumes; what is committed is not repeated
                                                                         # once cells.jsonl is copied to --cells
    python -m benchmarks.metalearning.portfolio collect --policy cv3     # for the comparison of policies
    python -m benchmarks.metalearning.portfolio pack       # cells and predictions -> matrix.parquet
    python -m benchmarks.metalearning.portfolio compare    # writes compare.csv, minutes
    python -m benchmarks.metalearning.portfolio table
    python -m benchmarks.metalearning.portfolio build      # writes windvane/search/strategy/learned/portfolio_*.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.command_line import make_parser
from benchmarks.data import RESERVED, ROOT, TABLES
from benchmarks.markdown import print_head
from benchmarks.metalearning.matrix import read_matrix, write_matrix
from benchmarks.metalearning.published import read_published
from windvane.metalearning.build_portfolio import BuildPlan, make_scores
from windvane.metalearning.collect import GUESSES, LARGE, CollectSettings, SourceTable, collect
from windvane.metalearning.learn import complete_tables, entries_of, evaluated, full_order, learn_portfolio
from windvane.metalearning.replay import TableReplay, entry_id, read_replays
from windvane.models import DEFAULT, FAMILIES
from windvane.search.strategy.portfolio import PortfolioEntry, read_cases, write_portfolio
from windvane.settings import VALIDATIONS

ASKL2 = TABLES.parent / "askl2"
RESULTS = Path(__file__).resolve().parent
MATRIX = RESULTS / "matrix.parquet"
N_PARTS = 5  # of the tables, each left out once
COMPARE = RESULTS / "compare.csv"
LEARNED = ROOT / "windvane" / "search" / "strategy" / "learned"
CELLS = Path.home() / ".cache" / "windvane-metalearning" / "cells.jsonl"
MAIN_POLICY = "cv5"  # portfolios are built from five folds
CPU_SECONDS = 20.0  # of a cell
FOLD_LIMITS = {"holdout": 20.0, "cv3": 36.0, "cv5": 60.0, "cv10": 120.0}  # CPU seconds where policies are compared
MIN_ROWS, MAX_ROWS = 300, 4_000  # more rows are sampled down, but for the large tables
LARGE_ROWS = 20_000  # tables from here on are collected whole too, with the quick configurations of LARGE
MIN_CELLS = 8  # of a table, before it is added to the matrix
KEPT_ROWS = 300  # of validation and test predictions in the matrix
SIMPLE = ("lightgbm", "linear", "catboost", "extra_trees", "network", "random_forest")


def sources(large: bool) -> list[SourceTable]:
    """Return the tables to learn from: two of classification, one of regression, in a fixed random order."""
    index = pd.read_csv(TABLES / "index.csv")
    low = LARGE_ROWS if large else MIN_ROWS
    index = index[(index["n_rows"] >= low) & ~index["name"].isin(RESERVED)].set_index("name")
    rng = np.random.default_rng(5)
    kinds = [index[index["task"] != "regression"], index[index["task"] == "regression"]]
    classes, numbers = (list(rng.permutation(kind.index)) for kind in kinds)
    order = []
    while classes or numbers:
        order += [*classes[:2], *numbers[:1]]
        classes, numbers = classes[2:], numbers[1:]
    found = []
    for name in order:
        row = index.loc[name]
        goal = "regression" if row["task"] == "regression" else "classification"
        table = SourceTable(name, TABLES / row["file"], row["target"], goal, MAX_ROWS)  # type: ignore[arg-type]
        found.append(replace(table, name=f"{name}_whole", max_rows=None) if large else table)
    return found


def cells_of(policy: str | None) -> Path:
    """Return the file of the cells of a policy; predictions are in the folder `cache` beside it."""
    return CELLS if policy is None else CELLS.parent / policy / CELLS.name


def collect_all(arguments: argparse.Namespace) -> None:
    """Evaluate the cells that are missing: the guesses on all tables, then published configurations."""
    path = arguments.cells or cells_of(arguments.policy)
    seconds = arguments.cpu_seconds or (CPU_SECONDS if arguments.policy is None else FOLD_LIMITS[arguments.policy])
    settings = CollectSettings(arguments.policy or MAIN_POLICY, cpu_seconds=seconds, cache=path.parent / "cache")
    published = read_published(ASKL2, {name: FAMILIES[name] for name in DEFAULT}, arguments.published)
    entries = LARGE if arguments.large else [*(one for one in GUESSES if one.family in DEFAULT), *published]
    if arguments.entries is not None:
        entries = [*STRONGEST, *(one for one in entries if one not in STRONGEST)][: arguments.entries]
    tables = [t for t in sources(arguments.large) if arguments.only is None or t.name in arguments.only]
    deadline = time.monotonic() + 60 * arguments.minutes
    collect(tables[: arguments.tables], entries, settings, path, workers=arguments.workers, deadline=deadline)


def pack(arguments: argparse.Namespace) -> None:
    """Add what was collected to the matrix that is committed, and keep the cells beside it."""
    tables, entries = read_matrix(MATRIX) if MATRIX.exists() else ([], {})
    known = {table.name: table for table in tables}
    cells = arguments.cells or CELLS
    for table in read_replays(cells, cells.parent / "cache", max_rows=KEPT_ROWS):
        if table.name in known:
            known[table.name].curves.update(table.curves)
        elif len(table.curves) >= MIN_CELLS:
            known[table.name] = table
    write_matrix(list(known.values()), entries | entries_of(cells), MATRIX)
    shutil.copyfile(cells, RESULTS / "cells.jsonl")
    print(f"{len(known)} tables, {sum(len(table.curves) for table in known.values())} cells -> {MATRIX}")


def is_large(table: TableReplay) -> bool:
    """Whether a table was collected whole."""
    return table.name.endswith("_whole")


def paper_order(tables: Sequence[TableReplay], candidates: Sequence[str], size: int) -> list[str]:
    """Build as Auto-Sklearn 2.0 does: for the mean normalized loss of the best single model."""
    losses = np.array(
        [[t.curves[c].test_loss[-1] if c in t.curves else np.inf for c in candidates] for t in tables]
    )  # (t, c)
    low, high = np.nanmin(losses, axis=1, keepdims=True), np.array([[t.constant] for t in tables])
    scaled = np.clip((losses - low) / np.maximum(high - low, 1e-12), 0, 1)
    chosen: list[int] = []
    best = np.ones(len(tables))
    while len(chosen) < min(size, len(candidates)):
        means = np.minimum(best[:, None], scaled).mean(axis=0)
        means[chosen] = np.inf
        chosen.append(int(np.argmin(means)))
        best = np.minimum(best, scaled[:, chosen[-1]])
    return [candidates[c] for c in chosen]


def compare(arguments: argparse.Namespace) -> None:
    """Print the scores of orders on tables left out."""
    tables, entries = read_matrix(MATRIX)
    small = complete_tables([t for t in tables if not is_large(t)])
    defaults = {entry: one for entry, one in entries.items() if one.family in DEFAULT}
    candidates = evaluated(small, defaults)
    orders = {
        "defaults of the families": [entry_id(name, {}) for name in SIMPLE],
        "hand-written": [entry_id(e.family, e.config) for e in HAND_WRITTEN],
        EARLIER: [
            entry_id(e.family, e.config) for e in read_cases(Path(__file__).with_name("earlier.json"))[0].entries
        ],
        "all, in the order listed": candidates,
        "all without network": [e for e in candidates if entries[e].family != "network"],
        "all without generated features": [e for e in candidates if entries[e].config.get("features") != "generated"],
        "random": list(np.random.default_rng(0).permutation(candidates)),
        "paper's builder (in sample)": paper_order(small, candidates, 20),
    }
    scores = leave_out(small, candidates, PLAN, orders)
    scores.to_csv(COMPARE, index=False, float_format="%.5f")
    table(arguments)


def leave_out(
    tables: Sequence[TableReplay], candidates: Sequence[str], plan: BuildPlan, orders: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """Compare orders on tables left out, a fifth at a time.

    "learned" is built without the tables of the part, and so is "start kept" where the plan has a start. Returns one
    row a table and order, with a score for each budget (`AnytimeScore.scores`).
    """
    permuted = [tables[i] for i in np.random.default_rng(0).permutation(len(tables))]
    rows = []
    for part in range(N_PARTS):
        held_out = permuted[part::N_PARTS]
        rest = [table for table in tables if table not in held_out]
        built = {"learned": full_order(rest, candidates, replace(plan, start=()))}
        if plan.start:
            built["start kept"] = full_order(rest, candidates, plan)
        for score in make_scores(held_out, plan):
            for name, order in [*orders.items(), *built.items()]:
                row: dict[str, Any] = {"table": score.table.name, "order": name}
                rows.append(row | {f"{s:g} s": x for s, x in zip(plan.budgets, score.scores(order), strict=True)})
    return pd.DataFrame(rows)


def table(_: argparse.Namespace) -> None:
    """Print the mean scores of `compare`, and the learned order against the one that it replaced."""
    scores = pd.read_csv(COMPARE)
    means = 100 * scores.drop(columns="table").groupby("order").mean().sort_values("60 s")
    print(f"{scores['table'].nunique()} tables of at most {MAX_ROWS:,} rows; score in %, lower is better\n")
    print_head(f"| order | {' | '.join(map(str, means))} |")
    for order, row in means.iterrows():
        print(f"| {order} | {' | '.join(f'{value:.1f}' for value in row)} |")
    later = scores[~scores["table"].isin(FIRST_TABLES)]
    print(f"\n{later['table'].nunique()} tables that the order of {len(FIRST_TABLES)} tables was not learned from\n")
    print_head("| score less that of the earlier order | mean difference | standard error | better | worse |")
    for order in ("start kept", "learned"):
        for seconds in means:
            by_order = later.pivot(index="table", columns="order", values=seconds)
            gap = 100 * (by_order[order] - by_order[EARLIER])
            better, worse = int((gap < -TIE).sum()), int((gap > TIE).sum())
            error = gap.std(ddof=1) / np.sqrt(len(gap))
            print(f"| {order}, {seconds} | {gap.mean():+.2f} | {error:.2f} | {better} | {worse} |")


def build_all(arguments: argparse.Namespace) -> None:
    """Build the portfolios from the matrix and write them."""
    tables, entries = read_matrix(MATRIX)
    entries = {entry: one for entry, one in entries.items() if one.family in DEFAULT}
    small = complete_tables([t for t in tables if not is_large(t)])
    cases, made = learn_portfolio(small, [t for t in tables if is_large(t)], entries, PLAN)
    for name in ("classification", "regression"):
        write_portfolio(LEARNED / f"portfolio_{name}.json", cases, made)
    for case in cases:
        print(case.kinds, case.max_rows, *(json.dumps([e.family, dict(e.config)]) for e in case.entries), sep="\n  ")


EARLIER = "learned from 16 tables"
TIE = 0.05  # points of the score

# First in the order that was learned from `FIRST_TABLES`; policies are compared by them first.
STRONGEST = (
    PortfolioEntry("linear", {}),
    PortfolioEntry("network", {"depth": 2, "learning_rate": 0.06, "width": 64}),
    PortfolioEntry("catboost", {}),
    PortfolioEntry("catboost", {"features": "generated"}),
    PortfolioEntry("catboost", {"depth": 4, "l2_leaf_reg": 1.0, "learning_rate": 0.12}),
    PortfolioEntry("extra_trees", {}),
    PortfolioEntry("lightgbm", {"features": "generated"}),
    PortfolioEntry("network", {"depth": 4, "dropout": 0.05, "sigma": 0.05, "width": 192}),
    PortfolioEntry("network", {"dropout": 0.3, "weight_decay": 0.06, "width": 256}),
    PortfolioEntry("lightgbm", {}),
)

# Eight of them stay first: on tables that came later, starts chosen from more tables are worse at 10 s.
PLAN = BuildPlan(start=tuple(entry_id(one.family, one.config) for one in STRONGEST[:8]))
FIRST_TABLES = (
    *("titanic", "hall_of_fame", "authorship", "head_injury", "pol", "nhefs_death", "flchain_death", "london_exam"),
    *("monk2", "nursery", "cran_check_times", "cps_1988", "banknote", "anneal", "help_homeless"),
    "collins_genre",
)

# What shipped before portfolios were learned, without a family that has left the defaults since.
HAND_WRITTEN = (
    *(PortfolioEntry(name, {}) for name in SIMPLE[:5]),
    PortfolioEntry("lightgbm", GUESSES[6].config),
    PortfolioEntry("catboost", {"depth": 5, "learning_rate": 0.06, "l2_leaf_reg": 3.0}),
    PortfolioEntry("lightgbm", GUESSES[11].config),
    PortfolioEntry("random_forest", {}),
    PortfolioEntry("lightgbm", GUESSES[15].config),
    PortfolioEntry("extra_trees", {"max_features": 0.8, "min_samples_leaf": 2}),
)


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "collect", "pack", "compare", "table", "build")
    parser.add_argument("--policy", choices=VALIDATIONS, help="collect for the comparison of policies")
    parser.add_argument("--cells", type=Path, help=f"file of the cells; {CELLS}, or in a folder of the policy")
    parser.add_argument("--tables", type=int, help="the first of the order, not all")
    parser.add_argument("--only", nargs="+", help="names of tables, not all")
    parser.add_argument("--entries", type=int, help="so many configurations, the strongest first, not all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no cell is begun after these")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cpu-seconds", type=float, help="after which a cell grows no further")
    parser.add_argument("--published", type=int, default=0, help="configurations of Auto-Sklearn 2.0")
    parser.add_argument("--large", action="store_true", help="collect whole tables of 20,000 rows and more")
    arguments = parser.parse_args(words)
    commands = {"collect": collect_all, "pack": pack, "compare": compare, "table": table, "build": build_all}
    commands[arguments.command](arguments)


if __name__ == "__main__":
    main()
