"""How the loss falls with the budget: one fit for each budget from 2 s to 10 min, on ten tables.

Claim: a fifth of what can be gained is still missing after 2 s, 4 % after 5 s, 1 % after 15 s and 0.1 % after 60 s.
Score: the test loss of a table, normalised: 1 is a constant prediction, 0 the best of all budgets on that table.
Hardware: one dedicated core, one worker. Repeats: 1 a table and budget, the same split and random state.

    taskset -c 0 python -m benchmarks.engine.over_time run --tables churn_modelling pendigits    # resumes
    python -m benchmarks.engine.over_time table
    python -m benchmarks.engine.over_time plot --out docs/findings/over_time.png
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.command_line import make_parser
from benchmarks.data import ROOT, load
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of

RESULTS = results_of(__file__, ("table", "budget", "workers"))
TABLES = (
    *("attrition", "car_evaluation", "churn_modelling", "credit_data", "electricity"),
    *("eucalyptus", "hpc_jobs", "isolet_1560", "mammography", "pendigits"),
)
BUDGETS = (2.0, 5.0, 15.0, 60.0, 600.0)


def plan() -> list[tuple[Any, ...]]:
    return list(product(TABLES, BUDGETS, (1,)))


def measure(name: str, budget: float, workers: int) -> dict[str, Any]:
    """Fit once and evaluate on the test set, beside a constant prediction."""
    from windvane import AutoClassifier

    X, X_test, y, y_test = load(name)
    model = AutoClassifier(time_budget=budget, n_jobs=workers, random_state=0, verbose=0).fit(X, y)
    metric = model.predictor_.metric
    target = np.searchsorted(model.classes_, y_test)
    shares = np.array([(y == label).mean() for label in model.classes_])
    constant = metric.loss(target, np.repeat(shares[None], len(target), axis=0))
    loss = metric.loss(target, model.predict_proba(X_test))
    found = {"table": name, "budget": budget, "workers": workers}
    return {**found, "metric": metric.name, "loss": loss, "constant": constant}


def normalised() -> pd.DataFrame:
    """Return one row per table and one column per budget; only tables that have seen all budgets count."""
    found = RESULTS.frame()
    losses = found.pivot_table("loss", "table", "budget").dropna()
    worst, best = found.groupby("table")["constant"].first()[losses.index], losses.min(axis=1)
    return losses.sub(best, axis=0).div(worst - best, axis=0)


def table() -> None:
    """Print the mean over the tables."""
    print_head("| seconds | mean normalised loss | in % |")
    for budget, mean in normalised().mean().items():
        print(f"| {budget:g} | {mean:.4f} | {100 * mean:.2f} |")


def plot(out: Path) -> None:
    """Draw the mean above the lines of the tables."""
    from matplotlib.figure import Figure

    losses, figure = normalised(), Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for number, (_, line) in enumerate(losses.iterrows()):
        axes.plot(losses.columns, line, color="0.8", linewidth=1, label="a table" if number == 0 else None)
    axes.plot(losses.columns, losses.mean(), color="#0072b2", marker="o", label=f"mean of {len(losses)} tables")
    axes.set(xscale="log", xlabel="budget, seconds", ylabel="test loss: 1 constant, 0 best of all budgets")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylim(-0.0005, 1)
    axes.set_yticks([0, 0.005, 0.01, 0.1, 1], ["0", "0.005", "0.01", "0.1", "1"])
    axes.set_xticks(losses.columns, [f"{budget:g}" for budget in losses.columns])
    axes.minorticks_off()
    axes.legend(frameon=False)
    figure.savefig(out, dpi=150)


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "table", "plot")
    parser.add_argument("--tables", nargs="+", default=list(TABLES))
    parser.add_argument("--budgets", nargs="+", type=float, default=list(BUDGETS))
    parser.add_argument("--workers", type=int, default=1, help="each needs a core to itself")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "findings" / "over_time.png")
    arguments = parser.parse_args(words)
    if arguments.command == "table":
        table()
    elif arguments.command == "plot":
        plot(arguments.out)
    else:
        runs = product(sorted(arguments.budgets), arguments.tables)  # the small budgets first
        RESULTS.fill(((name, budget, arguments.workers) for budget, name in runs), measure)


if __name__ == "__main__":
    main()
