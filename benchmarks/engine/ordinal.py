"""The decision for labels with an order against the most probable class, same ensemble, on rows that chose nothing.

Claim: docs/guide/targets.md. Quadratic kappa and mean distance of the ranks of a run for the same metric: as fitted,
with the most probable class, and where the costs of the ranks decide in every run.
Hardware: any. Models are small: three trials, three folds, at most 1,000 rows. Repeats: 2 seeds; tables that no other
benchmark is evaluated on. Takes about 3 CPU minutes.
Commands:
    python -m benchmarks.engine.ordinal run
    python -m benchmarks.engine.ordinal table
"""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from benchmarks.command_line import make_main
from benchmarks.data import TABLES, check_not_reserved
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from windvane import AutoClassifier
from windvane.evaluation.metrics import ORDINAL

# Table -> target and its values from the least on; None for numbers, which are in their order.
TARGETS: dict[str, tuple[str, list[str] | None]] = {
    "autos_symboling": ("symboling", ["-1", "0", "1", "2", "3"]),
    "gss_income": ("educcat", ["Less Than High School", "High School", "Junior College", "Bachelor", "Graduate"]),
    "lecture_rating": ("y", None),
    "movielens_rating": ("rating", None),
    "nursery": ("class", ["not_recom", "very_recom", "priority", "spec_prior"]),
    "wvs_poverty": ("poverty", ["Too Little", "About Right", "Too Much"]),
}
check_not_reserved(TARGETS)
TRAIN_ROWS, TEST_ROWS, N_SEEDS, N_TRIALS = 1_000, 5_000, 2, 3
FAMILIES = ("linear", "extra_trees", "lightgbm")
SETTINGS = {"train_rows": TRAIN_ROWS, "test_rows": TEST_ROWS, "n_trials": N_TRIALS}
RESULTS = results_of(__file__, ("table", "metric", "seed"), SETTINGS)


def plan() -> list[tuple[Any, ...]]:
    return list(product(TARGETS, ORDINAL, range(N_SEEDS)))


def measure(name: str, metric: str, seed: int) -> dict[str, Any]:
    """Fit on one part of a table for a metric; the metric with each decision on the other."""
    target, order = TARGETS[name]
    frame = pd.read_parquet(TABLES / f"{name}.parquet").dropna(subset=[target])
    X, y = frame.drop(columns=[target]), frame[target]
    if order is not None:
        y = y.astype(pd.CategoricalDtype(order, ordered=True))
        assert y.notna().all()
    n_train = min(TRAIN_ROWS, len(y) // 2)
    X, X_test, y, y_test = train_test_split(X, y, train_size=n_train, random_state=seed, stratify=y)
    X_test, y_test = X_test.iloc[:TEST_ROWS], y_test.iloc[:TEST_ROWS]
    model = AutoClassifier(
        600,
        n_trials=N_TRIALS,
        n_jobs=1,
        families=list(FAMILIES),
        policy="cv3",
        metric=metric,
        random_state=seed,
        verbose=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, y)
    ensemble, sign = model.predictor_.ensemble, -1.0 if metric == "ordinal_mae" else 1.0
    found: dict[str, Any] = {"table": name, "metric": metric, "seed": seed, "train": len(y), "test": len(y_test)}
    found["chosen"] = "costs" if ensemble.costs else "weights" if ensemble.decision_weights else "most probable"
    found["fitted"] = sign * model.score(X_test, y_test)
    model.set_threshold(None)
    found["most_probable"] = sign * model.score(X_test, y_test)
    ranks = np.arange(len(model.classes_))
    model.tune_threshold(costs=np.abs(ranks[:, None] - ranks) ** ORDINAL[metric])
    found["costs"] = sign * model.score(X_test, y_test)
    return found


def table() -> None:
    """Print the table of the page: means over the seeds, and how often each decision was chosen."""
    frame = RESULTS.frame()
    print_head("| metric | table | most probable class | chosen decision | costs in every run | costs chosen |")
    columns = ["most_probable", "fitted", "costs"]
    for metric in ORDINAL:
        part = frame[frame["metric"] == metric]
        for name in TARGETS:
            rows = part[part["table"] == name]
            cells = " | ".join(f"{value:.3f}" for value in rows[columns].mean())
            print(f"| `{metric}` | {name} | {cells} | {(rows['chosen'] == 'costs').sum()} of {len(rows)} |")
        cells = " | ".join(f"{value:.3f}" for value in part[columns].mean())
        print(f"| `{metric}` | mean | {cells} | {(part['chosen'] == 'costs').sum()} of {len(part)} |")


main = make_main(__doc__, {"run": lambda: RESULTS.fill(plan(), measure), "table": table})


if __name__ == "__main__":
    main()
