"""Several targets in one run against one run a target, with equal total time: one run of 20 s, or k of 20 / k s.

Claim: docs/guide/targets.md. Losses are those of the run's metric on rows that chose nothing, mean over the targets:
error relative to the mean of the test rows, or 1 - ROC AUC.
Hardware: 2 cores, with nothing else on them; both ways run one after the other, every other time in the other order.
Repeats: 2 seeds; tables that no other benchmark is evaluated on.
Commands:
    python -m benchmarks.engine.targets_equal_time run
    python -m benchmarks.engine.targets_equal_time table
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.command_line import make_main
from benchmarks.data import check_not_reserved
from benchmarks.engine.targets import TEST_ROWS, cpu_seconds, evaluate_both, split_rows
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from windvane import AutoClassifier, AutoRegressor

TARGETS = {
    "life_expectancy": ("Life expectancy", "Schooling"),
    "hawks": ("Weight", "Wing", "Tail"),
    "penguins": ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"),
    "wind_dublin": ("DUB", "CLA", "BEL", "MAL"),
    "body_dims": ("wai_gi", "hip_gi", "hgt"),
    "house_votes_84": ("el-salvador-aid", "education-spending", "crime"),
    "mpls_stops": ("citationIssued", "vehicleSearch"),
    "acs_income": ("citizen", "married", "disability"),
}
LABELS = ("house_votes_84", "mpls_stops", "acs_income")
check_not_reserved(TARGETS)
TRAIN_ROWS, SECONDS, SEEDS = 2_000, 20.0, (0, 1)
SETTINGS = {"train_rows": TRAIN_ROWS, "test_rows": TEST_ROWS, "seconds": SECONDS}
RESULTS = results_of(__file__, ("table", "seed"), SETTINGS)


def plan() -> list[tuple[Any, ...]]:
    return [(name, seed) for seed in SEEDS for name in TARGETS]


def measure(name: str, seed: int) -> dict[str, Any]:
    """Fit one run for all targets and one for each, in an order that alternates."""
    names, labels = list(TARGETS[name]), name in LABELS
    X, X_test, y, y_test = split_rows(name, names, labels=labels, train_rows=TRAIN_ROWS, seed=seed)
    ways = [[names], [[one] for one in names]]
    fitted: dict[int, tuple[list[Any], float]] = {}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        for way in (0, 1) if (seed + list(TARGETS).index(name)) % 2 == 0 else (1, 0):
            started = time.monotonic()
            runs = [
                _fit(
                    name,
                    X,
                    y[some] if len(some) > 1 else y[some[0]],
                    seed,
                    SECONDS / len(ways[way]),
                    f"{folder}/{way}{i}",
                )
                for i, some in enumerate(ways[way])
            ]
            fitted[way] = runs, time.monotonic() - started
        (joint,), joint_seconds = fitted[0]
        apart, seconds = fitted[1]
        return {
            "table": name,
            "seed": seed,
            "targets": len(names),
            "train": len(X),
            **evaluate_both(joint, apart, X_test, y_test, labels=labels),
            "joint.trials": len(joint.trials_),
            "apart.trials": sum(len(model.trials_) for model in apart),
            "joint.seconds": joint_seconds,
            "apart.seconds": seconds,
            "joint.cpu_seconds": cpu_seconds([joint]),
            "apart.cpu_seconds": cpu_seconds(apart),
        }


def _fit(name: str, X: pd.DataFrame, y: Any, seed: int, seconds: float, folder: str) -> Any:
    kind = AutoClassifier if name in LABELS else AutoRegressor
    return kind(seconds, random_state=seed, verbose=0, run_dir=Path(folder)).fit(X, y)


def table() -> None:
    """Print the losses, the trials and the CPU seconds inside the models."""
    frame = RESULTS.frame()
    print_head(
        "| table | targets | one run | a run a target | ratio of each seed | trials | trials a run a target | CPU s "
        "| CPU s a run a target |"
    )
    for name, rows in frame.groupby("table", sort=False):
        ratios = ", ".join(f"{ratio:.3f}" for ratio in rows["joint"] / rows["apart"])
        losses = " | ".join(f"{rows[one].mean():.4f}" for one in ("joint", "apart"))
        trials = " | ".join(f"{rows[f'{one}.trials'].mean():.0f}" for one in ("joint", "apart"))
        cpu = " | ".join(f"{rows[f'{one}.cpu_seconds'].mean():.0f}" for one in ("joint", "apart"))
        targets = rows["targets"].iloc[0]
        print(f"| {str(name).replace('_', '-')} | {targets} | {losses} | {ratios} | {trials} | {cpu} |")
    logs = (frame["joint"] / frame["apart"]).map(np.log)
    by_table = logs.groupby(frame["table"]).mean()
    error = float(by_table.std(ddof=1) / np.sqrt(len(by_table)))
    better, worse = int((logs < 0).sum()), int((logs > 0).sum())
    mean, low, high = np.exp(by_table.mean() + 2 * error * np.array([0, -1, 1]))
    print(
        f"\nLoss of one run x {mean:.3f} of a run a target ({low:.3f} to {high:.3f}, two standard errors over the "
        f"tables), lower in {better} and higher in {worse} of {len(frame)}."
    )


main = make_main(__doc__, {"run": lambda: RESULTS.fill(plan(), measure), "table": table})


if __name__ == "__main__":
    main()
