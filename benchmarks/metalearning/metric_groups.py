"""Is an order that was built for one metric worse on another than the order built for that one?

Claim: none beforehand; orders for each metric would ship if they were better beyond noise.
Data: the matrix of portfolios: binary tables (ROC AUC, log loss, accuracy) and regression tables (squared and absolute
    error), at most 4,000 rows.
Score: as in `portfolio`, mean of the budgets; each order is scored on tables that it was not built from, a fifth at a
    time. Ensembles are always selected for the metric that is scored: only the order differs.
Hardware: costs are CPU seconds of one thread. Repeats: 1; seed 0.
Commands:
    python -m benchmarks.metalearning.metric_groups run      # minutes
    python -m benchmarks.metalearning.metric_groups table
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.command_line import make_main
from benchmarks.markdown import print_head
from benchmarks.metalearning.matrix import read_matrix, with_metric
from benchmarks.metalearning.portfolio import MATRIX, N_PARTS, is_large
from benchmarks.result_table import Row, results_of
from windvane.metalearning.build_portfolio import BuildPlan, make_scores
from windvane.metalearning.learn import complete_tables, evaluated, full_order
from windvane.metalearning.replay import TableReplay
from windvane.models import DEFAULT

GROUPS = {"binary": ("roc_auc", "log_loss", "accuracy"), "regression": ("rmse", "mae")}  # the default metric first
BUDGETS = (20.0, 60.0)
SIZE = 4  # entries that are chosen one by one
RESULTS = results_of(__file__, ("kind", "scored", "built"), {"budgets": BUDGETS, "size": SIZE})


def plan() -> list[tuple[str, str, str]]:
    return [(kind, scored, built) for kind, metrics in GROUPS.items() for scored in metrics for built in metrics]


def run() -> None:
    """Build and score on the tables of the matrix."""
    tables, entries = read_matrix(MATRIX)
    defaults = {entry: one for entry, one in entries.items() if one.family in DEFAULT}
    small = complete_tables([table for table in tables if not is_large(table)])
    for kind, metrics in GROUPS.items():
        of_kind = [table for table in small if table.kind == kind]
        by_metric = {metric: [with_metric(table, metric) for table in of_kind] for metric in metrics}
        RESULTS.put(*cross(kind, by_metric, evaluated(of_kind, defaults), BuildPlan(BUDGETS, size=SIZE)))
        print(kind, len(of_kind), "tables", flush=True)


def cross(
    kind: str, by_metric: Mapping[str, Sequence[TableReplay]], candidates: Sequence[str], plan: BuildPlan
) -> list[Row]:
    """Score orders built for every metric by every metric, on tables left out."""
    n = len(next(iter(by_metric.values())))
    order = np.random.default_rng(0).permutation(n)
    found: dict[tuple[str, str], dict[str, float]] = {(s, b): {} for s in by_metric for b in by_metric}
    for part in np.array_split(order, min(N_PARTS, n)):
        orders = {
            built: full_order([tables[i] for i in order if i not in part], candidates, plan)
            for built, tables in by_metric.items()
        }
        for scored, tables in by_metric.items():
            for score in make_scores([tables[i] for i in part], plan):
                for built, learned in orders.items():
                    mean = 100 * float(np.mean(score.scores(learned)))
                    found[scored, built][score.table.name] = round(mean, 4)
    return [{"kind": kind, "scored": s, "built": b, "scores": list(by.items())} for (s, b), by in found.items()]


def table() -> None:
    """Print the scores, and what the order for that metric changes."""
    found = {RESULTS.key_of(row): dict(row["scores"]) for row in RESULTS.rows()}
    for kind, metrics in GROUPS.items():
        n = len(found[kind, metrics[0], metrics[0]])
        print(f"{kind}: {n} tables; score in %, lower is better\n")
        heads = [f"order built for {metric}" for metric in metrics]
        print_head(f"| {kind}, scored by | {' | '.join(heads)} | own order less that for {metrics[0]} |")
        for scored in metrics:
            means = [f"{np.mean(list(found[kind, scored, built].values())):.2f}" for built in metrics]
            own, default = found[kind, scored, scored], found[kind, scored, metrics[0]]
            less = np.array([own[name] - default[name] for name in own])
            error = less.std(ddof=1) / len(less) ** 0.5
            print(f"| {scored} | {' | '.join(means)} | {less.mean():+.2f} ± {error:.2f} |")
        print()


main = make_main(__doc__, {"run": run, "table": table})


if __name__ == "__main__":
    main()
