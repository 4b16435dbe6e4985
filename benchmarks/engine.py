"""How the engine keeps its promises: budget, first model, use of the cores, trials a minute.

Claim: on each of 13 real tables the first usable model is there within 5 s, `fit` returns within the budget + 5 % (at
least 2 s), at 60 s at least 90 % of workers x budget are CPU seconds inside the models' methods; the same holds beside
a family that sleeps, one that eats memory and one that crashes.
Hardware: 2 cores, no GPU, nothing else running. Repeats: 1 a table and budget.

    python benchmarks/engine.py run --budgets 10 60
    python benchmarks/engine.py run --budgets 10 --bad sleep eat segfault --tables churn_modelling eucalyptus
    python benchmarks/engine.py table
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
from bad_families import BadFamily
from sklearn.model_selection import train_test_split

ROOT = Path(__file__).resolve().parent.parent
TABLES = ROOT.parent / "shared" / "data" / "tables"
RESULTS = ROOT / "benchmarks" / "results" / "engine"
NAMES = (
    "attrition",
    "car_evaluation",
    "cell_segmentation",
    "churn_modelling",
    "credit_data",
    "electricity",
    "eucalyptus",
    "hpc_jobs",
    "isolet_1560",
    "kr_vs_kp",
    "mammography",
    "pendigits",
    "telco_churn",
)


def load(name: str) -> tuple[pd.DataFrame, pd.Series, pd.DataFrame, pd.Series]:
    """Read a table and split it 75/25, stratified, seed 0."""
    index = pd.read_csv(TABLES / "index.csv").set_index("name")
    frame = pd.read_parquet(TABLES / index.loc[name, "file"])
    X, y = frame.drop(columns=[index.loc[name, "target"]]), frame[index.loc[name, "target"]]
    return tuple(train_test_split(X, y, test_size=0.25, random_state=0, stratify=y))


def facts(model: Any, budget: float, jobs: int) -> dict[str, Any]:
    """Read off a fitted estimator what the promises are about."""
    cpu = sum(trial.cpu_seconds for trial in model.trials_)
    return {
        "first_model_seconds": round(model.curve_[0][0], 2),
        "model_cpu_share": round(cpu / (jobs * budget), 3),
        "trials": len(model.trials_),
        "policy": model.policy_.name,
        "validation": float(model.performance_over_time_["ensemble"].iloc[-1]),
        "members": {f"{m.family} {m.number}": round(m.weight, 2) for m in model.predictor_.ensemble.members},
        "tried": [[t.family, t.status, round(t.loss, 5), round(t.cpu_seconds, 1)] for t in model.trials_],
    }


def measure(name: str, budget: float, bad: str | None) -> dict[str, Any]:
    """Fit once on one table, beside a family that misbehaves or not."""
    from windvane import FAMILIES, AutoClassifier

    X, X_test, y, y_test = load(name)
    families = None if bad is None else [BadFamily(bad), *FAMILIES]
    model = AutoClassifier(time_budget=budget, n_jobs=2, random_state=0, verbose=0, families=families)
    started = time.monotonic()
    model.fit(X, y)
    seconds = round(time.monotonic() - started, 2)
    measured = {"table": name, "budget": budget, "bad": bad, "rows": len(X), "fit_seconds": seconds}
    return {**measured, **facts(model, budget, 2), "test": model.score(X_test, y_test)}


def run(names: list[str], budgets: list[float], bads: list[str | None]) -> None:
    """Measure what has not been measured yet."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for budget in budgets:
        for bad in bads:
            for name in names:
                path = RESULTS / f"{name}-{budget:g}s{'' if bad is None else '-' + bad}.json"
                if not path.exists():
                    result = measure(name, budget, bad)
                    path.write_text(json.dumps(result, indent=1))
                    print(json.dumps(result), flush=True)


def read() -> pd.DataFrame:
    """Read this script's results, and those at 60 s that `peers.py` brought along."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    for path in sorted((RESULTS.parent / "peers").glob("windvane-*-seed0-*.json")):
        result = json.loads(path.read_text())
        if "facts" in result and result["table"] in NAMES and result["budget"] == 60:
            names = {"table": result["table"], "budget": float(result["budget"]), "bad": None}
            found.append({**names, "rows": result["n_train"], "fit_seconds": result["fit_s"], **result["facts"]})
    return pd.DataFrame(found)


def table() -> None:
    """Print the results as markdown: one row for each kind of run, then one for each table at the largest budget."""
    rows = read()
    rows["bad"] = rows["bad"].fillna("none")
    rows["over"] = rows["fit_seconds"] - rows["budget"]
    rows["per minute"] = 60 * rows["trials"] / rows["budget"]
    print("| bad family | budget | tables | most over | first model, worst | model CPU share, median (least) |")
    print("|---|---|---|---|---|---|")
    for (bad, budget), group in rows.groupby(["bad", "budget"]):
        share = group["model_cpu_share"]
        print(
            f"| {bad} | {budget:g} s | {len(group)} | {group['over'].max():+.1f} s | "
            f"{group['first_model_seconds'].max():.1f} s | {share.median():.0%} ({share.min():.0%}) |"
        )
    print("\n| table | rows | policy | first model | model CPU share | trials a minute |\n|---|---|---|---|---|---|")
    plain = rows[(rows["bad"] == "none") & (rows["budget"] == rows["budget"].max())]
    for row in plain.sort_values("table").to_dict("records"):
        print(
            f"| {row['table']} | {row['rows']} | {row['policy']} | {row['first_model_seconds']:.1f} s | "
            f"{row['model_cpu_share']:.0%} | {row['per minute']:.0f} |"
        )


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--tables", nargs="+", default=list(NAMES))
    parser.add_argument("--budgets", nargs="+", type=float, default=[10.0, 60.0])
    parser.add_argument("--bad", nargs="*", default=[])
    arguments = parser.parse_args()
    if arguments.command == "table":
        table()
    else:
        run(arguments.tables, arguments.budgets, list(arguments.bad) or [None])


if __name__ == "__main__":
    main()
