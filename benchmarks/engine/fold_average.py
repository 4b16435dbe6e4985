"""How the fold models of a member are averaged: the mean of probabilities, or the squared mean of their roots.

Claim: where the metric is the log loss and a table has at least 500 training rows, the average by roots has the lower
test loss on most tables, by much where the loss is near zero; on fewer rows neither is better.
Data: tables of classes that no comparison with other systems uses, at most 2,500 training rows, a quarter of the table
for tests. One fit for the log loss, whose ensemble predicts in both ways, with the same temperature.
Hardware: one worker, 30 s; other programs shared the machine. Repeats: 1 a table, seed 0.
Commands:
    python -m benchmarks.engine.fold_average run
    python -m benchmarks.engine.fold_average table
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.metrics import log_loss

from benchmarks.command_line import make_main
from benchmarks.data import check_not_reserved
from benchmarks.markdown import print_head
from benchmarks.peers.compare import load_split
from benchmarks.result_table import results_of

NAMES = (
    *("anneal", "authorship", "autos_symboling", "beps_vote", "chile_vote", "cjs_trees", "cnae9"),
    *("coil20_images", "credit_approval", "dermatology", "ecoli", "glass", "hawks", "leaf_flavia"),
    *("lrs_spectrometer", "madelon", "mdrr", "mnist_5k", "movement_libras", "nursery", "oil_spill"),
    *("olive_area", "penguins", "portal_rodents", "ringnorm", "sa_heart", "sonar", "spectf"),
    *("texture", "tic_tac_toe", "twonorm", "us_vote92", "vertebral_column", "vowel", "waveform5000", "wdbc"),
    *("wheat_seeds", "yeast3"),
)
check_not_reserved(NAMES)
SECONDS, MAX_ROWS, MIN_ROWS, SEED = 30, 2_500, 500, 0
FLOOR = 1e-3  # added to both losses: a loss that is nearly zero has no meaningful ratio
RESULTS = results_of(__file__, ("table",), {"seconds": SECONDS, "max_rows": MAX_ROWS, "seed": SEED})


def plan() -> list[tuple[Any, ...]]:
    return [(name,) for name in NAMES]


def measure(name: str) -> dict[str, Any]:
    """Fit once; the test loss of the ensemble with both averages."""
    from windvane import AutoClassifier

    split = load_split(name)
    rows = np.random.default_rng(SEED).permutation(len(split.y_train))[:MAX_ROWS]
    model = AutoClassifier(SECONDS, metric="log_loss", n_jobs=1, random_state=SEED, verbose=0)
    predictor = model.fit(split.X_train.iloc[rows].reset_index(drop=True), split.y_train[rows]).predictor_
    table = predictor.table(split.X_test)
    found: dict[str, Any] = {"table": name, "train": len(rows), "test": len(split.y_test)}
    for way, roots in (("mean", False), ("roots", True)):
        one = replace(predictor, ensemble=replace(predictor.ensemble, averages_roots=roots))
        found[way] = log_loss(split.y_test, one.predict_raw(table), labels=predictor.classes)
    return found | {"temperature": predictor.ensemble.temperature}


def table() -> None:
    """Print the change of the test log loss by roots, by the size of the tables."""
    print_head(
        "| training rows | tables | change, % | median | lower by 0.1 % | higher by 0.1 % | largest loss, gain, % |"
    )
    rows = RESULTS.rows()
    for words, some in (
        (f"fewer than {MIN_ROWS}", [row for row in rows if row["train"] < MIN_ROWS]),
        (f"{MIN_ROWS} and more", [row for row in rows if row["train"] >= MIN_ROWS]),
    ):
        change = np.array([100 * ((row["roots"] + FLOOR) / (row["mean"] + FLOOR) - 1) for row in some])
        print(
            f"| {words} | {len(some)} | {change.mean():+.1f} ± {change.std(ddof=1) / len(some) ** 0.5:.1f} "
            f"| {np.median(change):+.2f} | {(change < -0.1).sum()} | {(change > 0.1).sum()} "
            f"| {change.max():+.1f}, {change.min():+.1f} |"
        )


main = make_main(__doc__, {"run": lambda: RESULTS.fill(plan(), measure), "table": table})


if __name__ == "__main__":
    main()
