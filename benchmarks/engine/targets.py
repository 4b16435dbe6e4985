"""Several targets in one run against one run a target with as many trained models, on rows that chose nothing.

Claim: docs/decisions.md. Losses are those of the run's metric, mean over the targets: error relative to the mean of the
test rows, or 1 - ROC AUC.
Hardware: any; CPU seconds are those inside the models. Models are small: three trials each, hold-out, at most
400 rows to learn from. Repeats: 4 seeds; tables that no other benchmark is evaluated on.
Commands:
    python -m benchmarks.engine.targets run
    python -m benchmarks.engine.targets table
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from benchmarks.command_line import make_main
from benchmarks.data import TABLES, check_not_reserved
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from windvane import AutoClassifier, AutoRegressor
from windvane.evaluation.metrics import get_metric
from windvane.evaluation.predictions import Predictions

TARGETS = {
    "life_expectancy": ("Life expectancy", "Schooling"),
    "hawks": ("Weight", "Wing", "Tail"),
    "house_votes_84": ("el-salvador-aid", "education-spending", "crime"),
    "mpls_stops": ("citationIssued", "vehicleSearch"),
}
LABELS = ("house_votes_84", "mpls_stops")
check_not_reserved(TARGETS)
TRAIN_ROWS, TEST_ROWS = 400, 3_000
FAMILIES = ("linear", "extra_trees", "lightgbm")
N_TRIALS, SEEDS = 3, (0, 1, 2, 3)
SETTINGS = {"train_rows": TRAIN_ROWS, "test_rows": TEST_ROWS, "n_trials": N_TRIALS, "families": "-".join(FAMILIES)}
RESULTS = results_of(__file__, ("table", "seed"), SETTINGS)


def plan() -> list[tuple[Any, ...]]:
    return [(name, seed) for seed in SEEDS for name in TARGETS]


def measure(name: str, seed: int) -> dict[str, Any]:
    """Fit one run for all targets and one for each; losses on the rows left, and CPU seconds."""
    names, labels = TARGETS[name], name in LABELS
    X, X_test, y, y_test = split_rows(name, names, labels=labels, train_rows=TRAIN_ROWS, seed=seed)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        joint = _fit(name, X, y, seed, Path(folder) / "joint")
        apart = [_fit(name, X, y[one], seed, Path(folder) / str(j)) for j, one in enumerate(names)]
        return {
            "table": name,
            "seed": seed,
            "targets": len(names),
            "train": len(X),
            **evaluate_both(joint, apart, X_test, y_test, labels=labels),
            "joint.cpu_seconds": cpu_seconds([joint]),
            "apart.cpu_seconds": cpu_seconds(apart),
        }


def split_rows(name: str, targets: Sequence[str], *, labels: bool, train_rows: int, seed: int) -> tuple[Any, ...]:
    """Draw the rows to learn from and those to evaluate on: X, X_test, y, y_test."""
    frame = pd.read_parquet(TABLES / f"{name}.parquet").dropna(subset=list(targets))
    X, y = frame.drop(columns=list(targets)), frame[list(targets)]
    if labels:
        y = y.astype(str)
    X, X_test, y, y_test = train_test_split(X, y, train_size=min(train_rows, len(y) // 2), random_state=seed)
    return X, X_test.iloc[:TEST_ROWS], y, y_test.iloc[:TEST_ROWS]


def evaluate_both(joint: Any, apart: Sequence[Any], X_test: Any, y_test: Any, *, labels: bool) -> dict[str, float]:
    """Return the mean losses of the run of all targets and of the runs of one target each."""
    test = Predictions.of_test(joint.predictor_, X_test, y_test)
    columns = []
    for j, model in enumerate(apart):
        raw = model.predictor_.predict_raw(model.predictor_.table(X_test))
        columns.append(raw[:, list(model.classes_).index(joint.classes_[j][1])] if raw.ndim == 2 else raw)
    metric = get_metric("auto" if labels else "relative_rmse", joint.predictor_.task)
    return {
        "joint": metric.loss(test.target, test.prediction),
        "apart": metric.loss(test.target, np.column_stack(columns)),
    }


def cpu_seconds(models: Sequence[Any]) -> float:
    """Return the CPU seconds inside the models of some runs."""
    return float(sum(trial.cpu_seconds for model in models for trial in model.trials_))


def _fit(name: str, X: pd.DataFrame, y: Any, seed: int, folder: Path) -> Any:
    kind = AutoClassifier if name in LABELS else AutoRegressor
    model: Any = kind(
        3600,
        n_trials=N_TRIALS,
        n_jobs=1,
        families=list(FAMILIES),
        policy="holdout",
        random_state=seed,
        verbose=0,
        run_dir=folder,
    )
    return model.fit(X, y)


def table() -> None:
    """Print the losses and the seconds."""
    frame = RESULTS.frame()
    print_head("| table | seed | targets | one run | a run a target | CPU s | CPU s a run a target |")
    for row in frame.to_dict("records"):
        losses = " | ".join(f"{row[one]:.4f}" for one in ("joint", "apart"))
        seconds = " | ".join(f"{row[f'{one}.cpu_seconds']:.1f}" for one in ("joint", "apart"))
        print(f"| {row['table'].replace('_', '-')} | {row['seed']} | {row['targets']} | {losses} | {seconds} |")
    ratio = float(np.exp(np.log(frame["joint"] / frame["apart"]).mean()))
    better = int((frame["joint"] < frame["apart"]).sum())
    print(f"\nLoss of one run x {ratio:.3f} of a run a target, lower in {better} of {len(frame)}.")
    share = frame["joint.cpu_seconds"].sum() / frame["apart.cpu_seconds"].sum()
    print(f"\nCPU seconds: {share:.2f} of those of a run a target.")


main = make_main(__doc__, {"run": lambda: RESULTS.fill(plan(), measure), "table": table})


if __name__ == "__main__":
    main()
