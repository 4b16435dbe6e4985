"""Members of an ensemble that are calibrated before they are compared and blended, against members as they are.

Claim: the test log loss falls where it is small already, and does not change elsewhere.
Protocol: the twenty tables of `../shared/data/tables` with three classes and more, 500 to 8,000 rows and no texts, that
    no benchmark of systems uses; a 75/25 split; one search of 30 s with two workers for log loss; both ensembles are
    built from its trials, and only they differ.
Hardware: 2 cores, no GPU. Repeats: 1 split, 1 seed.

    python -m benchmarks.metalearning.member_temperatures run      # 12 minutes; resumes
    python -m benchmarks.metalearning.member_temperatures table
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.command_line import make_main
from benchmarks.data import RESERVED, TABLES
from benchmarks.markdown import print_head
from benchmarks.peers.compare import SPLIT_SEED, load_split
from benchmarks.result_table import Row, results_of

SECONDS, WORKERS, SIZE = 30.0, 2, 25
MIN_ROWS, MAX_ROWS = 500, 8_000
SMALL = 0.12  # a log loss below is that of a table whose classes are nearly always told apart
SAME = 0.002  # relative differences below count as none
RESULTS = results_of(__file__, ("table", "split"), {"seconds": SECONDS, "workers": WORKERS})


def plan() -> list[tuple[Any, ...]]:
    index = pd.read_csv(TABLES / "index.csv")
    fits = (index["task"] == "multiclass") & (index["n_text"] == 0) & index["n_rows"].between(MIN_ROWS, MAX_ROWS)
    return [(name, SPLIT_SEED) for name in sorted(set(index.loc[fits, "name"]) - RESERVED)]


def measure(name: str, split_seed: int) -> Row:
    """Search once, and build both ensembles from the trials."""
    from windvane import AutoClassifier
    from windvane.models import FAMILIES
    from windvane.search.ensemble_selection import EnsembleBuilder
    from windvane.search.problem import Problem
    from windvane.search.run.run_directory import RunDirectory
    from windvane.search.runner import open_ensemble

    class AsTheyAre(EnsembleBuilder):
        _calibrates_members = False

    split = load_split(name, split_seed)
    row: Row = {"table": name, "split": split_seed, "rows": len(split.y_train), "classes": split.n_classes}
    with tempfile.TemporaryDirectory() as folder:
        model = AutoClassifier(
            SECONDS, metric="log_loss", n_jobs=WORKERS, run_dir=folder, random_state=0, verbose=0
        ).fit(split.X_train, split.y_train)
        directory, metric = RunDirectory(Path(folder)), model.predictor_.metric
        problem, table = Problem.read(directory.data, metric), model.predictor_.schema.transform(split.X_test)
        target = np.searchsorted(model.classes_, split.y_test)
        for key, builder in (("as_they_are", AsTheyAre), ("calibrated", EnsembleBuilder)):
            ensemble = builder(problem, directory, SIZE).build(model.trials_, finish=True)
            assert ensemble is not None
            predictor = open_ensemble(directory, ensemble, FAMILIES, metric, threads=1)
            row |= {key: metric.loss(target, predictor.predict_raw(table)), f"{key}_valid": ensemble.loss}
    return row


def run() -> None:
    RESULTS.fill(plan(), measure)


def table() -> None:
    """Print how the test log loss changes, by how small it is."""
    found = RESULTS.frame()
    change = np.log(found["calibrated"].to_numpy() / found["as_they_are"].to_numpy())
    small = (found["as_they_are"] < SMALL).to_numpy()
    print_head(
        "| test log loss of members as they are | tables | lower, higher | change, median | mean, standard error |"
    )
    for words, chosen in (
        (f"below {SMALL}", small),
        (f"{SMALL} and above", ~small),
        ("all", np.full(len(small), True)),
    ):
        part = change[chosen]
        lower, higher = int((part < -SAME).sum()), int((part > SAME).sum())
        error = part.std(ddof=1) / len(part) ** 0.5
        print(
            f"| {words} | {len(part)} | {lower}, {higher} | {100 * np.median(part):.1f}% "
            f"| {100 * part.mean():.1f}% ± {100 * error:.1f} |"
        )


main = make_main(__doc__, {"run": run, "table": table})

if __name__ == "__main__":
    main()
