"""What a temperature fitted on out-of-fold predictions of the ensemble changes on test rows.

Claim: the log loss falls, or does not change, on tables of classes.
Data: classification tables of the comparison of policies, every configuration that was evaluated with the policy.
Score: change of the test log loss of the ensemble of a replayed run of 60 s on two workers, in % of the loss before.
    The ensemble is selected for the log loss, or, for two classes, for the ROC AUC.
Hardware: costs are CPU seconds of one thread. Repeats: 1; seed 0.
Commands:
    python -m benchmarks.metalearning.calibration run      # seconds
    python -m benchmarks.metalearning.calibration table
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command_line import make_main
from benchmarks.markdown import print_head
from benchmarks.metalearning.matrix import with_metric
from benchmarks.metalearning.policies import ENTRIES, read_policies
from benchmarks.metalearning.replay_search import replay_search
from benchmarks.result_table import Row, results_of
from windvane.evaluation.decisions.calibration import fit_temperature
from windvane.metalearning.replay import RunPlan, TableReplay, blend_run, losses_of
from windvane.runtime.columns.table import Floats
from windvane.runtime.ensemble import apply_temperature

SECONDS, WORKERS = 60.0, 2
RESULTS = results_of(__file__, ("policy", "selected"), {"seconds": SECONDS, "workers": WORKERS})


def plan() -> list[tuple[str, str]]:
    return [(policy, selected) for policy in ("holdout", "cv5") for selected in ("log_loss", "roc_auc")]


def run() -> None:
    """Fit temperatures in replayed runs."""
    for policy, selected in plan():
        kinds = ("binary",) if selected == "roc_auc" else ("binary", "multiclass")
        tables = [table for table in read_policies()[policy] if table.kind in kinds]
        found = [calibrate(table, selected) for table in tables]
        row: Row = {"policy": policy, "selected": selected, "tables": [table.name for table in tables]}
        row |= {name: [one[name] for one in found] for name in ("before", "after", "temperature")}
        RESULTS.put(row)


def calibrate(table: TableReplay, selected: str) -> dict[str, float]:
    """Return the test log loss before and after, and the temperature."""
    converted = with_metric(table, selected)
    order = [entry for entry in ENTRIES if entry in converted.curves]
    blends = blend_run(replay_search(order, converted, RunPlan(SECONDS, WORKERS)), converted)
    if blends is None:
        raise ValueError(f"the run on {table.name} has no model")
    valid, test = (np.asarray(blend, dtype=np.float64) for blend in blends)
    temperature = fit_temperature(valid, lambda blend: log_loss(blend, table.target))
    before, after = (log_loss(blend, table.test_target) for blend in (test, apply_temperature(test, temperature)))
    return {"before": round(before, 6), "after": round(after, 6), "temperature": round(temperature, 4)}


def log_loss(blend: Floats, target: NDArray[Any]) -> float:
    """Return the log loss of probabilities of shape (v, k)."""
    return float(losses_of(blend[None], target, "log_loss")[0])


def table() -> None:
    """Print the changes with their spread."""
    heads = ["policy", "ensemble selected for", "tables", "change of the log loss, %", "median", "standard deviation"]
    heads += ["best, worst", "lower", "temperature, from to"]
    print_head(f"| {' | '.join(heads)} |")
    for policy, selected in plan():
        row = RESULTS.find(policy, selected) or {}
        before, after = np.array(row["before"]), np.array(row["after"])
        change = 100 * (after / before - 1)
        error = change.std(ddof=1) / len(change) ** 0.5
        temperatures = np.array(row["temperature"])
        print(f"| {policy} | {selected} | {len(change)} | {change.mean():+.2f} ± {error:.2f} | ", end="")
        print(
            f"{np.median(change):+.2f} | {change.std(ddof=1):.2f} | {change.min():+.2f}, {change.max():+.2f} | ", end=""
        )
        print(f"{int((change < 0).sum())} | {temperatures.min():.2f} to {temperatures.max():.2f} |")


main = make_main(__doc__, {"run": run, "table": table})


if __name__ == "__main__":
    main()
