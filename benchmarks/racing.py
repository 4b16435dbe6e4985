"""What racing gains: trials in 30 s, validation loss and test score with and without it.

Claim: see the row on racing in docs/decisions.md. Hardware: 2 cores, no GPU. Repeats: a seed each.

    python benchmarks/racing.py run --tables eucalyptus telco_churn pendigits --seeds 0 1 2
    python benchmarks/racing.py table
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import pandas as pd
from engine import ROOT, load

RESULTS = ROOT / "benchmarks" / "results" / "racing"


def measure(name: str, budget: float, seed: int, on: bool) -> dict[str, Any]:
    """Fit once."""
    from windvane import AutoClassifier
    from windvane.search import racing

    racing.ON = on
    X, X_test, y, y_test = load(name)
    model = AutoClassifier(time_budget=budget, n_jobs=2, random_state=seed, verbose=0).fit(X, y)
    raced = [trial for trial in model.trials_ if trial.status == "raced"]
    return {
        "table": name,
        "budget": budget,
        "seed": seed,
        "racing": on,
        "trials": len(model.trials_),
        "raced": len(raced),
        "raced_seconds": round(sum(trial.fit_seconds + trial.predict_seconds for trial in raced), 1),
        "validation_loss": model.predictor_.ensemble.loss,
        "best_single": min(trial.loss for trial in model.trials_ if trial.usable),
        "test_score": model.score(X_test, y_test),
        "members": [m.family for m in model.predictor_.ensemble.members],
    }


def table() -> None:
    """Print means over the seeds."""
    rows = pd.DataFrame([json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))])
    columns = ["trials", "raced", "validation_loss", "best_single", "test_score"]
    means = rows.groupby(["table", "budget", "racing"])[columns].mean()
    means.insert(0, "n", rows.groupby(["table", "budget", "racing"]).size())
    print(means.round(5).to_string())


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--tables", nargs="+", default=["eucalyptus", "telco_churn", "pendigits"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--budget", type=float, default=30.0)
    arguments = parser.parse_args()
    if arguments.command == "table":
        table()
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in arguments.seeds:
        for name in arguments.tables:
            for on in (True, False):
                path = RESULTS / f"{name}-{arguments.budget:g}s-seed{seed}-{'on' if on else 'off'}.json"
                if not path.exists():
                    path.write_text(json.dumps(measure(name, arguments.budget, seed, on)))
                    print(path.read_text(), flush=True)


if __name__ == "__main__":
    main()
