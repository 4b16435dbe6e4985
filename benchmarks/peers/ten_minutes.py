"""windvane in ten minutes and in one, against AutoGluon best_quality in ten, on eight tables.

Claim: after 600 s windvane is ahead of AutoGluon on more than half of the tables, and no worse than after 60 s.
Protocol: as `compare.py` (one 75/25 split, random state 0), but each system has a separate core and they run side by
    side, so that what else the machine does slows both alike. The tables are a random draw of three with two classes,
    three with more and two with numbers, among those of `compare.py` of at least 1,000 rows without texts.
Hardware: 2 cores, no GPU, one for each system. Repeats: 1.

    python -m benchmarks.peers.compare setup --systems autogluon
    python -m benchmarks.peers.ten_minutes run      # three hours on one core, 90 minutes on two; resumes
    python -m benchmarks.peers.ten_minutes table
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import pandas as pd

from benchmarks.command_line import make_main
from benchmarks.peers.compare import CACHE, SPLIT_SEED, TEST_SHARE, Job, run_job
from benchmarks.peers.report import duels_table, in_units, losses_table, markdown
from benchmarks.result_table import results_of

TABLES = (
    *("rotterdam_recur", "isolet_1560", "birth_weight", "churn_modelling", "nonvoters", "saratoga_houses"),
    *("mammography", "fishing_mode"),
)
RUNS = {"windvane": (60, 600), "autogluon": (600,)}  # budgets in seconds
RESULTS = results_of(
    __file__, ("system", "table", "seed", "budget"), {"jobs": 1, "split_seed": SPLIT_SEED, "test_share": TEST_SHARE}
)


def plan() -> list[tuple[Any, ...]]:
    return [tuple(job) for system in RUNS for job in jobs_of(system)]


def jobs_of(system: str) -> list[Job]:
    return [Job(system, table, 0, budget) for table, budget in product(TABLES, RUNS[system])]


def run_on(core: int, jobs: Sequence[Job]) -> None:
    """Run what is missing of the jobs one after the other on a core."""
    os.sched_setaffinity(0, {core})  # of this thread, and of the programs that it starts
    for job in jobs:
        if RESULTS.find(*job) is None:
            result = run_job(job, jobs=1)
            RESULTS.put(result)
            print(*job, result["loss"], result.get("fit_s"), *result.get("error", "").splitlines()[-1:], flush=True)


def run() -> None:
    """Run both systems side by side."""
    CACHE.mkdir(parents=True, exist_ok=True)
    # Otherwise AutoGluon's workers would yield to other programs, and windvane's would not.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112, ray's own spelling
    cores = sorted(os.sched_getaffinity(0))
    with ThreadPoolExecutor(len(RUNS)) as threads:
        for _ in threads.map(run_on, cores, map(jobs_of, RUNS)):
            pass


def table() -> None:
    """Print losses, wins and losses, and seconds."""
    found = RESULTS.frame()
    found["run"] = found["system"] + ", " + found["budget"].astype(str) + " s"
    losses = found.pivot(index="table", columns="run", values="loss").fillna(float("inf"))
    losses = losses[["windvane, 60 s", "windvane, 600 s", "autogluon, 600 s"]]
    metrics: pd.Series = found.groupby("table")["metric"].first()
    print(losses_table(losses, metrics))
    print(duels_table(in_units(losses, metrics), "windvane, 600 s"))
    fits = found.groupby("run", sort=False)["fit_s"].agg(["median", "max"])
    print(
        markdown(
            ["run", "fit median, s", "fit max, s"], [[str(n), *(f"{s:.1f}" for s in r)] for n, r in fits.iterrows()]
        )
    )


main = make_main(__doc__, {"run": run, "table": table})

if __name__ == "__main__":
    main()
