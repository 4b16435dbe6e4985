"""How much disk a run takes, and what `compact` leaves of it.

Claim: docs/guide/faq.md.
Hardware: 2 cores. On a busy machine a run trains less, so the CPU seconds inside the models are written beside it.
"overlapping" is made by scikit-learn's `make_classification` in the shape of letter recognition (12,000 x 16, 26
classes), with classes that overlap: forests then have large trees, whose leaves hold several classes.
Commands:
    python -m benchmarks.engine.footprint run
    python -m benchmarks.engine.footprint table
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from sklearn.datasets import make_classification

from benchmarks.command_line import make_main
from benchmarks.data import read_table
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from windvane import AutoClassifier

TABLES = ("pendigits", "overlapping")
SECONDS = 60.0
RESULTS = results_of(__file__, ("table",), {"seconds": SECONDS})


def plan() -> list[tuple[Any, ...]]:
    return [(name,) for name in TABLES]


def measure(name: str) -> dict[str, Any]:
    """Fit one run, and take the bytes of its folder before and after `compact`."""
    if name == "overlapping":
        X, y = make_classification(
            12_000, 16, n_informative=12, n_classes=26, n_clusters_per_class=2, class_sep=1.5, random_state=0
        )
    else:
        X, y, _ = read_table(name)
    with tempfile.TemporaryDirectory() as folder:
        model = AutoClassifier(SECONDS, random_state=0, verbose=0, run_dir=Path(folder) / "run").fit(X, y)
        before, after = model.compact()
        return {
            "table": name,
            "rows": len(X),
            "trials": len(model.trials_),
            "cpu_seconds": sum(trial.cpu_seconds for trial in model.trials_),
            "megabytes": before / 1e6,
            "compact.megabytes": after / 1e6,
        }


def table() -> None:
    """Print the sizes."""
    print_head("| table | rows | trials | CPU s | MB | MB after compact |")
    for row in RESULTS.frame().to_dict("records"):
        print(
            f"| {row['table']} | {row['rows']:,} | {row['trials']} | {row['cpu_seconds']:.0f} | {row['megabytes']:.0f} "
            f"| {row['compact.megabytes']:.0f} |"
        )


main = make_main(__doc__, {"run": lambda: RESULTS.fill(plan(), measure), "table": table})


if __name__ == "__main__":
    main()
