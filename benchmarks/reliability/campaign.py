"""Faults, mutated files and odd tables: does windvane keep its promises?

Claim: no wrong answer, no lost trial, no raw traceback, no hang, no budget overrun, see docs/findings/reliability.md.
Hardware: Linux; power cuts and full disks need the right to mount. Each case is a function of its kind and seed.
Commands:
    python -m benchmarks.reliability.campaign run                    # cases without a result; all faults: 40 min
    python -m benchmarks.reliability.campaign run --kinds worker power --minutes 10
    python -m benchmarks.reliability.campaign again --kinds mutated_file    # those that failed
    python -m benchmarks.reliability.campaign table
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.command_line import make_parser
from benchmarks.markdown import print_head
from benchmarks.reliability.cases import BROKEN, Case, Unavailable, evaluate
from benchmarks.reliability.cluster import disturb_cluster
from benchmarks.reliability.faults import cut_power, disturb_main, disturb_worker, fill_disk
from benchmarks.reliability.mutated_files import mutate_file
from benchmarks.reliability.odd_tables import fit_odd_table
from benchmarks.result_table import ResultTable, results_of

SAY_SECONDS = 60.0  # between lines on the time left
RESULTS = results_of(__file__, ("kind", "seed"))


@dataclass(frozen=True)
class Kind:
    """Cases of one kind."""

    case: Case
    count: int
    limit: float  # seconds after which a case hangs
    seconds: float  # that a case takes on a machine without other work
    words: str


KINDS = {
    "mutated_file": Kind(mutate_file, 1000, 120, 0.2, "a file of a model, export or run is changed, cut or swapped"),
    "odd_table": Kind(fit_odd_table, 200, 120, 2, "a table of odd types, names, sizes, gaps and targets"),
    "worker": Kind(disturb_worker, 180, 120, 3, "a worker gets SIGKILL, SIGTERM, SIGINT, SIGSEGV or SIGSTOP"),
    "main": Kind(disturb_main, 60, 180, 12, "the fitting process gets SIGKILL, SIGTERM, SIGINT or SIGSTOP"),
    "disk": Kind(fill_disk, 80, 120, 8, "the disk is too small, fills up, or takes no large file"),
    "power": Kind(cut_power, 180, 180, 2, "the power fails: what an ext4 disk holds at that instant"),
    "cluster": Kind(disturb_cluster, 12, 240, 36, "a Dask worker or scheduler is frozen or killed"),
}


def plan() -> list[tuple[str, int]]:
    """Return the cases; any beginning of the list holds a share of every kind."""
    cases = [(kind, seed) for kind, one in KINDS.items() for seed in range(one.count)]
    return sorted(cases, key=lambda case: case[1] / KINDS[case[0]].count)


def run(results: ResultTable, kinds: Sequence[str], minutes: float = float("inf"), *, again: bool = False) -> None:
    """Run cases that have no result yet, or those that broke a promise, for some minutes."""
    end = time.monotonic() + 60 * minutes
    done = {results.key_of(row): row["outcome"] for row in results.rows()}
    left = [
        (kind, seed)
        for kind, seed in plan()
        if kind in kinds and (done.get((kind, seed)) in BROKEN if again else (kind, seed) not in done)
    ]
    cannot: set[str] = set()
    took: dict[str, list[float]] = {kind: [] for kind in KINDS}
    said = time.monotonic()
    for i, (kind, seed) in enumerate(left):
        if kind in cannot:
            continue
        if time.monotonic() > end:
            break
        if time.monotonic() - said > SAY_SECONDS or i == 0:
            said = time.monotonic()
            rest = seconds_left([kind for kind, _ in left[i:] if kind not in cannot], took)
            print(f"{i} of {len(left)} cases done, about {rest / 60:.0f} min left", flush=True)
        folder = Path(tempfile.mkdtemp(prefix="windvane-case-"))
        try:
            found = evaluate(KINDS[kind].case, seed, folder, KINDS[kind].limit)
        except Unavailable as error:
            cannot.add(kind)
            print(f"{kind}: cannot be run here: {error}", flush=True)
            continue
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        took[kind].append(found["seconds"])
        results.put({"kind": kind, "seed": seed, **found, "load": round(os.getloadavg()[0], 1)})
        if found["outcome"] in BROKEN:
            print(f"{kind} {seed}: {found['outcome']}: {found['message']}", flush=True)


def seconds_left(kinds: Sequence[str], took: Mapping[str, Sequence[float]]) -> float:
    """Estimate how long cases of these kinds take, by those that this machine has run."""
    rates = {kind: (one.seconds + sum(took[kind])) / (1 + len(took[kind])) for kind, one in KINDS.items()}
    return sum(rates[kind] for kind in kinds)


def table() -> None:
    """Print the results as markdown, one row for each kind."""
    rows = RESULTS.frame()
    print_head("| kind | what happens | cases | answered | refused | " + " | ".join(BROKEN) + " |")
    for kind, one in KINDS.items():
        outcomes = rows.loc[rows["kind"] == kind, "outcome"].value_counts()
        counts = [int(outcomes.sum()), *(int(outcomes.get(name, 0)) for name in ("ok", "refused", *BROKEN))]
        print(f"| {kind.replace('_', ' ')} | {one.words} | " + " | ".join(map(str, counts)) + " |")
    outcomes = rows["outcome"].value_counts()
    counts = [len(rows), *(int(outcomes.get(name, 0)) for name in ("ok", "refused", *BROKEN))]
    print("| all | | " + " | ".join(map(str, counts)) + " |")


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "again", "table")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--minutes", type=float, default=float("inf"))
    given = parser.parse_args(words)
    if given.command == "table":
        table()
    else:
        run(RESULTS, given.kinds, given.minutes, again=given.command == "again")


if __name__ == "__main__":
    main()
