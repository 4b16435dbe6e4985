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

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pandas as pd

from benchmarks.data import IMAGES
from benchmarks.result_table import ResultTable
from windvane import AutoImageClassifier

N_IMAGES = 1_000  # of the training images, drawn at random
RESULTS = ResultTable(
    Path(__file__).with_name("starved_images.jsonl"), ("set", "budget", "version"), {"n_images": N_IMAGES}
)
VERSIONS = ("before", "after")  # of windvane: without and with limits on every step before the first trial
DONE = (
    ("flowers", 30.0, "after"),
    ("flowers", 60.0, "after"),
    ("flowers", 75.0, "after"),
    ("trash", 30.0, "after"),
    ("trash", 60.0, "after"),
    ("trash", 75.0, "after"),
)


def plan() -> list[tuple[str, float, str]]:
    """Return the runs behind the page."""
    return list(DONE)


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


def run(sets: Sequence[str], budgets: Sequence[float], version: str, busy: int, nice: int) -> None:
    """Search what has no result yet."""
    for name, budget in product(sets, budgets):
        if RESULTS.find(name, budget, version) is not None:
            continue
        load = os.getloadavg()[0]
        command = [sys.executable, "-m", "benchmarks.reliability.starved_images", "fit", "--sets", name]
        with busy_processes(busy):
            words = ["nice", "-n", str(nice), *command, "--budgets", str(budget)]
            output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        facts = json.loads(output.splitlines()[-1])
        row = {"set": name, "budget": budget, "version": version, "busy": busy, "nice": nice, "load": load, **facts}
        RESULTS.put(row)
        print(row, flush=True)


def table() -> None:
    """Print a row a set and budget."""
    rows = {RESULTS.key_of(row): row for row in RESULTS.rows()}
    print("| set | budget | took before | took after | first model after | images and features after | CPU seconds |")
    print("|---|---|---|---|---|---|---|")
    for name, budget in sorted({key[:2] for key in rows}):
        before, after = (rows.get((name, budget, version)) for version in VERSIONS)
        took = [f"{row['seconds']:.0f}" if row else "-" for row in (before, after)]
        more = ["-"] * 3
        if after:
            features = " and ".join(after["views"])
            more = [f"{after['first_model']:.0f}", f"{after['images']:,}, {features}", f"{after['cpu_seconds']:.0f}"]
        print(f"| {name} | {budget:.0f} | {' | '.join([*took, *more])} |")


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "fit", "table"])
    parser.add_argument("--sets", nargs="+", default=["trash"])
    parser.add_argument("--budgets", nargs="+", type=float, default=[30.0, 60.0, 75.0])
    parser.add_argument("--version", choices=VERSIONS, default="after")
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--nice", type=int, default=10)
    given = parser.parse_args(words)
    if given.command == "fit":
        fit(given.sets[0], given.budgets[0])
    elif given.command == "run":
        run(given.sets, given.budgets, given.version, given.busy, given.nice)
    else:
        table()


if __name__ == "__main__":
    main()
