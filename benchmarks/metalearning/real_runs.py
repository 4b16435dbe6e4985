"""Does a replayed run end where the real one does? Real runs of windvane against their replays.

Claim: replayed test losses rank real runs and are not biased.
Data: tables of the matrix of portfolios, each run twice: the first ten configurations of the shipped order in this
    order and in the reverse one. The test rows are those that the matrix keeps, 300 of a quarter of the table. A real
    run has all validation rows, its replay the 300 of the matrix.
Score: log(test loss / loss of a constant prediction). A run ends with the trial that brings the CPU seconds of its
    trials to the limit, so that other work on the machine changes nothing; its replay has exactly those CPU seconds
    and no overhead. Bias is replay less real, with its standard error over runs; rank correlation is Spearman's over
    all runs, and for the order that wins on a table the share of tables where both agree.
Hardware: costs are CPU seconds of one thread. Repeats: 1; seed 0.
Commands:
    python -m benchmarks.metalearning.real_runs run      # fits what is missing, about 10 s of CPU a run
    python -m benchmarks.metalearning.real_runs table    # replays and prints, seconds
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.command_line import make_main
from benchmarks.markdown import print_head
from benchmarks.metalearning.matrix import read_matrix
from benchmarks.metalearning.portfolio import KEPT_ROWS, LEARNED, MATRIX, sources
from benchmarks.metalearning.replay_search import replay_search
from benchmarks.result_table import Row, results_of
from windvane.metalearning.collect import MAX_KEPT_ROWS
from windvane.metalearning.replay import RunPlan, TableReplay, entry_id, kept_rows, run_trials, score_run
from windvane.models import DEFAULT
from windvane.search.strategy.portfolio import Case, PortfolioEntry, read_cases, write_portfolio

TABLES = ("authorship", "cps_1988", "flchain_death", "hall_of_fame", "head_injury", "nhefs_death", "titanic")
N_ENTRIES = 10
CPU_SECONDS = 6.0  # of the trials of a run
ORDERS = ("shipped", "reversed")
RESULTS = results_of(__file__, ("table", "order"), {"cpu_seconds": CPU_SECONDS, "entries": N_ENTRIES})


def plan() -> list[tuple[str, str]]:
    return [(table, order) for table in TABLES for order in ORDERS]


def entries(order: str) -> list[PortfolioEntry]:
    """Return the configurations of a run in their order."""
    shipped = list(read_cases(LEARNED / "portfolio_classification.json")[0].entries[:N_ENTRIES])
    return shipped if order == "shipped" else shipped[::-1]


def with_unknown_families(portfolio: list[PortfolioEntry]) -> list[PortfolioEntry]:
    """Put the default families that a portfolio does not know first, as a run does."""
    known = {entry.family for entry in portfolio}
    return [PortfolioEntry(name, {}) for name in DEFAULT if name not in known] + portfolio


def measure(name: str, order: str) -> Row:
    """Fit one table until its trials have used their CPU seconds."""
    from windvane import AutoClassifier, AutoRegressor
    from windvane.data.target import encode_target
    from windvane.data.task import Task
    from windvane.evaluation.metrics import get_metric

    source = next(table for table in sources(large=False) if table.name == name)
    X, y, X_test, y_test = source.read()
    used: dict[int, float] = {}
    n_entries = len(with_unknown_families(entries(order)))

    def is_over(trial: Any) -> bool:
        used[trial.number] = trial.cpu_seconds
        return sum(used.values()) >= CPU_SECONDS or len(used) == n_entries

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "order.json"
        write_portfolio(path, [Case(tuple(entries(order)))], order)
        made = AutoRegressor if source.goal == "regression" else AutoClassifier
        settings: dict[str, Any] = {"time_budget": 36_000, "n_jobs": 1, "policy": "cv5", "portfolio": path}
        automl = made(**settings, random_state=0, verbose=0, run_dir=Path(folder) / "run")
        automl.fit(X, y, callbacks=[is_over])
        prediction = automl.predict(X_test) if source.goal == "regression" else automl.predict_proba(X_test)
        trials = automl.trials_
    kept = kept_rows(min(len(y_test), MAX_KEPT_ROWS), KEPT_ROWS)
    target, classes = encode_target(y_test, source.goal, getattr(automl, "classes_", None))
    n_classes = 0 if classes is None else len(classes)
    kind = "regression" if classes is None else "multiclass" if n_classes > 2 else "binary"
    metric = get_metric("auto", Task(kind, len(y), X.shape[1], n_classes))  # type: ignore[arg-type]
    loss, spread = float(metric.loss(target[kept], prediction[kept])), 1.0
    if source.goal == "regression":  # replays have standardized targets
        spread = float(np.std(encode_target(y, source.goal)[0]))
    row: Row = {"table": name, "order": order, "kind": kind, "loss": loss / spread}
    row |= {"trials": len(trials), "cpu": sum(trial.cpu_seconds for trial in trials)}
    return row | {"ran": [entry_id(trial.family, trial.config) for trial in trials]}


def replayed(row: Row, table: TableReplay) -> dict[str, float]:
    """Return the test loss of the replays of a run, and the CPU seconds that its trials have in the collection."""
    order = [entry_id(e.family, e.config) for e in with_unknown_families(entries(row["order"]))]
    budget = RunPlan(row["cpu"], workers=1, startup=0.0, overhead=0.0, share=1.0)
    quick, full = run_trials(order, table, budget), replay_search(order, table, budget)
    same = [(entry, len(table.curves[entry].cpu) - 1) for entry in row["ran"] if entry in table.curves]
    losses = {"in order": score_run(quick, table), "scheduler": score_run(full, table)}
    cost = sum(table.curves[entry].cost for entry, _ in same)
    return {**losses, "same trials": score_run(same, table), "cost": cost, "constant": table.constant}


def table() -> None:
    """Print how far replays are from the real runs."""
    known = {one.name: one for one in read_matrix(MATRIX)[0]}
    rows = [row for row in RESULTS.rows() if row["table"] in known]
    found = [replayed(row, known[row["table"]]) for row in rows]
    real = np.array([row["loss"] / one["constant"] for row, one in zip(rows, found, strict=True)])
    seconds = np.array([one["cost"] / row["cpu"] for row, one in zip(rows, found, strict=True)])
    print(f"{len(rows)} runs on {len({row['table'] for row in rows})} tables; trials of the real runs: ", end="")
    print(f"{np.mean([row['trials'] for row in rows]):.1f} on average. CPU seconds of the same trials in the ", end="")
    print(f"collection: x {np.exp(np.mean(np.log(seconds))):.2f} (geometric mean)\n")
    print_head("| replay | rank correlation | bias, % | standard error | largest difference, % | same order wins |")
    for name in ("in order", "scheduler", "same trials"):
        ours = np.array([one[name] / one["constant"] for one in found])
        gap = 100 * np.log((ours + 0.03) / (real + 0.03))
        rank = spearmanr(ours, real).statistic
        agree, pairs = agreement([row["table"] for row in rows], real, ours)
        error = gap.std(ddof=1) / len(gap) ** 0.5
        print(f"| {name} | {rank:.3f} | {gap.mean():+.2f} | {error:.2f} | {np.abs(gap).max():.1f} | ", end="")
        print(f"{agree} of {pairs} |")


def agreement(names: Sequence[str], real: Any, ours: Any) -> tuple[int, int]:
    """Return on how many tables replays name the better of two orders, where real runs differ by 1 % or more."""
    agree = pairs = 0
    for name in dict.fromkeys(names):
        places = [i for i, other in enumerate(names) if other == name]
        if len(places) == 2:
            first, second = places
            if abs(np.log((real[first] + 0.03) / (real[second] + 0.03))) >= 0.01:
                pairs += 1
                agree += int((real[first] < real[second]) == (ours[first] < ours[second]))
    return agree, pairs


main = make_main(__doc__, {"run": lambda: RESULTS.fill(plan(), measure), "table": table})


if __name__ == "__main__":
    main()
