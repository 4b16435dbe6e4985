"""A search over images on a machine that has too much to do: does it return within its budget, and with what?

Claim: `fit` returns within the time budget and 5 % (at least 2 s) from a minute on, however busy the machine is, see
docs/decisions.md. Hardware: 2 cores.
Each run is a separate process beside `--busy` processes that do nothing but compute, started and ended here, and its
priority is lowered by `--nice`. Every row has the load when it began and the CPU seconds that its main process got. The
runs "before" are those of a checkout without the limits on each step.

    python -m benchmarks.reliability.starved_images run --sets trash flowers --budgets 30 60 75 --busy 8 --nice 19
    python -m benchmarks.reliability.starved_images table
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product

import pandas as pd

from benchmarks.command_line import make_parser
from benchmarks.data import IMAGES
from benchmarks.markdown import print_head
from benchmarks.result_table import Row, results_of
from windvane import AutoImageClassifier

N_IMAGES = 1_000  # of the training images, drawn at random
RESULTS = results_of(__file__, ("set", "budget", "version"), {"n_images": N_IMAGES})
VERSIONS = ("before", "after")  # of windvane: without and with limits on every step before the first trial
BUDGETS = (30.0, 60.0, 75.0)


def plan() -> list[tuple[str, float, str]]:
    return list(product(("flowers", "trash"), BUDGETS, ("after",)))


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep processes beside the block that do nothing but compute."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def fit(name: str, budget: float) -> None:
    """Search with the defaults in this process, and print the result as JSON."""
    table = pd.read_parquet(IMAGES / f"{name}.parquet")
    train = table[table["split"] == "train"]
    train = train.sample(min(N_IMAGES, len(train)), random_state=0)
    model = AutoImageClassifier(budget, random_state=0, verbose=0, n_jobs=2)
    started = time.monotonic()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model.fit(train[["image", "label", "name"]])
    seconds = time.monotonic() - started
    predictor = model.predictor_
    assert predictor.images is not None
    facts = {
        "seconds": seconds,
        "cpu_seconds": time.process_time(),
        "first_model": min(trial.ended for trial in model.trials_ if trial.usable),
        "images": predictor.task.n_rows,
        "views": [f"{view.weights} {view.size}" for view in predictor.images.views],
        "members": [f"{member.family} {member.weight:.2f}" for member in predictor.ensemble.members],
        "warnings": [str(one.message) for one in said],
    }
    print(json.dumps(facts))


def measure(name: str, budget: float, version: str, *, busy: int, nice: int) -> Row:
    """Run `fit` in a separate process beside busy ones."""
    load = os.getloadavg()[0]
    command = [sys.executable, "-m", "benchmarks.reliability.starved_images", "fit", "--sets", name]
    with busy_processes(busy):
        words = ["nice", "-n", str(nice), *command, "--budgets", str(budget)]
        output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    facts = json.loads(output.splitlines()[-1])
    return {"set": name, "budget": budget, "version": version, "busy": busy, "nice": nice, "load": load, **facts}


def table() -> None:
    """Print a row a set and budget."""
    rows = {RESULTS.key_of(row): row for row in RESULTS.rows()}
    print_head(
        "| set | budget | took before | took after | first model after | images and features after | CPU seconds |"
    )
    for name, budget in sorted({key[:2] for key in rows}):
        before, after = (rows.get((name, budget, version)) for version in VERSIONS)
        took = [f"{row['seconds']:.0f}" if row else "-" for row in (before, after)]
        more = ["-"] * 3
        if after:
            features = " and ".join(after["views"])
            more = [f"{after['first_model']:.0f}", f"{after['images']:,}, {features}", f"{after['cpu_seconds']:.0f}"]
        print(f"| {name} | {budget:.0f} | {' | '.join([*took, *more])} |")


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "fit", "table")
    parser.add_argument("--sets", nargs="+", default=["trash"])
    parser.add_argument("--budgets", nargs="+", type=float, default=BUDGETS)
    parser.add_argument("--version", choices=VERSIONS, default="after")
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--nice", type=int, default=10)
    given = parser.parse_args(words)
    if given.command == "fit":
        fit(given.sets[0], given.budgets[0])
    elif given.command == "run":
        runs = product(given.sets, given.budgets, (given.version,))
        RESULTS.fill(runs, partial(measure, busy=given.busy, nice=given.nice))
    else:
        table()


if __name__ == "__main__":
    main()
