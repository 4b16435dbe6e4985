"""How the engine keeps its promises: budget, first model, use of the cores, trials a minute.

Claim: on each of 13 real tables the first usable model is there within 5 s, `fit` returns within the budget + 5 % (at
least 2 s), at 60 s at least 90 % of workers x budget are CPU seconds inside the models' methods; the same holds beside
a family that sleeps, one that eats memory and one that crashes.
Hardware: 2 cores, no GPU, nothing else running. Repeats: 1 a table and budget.

    python -m benchmarks.engine.engine run --budgets 10 60
    python -m benchmarks.engine.engine run --budgets 10 --bad sleep eat segfault --tables churn_modelling eucalyptus
    python -m benchmarks.engine.engine table
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import pandas as pd

from benchmarks.command_line import make_parser
from benchmarks.data import CLASSIFICATION, load
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of

JOBS = 2
RESULTS = results_of(__file__, ("table", "budget", "bad"), {"jobs": JOBS})
BADS = ("eat", "segfault", "sleep")
BAD_MINUTES = ("credit_data", "eucalyptus", "pendigits")  # tables that run for 60 s beside them


def plan() -> list[tuple[Any, ...]]:
    """Return the runs behind the page; those of a minute with no bad family are those of `benchmarks.peers`."""
    return [*product(CLASSIFICATION, (10.0,), (None, *BADS)), *product(BAD_MINUTES, (60.0,), BADS)]


def facts_of(model: Any, budget: float, jobs: int) -> dict[str, Any]:
    """Read off a fitted estimator what the promises are about."""
    cpu = sum(trial.cpu_seconds for trial in model.trials_)
    return {
        "first_model_seconds": round(model.curve_[0][0], 2),
        "model_cpu_share": round(cpu / (jobs * budget), 3),
        "trials": len(model.trials_),
        "policy": model.policy_.name,
        "validation": float(model.performance_over_time_["ensemble"].iloc[-1]),
    }


def measure(name: str, budget: float, bad: str | None) -> dict[str, Any]:
    """Fit once on one table, beside a family that misbehaves or not."""
    from benchmarks.engine.bad_families import BadFamily
    from windvane import FAMILIES, AutoClassifier

    X, X_test, y, y_test = load(name)
    families = None if bad is None else [BadFamily(bad), *FAMILIES]
    model = AutoClassifier(time_budget=budget, n_jobs=JOBS, random_state=0, verbose=0, families=families)
    started = time.monotonic()
    model.fit(X, y)
    seconds = round(time.monotonic() - started, 2)
    measured = {"table": name, "budget": budget, "bad": bad, "rows": len(X), "fit_seconds": seconds}
    return {**measured, **facts_of(model, budget, JOBS), "test": model.score(X_test, y_test)}


def read() -> pd.DataFrame:
    """Read this script's results, and those at 60 s of the comparison with other systems."""
    from benchmarks.peers.compare import RESULTS as PEERS

    peers = PEERS.frame()
    peers = peers[(peers["system"] == "windvane") & (peers["seed"] == 0) & (peers["budget"] == 60)]
    peers = peers[peers["table"].isin(CLASSIFICATION)].drop(columns=["loss"])
    names = {column: column.removeprefix("facts.") for column in map(str, peers)}
    names |= {"n_train": "rows", "fit_s": "fit_seconds"}
    own = RESULTS.frame()
    return pd.concat([own, peers.rename(columns=names)], join="inner").assign(
        bad=pd.Series([*own["bad"], *[None] * len(peers)], dtype=object).to_numpy()
    )


def table() -> None:
    """Print the results as markdown: one row for each kind of run, then one for each table at the largest budget."""
    rows = read()
    rows["bad"] = rows["bad"].fillna("none")
    rows["over"] = rows["fit_seconds"] - rows["budget"]
    rows["per minute"] = 60 * rows["trials"] / rows["budget"]
    print_head("| bad family | budget | tables | most over | first model, worst | model CPU share, median (least) |")
    for (bad, budget), group in rows.groupby(["bad", "budget"]):
        share = group["model_cpu_share"]
        print(
            f"| {bad} | {budget:g} s | {len(group)} | {group['over'].max():+.1f} s | "
            f"{group['first_model_seconds'].max():.1f} s | {share.median():.0%} ({share.min():.0%}) |"
        )
    print_head("\n| table | rows | policy | first model | model CPU share | trials a minute |")
    plain = rows[(rows["bad"] == "none") & (rows["budget"] == rows["budget"].max())]
    for row in plain.sort_values("table").to_dict("records"):
        print(
            f"| {row['table']} | {row['rows']} | {row['policy']} | {row['first_model_seconds']:.1f} s | "
            f"{row['model_cpu_share']:.0%} | {row['per minute']:.0f} |"
        )


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "table")
    parser.add_argument("--tables", nargs="+", default=list(CLASSIFICATION))
    parser.add_argument("--budgets", nargs="+", type=float, default=[10.0, 60.0])
    parser.add_argument("--bad", nargs="*", default=[])
    arguments = parser.parse_args(words)
    if arguments.command == "table":
        table()
    else:
        runs = product(arguments.budgets, arguments.bad or [None], arguments.tables)
        RESULTS.fill(((name, budget, bad) for budget, bad, name in runs), measure)


if __name__ == "__main__":
    main()
