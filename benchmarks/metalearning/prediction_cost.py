"""What does it change if the selection of an ensemble prefers members that predict quickly?

Claim: a third of the cost of predicting can be saved without a loss beyond noise, by multiplying the loss of each
    ensemble that the selection looks at by a factor for each doubling of its cost.
Data: the matrix of portfolios, as far as it knows the iterations of checkpoints; replays of runs of 10, 60 and 300 s
    with two workers, in the order that ships.
Score: change of the test loss against the selection that looks at the loss alone, in %, mean of the budgets for each
    table; 0.3 % of the loss of a constant prediction is added to both, so that losses near zero do not decide. Cost is
    that of `prediction_cost` of the families, summed over the fold models that predict, with five folds.
Hardware: any; nothing is timed. Repeats: 1.
Commands:
    python -m benchmarks.metalearning.prediction_cost run      # a minute
    python -m benchmarks.metalearning.prediction_cost table
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmarks.command_line import make_main
from benchmarks.markdown import print_head
from benchmarks.metalearning.matrix import read_matrix
from benchmarks.metalearning.portfolio import MATRIX
from benchmarks.result_table import results_of
from windvane.data.task import Task
from windvane.metalearning.replay import (
    RunPlan,
    TableReplay,
    candidates,
    entry_id,
    losses_of,
    reduce_stack,
    run_trials,
)
from windvane.models import TABLE_FAMILIES
from windvane.models.base_model import BaseFamily
from windvane.runtime.columns.table import Floats
from windvane.search.ensemble_selection import count_fold_models, greedy_selection, handicap_cost
from windvane.search.strategy.portfolio import PortfolioEntry, read_portfolio

BUDGETS = (10.0, 60.0, 300.0)
DOUBLINGS = (0.0, 0.002, 0.005, 0.01, 0.02)  # by how much of the loss a doubling of the cost counts; the first is base
ROUNDS, FOLDS = 25, 5
FLOOR = 0.003
KINDS = ("binary", "multiclass", "regression")
RESULTS = results_of(__file__, ("kind", "doubling"), {"budgets": BUDGETS, "rounds": ROUNDS, "floor": FLOOR})


def plan() -> list[tuple[str, float]]:
    return [(kind, doubling) for kind in KINDS for doubling in DOUBLINGS]


def run() -> None:
    """Select by each handicap on all tables of the matrix."""
    tables, entries = read_matrix(MATRIX)
    for kind in KINDS:
        of_kind = [known for table in tables if table.kind == kind and (known := with_iterations(table)).curves]
        found = {table.name: select(table, entries) for table in of_kind}  # (budgets, doublings, 3) for each
        for i, doubling in enumerate(DOUBLINGS):
            rows = [(name, *np.round(array[:, i].mean(axis=0), 6).tolist()) for name, array in found.items()]
            RESULTS.put({"kind": kind, "doubling": doubling, "tables": rows})
        print(kind, len(of_kind), "tables", flush=True)


def with_iterations(table: TableReplay) -> TableReplay:
    """Keep the entries that were recorded with the iterations of their checkpoints."""
    return replace(table, curves={entry: one for entry, one in table.curves.items() if one.fraction is not None})


def select(table: TableReplay, entries: Mapping[str, PortfolioEntry]) -> Floats:
    """Return the logarithms of test loss and cost and the number of members, shape (budgets, doublings, 3)."""
    task = Task(table.kind, table.rows, table.columns, table.classes)  # type: ignore[arg-type]
    order = [entry_id(entry.family, entry.config) for entry in read_portfolio(task, TABLE_FAMILIES)]
    found = []
    for budget in BUDGETS:
        chosen = candidates(run_trials(order, table, RunPlan(budget)), table)
        curves = [table.curves[entry] for entry, _ in chosen]
        valid = np.stack([curve.valid[last] for curve, (_, last) in zip(curves, chosen, strict=True)])
        test = np.stack([curve.test[last] for curve, (_, last) in zip(curves, chosen, strict=True)])
        reduced = reduce_stack(valid, table.target, table.metric).astype(np.float64)
        costs = np.array([cost_of(entries[entry], table, task, last) for entry, last in chosen])

        def loss(blend: Floats) -> float:
            return float(losses_of(blend[None], table.target, table.metric)[0])

        for doubling in DOUBLINGS:
            weights = greedy_selection(reduced, loss, ROUNDS, handicap_cost(costs, FOLDS, doubling))
            blend = np.tensordot(weights, test, axes=1)
            test_loss = float(losses_of(blend[None], table.test_target, table.metric)[0])
            cost = float(count_fold_models(weights, FOLDS) @ costs)
            found.append([np.log(test_loss + FLOOR * table.constant), np.log(cost), (weights > 0).sum()])
    return np.array(found, dtype=np.float64).reshape(len(BUDGETS), len(DOUBLINGS), 3)


def cost_of(entry: PortfolioEntry, table: TableReplay, task: Task, last: int) -> float:
    """Estimate the cost of a fold model; the iterations of a checkpoint are what it was trained for at most."""
    family, fraction = TABLE_FAMILIES[entry.family], table.curves[entry_id(entry.family, entry.config)].fraction
    assert isinstance(family, BaseFamily) and fraction is not None
    iterations = float(fraction[last]) * family.checkpoint_iterations(entry.config, task)[-1]
    return family.prediction_cost(entry.config, iterations, task)


def table() -> None:
    """Print loss, cost and members of each handicap against the first one."""
    found = {RESULTS.key_of(row): np.array([one[1:] for one in row["tables"]]) for row in RESULTS.rows()}
    print_head("| tables | loss of a doubling | test loss, % | worst table, % | cost | members |")
    for kind in KINDS:
        base = found[kind, DOUBLINGS[0]]
        for doubling in DOUBLINGS:
            change = found[kind, doubling] - base
            losses, members = 100 * change[:, 0], found[kind, doubling][:, 2].mean()
            error = losses.std(ddof=1) / len(losses) ** 0.5
            print(
                f"| {len(base)} {kind} | {doubling:.1%} | {losses.mean():+.2f} ± {error:.2f} | {losses.max():+.1f} "
                f"| {np.exp(change[:, 1].mean()):.2f} | {members:.1f} |"
            )


main = make_main(__doc__, {"run": run, "table": table})


if __name__ == "__main__":
    main()
