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


def measure(name: str, budget: float, bad: str | None) -> dict[str, object]:
    """Fit once and read off what the promises are about."""
    from windvane import FAMILIES, AutoClassifier

    X, X_test, y, y_test = load(name)
    families = None if bad is None else [*FAMILIES, BadFamily(bad)]
    model = AutoClassifier(time_budget=budget, n_jobs=2, random_state=0, verbose=0, families=families)
    started = time.monotonic()
    model.fit(X, y)
    seconds = time.monotonic() - started
    cpu = sum(trial.cpu_seconds for trial in model.trials_)
    return {
        "table": name,
        "budget": budget,
        "bad": bad,
        "rows": len(X),
        "fit_seconds": round(seconds, 2),
        "first_model_seconds": round(model.curve_[0][0], 2),
        "model_cpu_share": round(cpu / (2 * budget), 3),
        "trials": len(model.trials_),
        "usable": sum(trial.usable for trial in model.trials_),
        "policy": model.policy_.name,
        "validation": round(model.performance_over_time_.iloc[-1]["ensemble"], 5),
        "test": round(model.score(X_test, y_test), 5),
        "members": {f"{m.family} {m.number}": round(m.weight, 2) for m in model.predictor_.ensemble.members},
    }


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


def table() -> None:
    """Print the results as a table."""
    rows = pd.DataFrame([json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))])
    rows["bad"] = rows["bad"].fillna("none")
    rows["trials a minute"] = (60 * rows["trials"] / rows["budget"]).round(1)
    columns = ["bad", "budget", "table", "rows", "policy", "fit_seconds", "first_model_seconds", "model_cpu_share"]
    print(rows.sort_values(["bad", "budget", "table"])[[*columns, "trials a minute"]].to_markdown(index=False))


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
