"""The paper's row for SimpleCNN on CIFAR-10 without augmentation, and what it says of the Fisher trace.

Claim: with the learning rate at a tenth of the best one, the Fisher trace rises higher early on and test accuracy is
lower; the Fisher Penalty lowers the one and gains back the other (Jastrzebski et al., arXiv 2012.14193, table 1: best
rate 76.9, a tenth 71.3, FP 79.7, GP_r 79.8, GP 75.7 with 50,000 images and 300 epochs).
Recipe: SGD, momentum 0.9, batch 128, rate x0.1 after half and three quarters of the epochs, no weight decay, no
augmentation; 10,000 training images (2,000 others choose rates and alphas, nothing else), 40 epochs, three seeds. Rates
are chosen by short runs of one seed, alphas by whole ones (in a quarter of the epochs the lowest alpha is always best).
Training computes products in bfloat16, which halves the time; judging, and the Hessian, in float32. The penalty's
gradient in bfloat16 has a cosine of 0.98 to 1.00 with that in float32 at the same labels.
Hardware: one thread of a CPU for each run; `plan` says how long. Times are of the processor, so that neighbours hardly
count. Repeats: 3 seeds.
Resumable: each run is a JSON of its own in results/curvature/runs, with its history; what exists is not run again, and
several of these programs may work at once.

    python benchmarks/fisher_replication.py plan               what is done, what is left, how long it takes
    python benchmarks/fisher_replication.py time               seconds of an epoch, by method
    python benchmarks/fisher_replication.py run rates          choose the best rate
    python benchmarks/fisher_replication.py run alphas         choose alpha of all penalties at a tenth of it
    python benchmarks/fisher_replication.py run row            the paper's row: 6 settings x 3 seeds
    python benchmarks/fisher_replication.py run noise          25 % wrong labels: plain, FP, Mixup
    python benchmarks/fisher_replication.py run when           FP early, late; with one seed from epoch 1, 2, 4 ... on
    python benchmarks/fisher_replication.py run equal_time     FP, GP, SAM, GNP within the same processor time
    python benchmarks/fisher_replication.py run alarm          a grid of rates and batch sizes, for the alarm
    python benchmarks/fisher_replication.py run all            all of these, in this order
    python benchmarks/fisher_replication.py table              all tables, and the pictures
    python benchmarks/fisher_replication.py docs               the same in docs/fisher.md
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from curvature_nets import RESULTS
from fisher_pictures import draw
from fisher_runs import METHODS, STANDARD, Run, Trainer
from fisher_tables import tables

RUNS = RESULTS / "runs"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "fisher.md"
GROUPS = ("rates", "alphas", "row", "noise", "when", "equal_time", "alarm")
RATES = (0.01, 0.0316, 0.1, 0.3162, 1.0)
ALPHAS = {  # weights of the penalties; the radius of SAM; the share of GNP
    **dict.fromkeys(METHODS, (0.01, 0.0316, 0.1)),
    "SAM": (0.05, 0.1, 0.2),
    "GNP": (0.5, 0.8),
}
BEYOND = 3.162  # where the first or last weight of a penalty is the best, one more is tried
ONSETS = (1, 2, 4, 8, 16)  # epochs from which the penalty acts
SHORT = 0.25  # of the epochs, for the runs that choose a rate and the grid of the alarm
COSTS = {"plain": 1.0, "Mixup": 1.0, "FP": 1.22, "GP_r": 1.22, "GP": 1.22, "SAM": 2.0, "GNP": 2.0}  # of a plain step
SECONDS = 0.95e-3  # for an image in a plain run, where no run says it


@dataclass(frozen=True)
class Choice:
    """The best rate and the best alpha of each method, by the validation images of short runs."""

    rate: float
    alphas: Mapping[str, float]


def finished(group: str) -> list[dict[str, Any]]:
    """Read the runs of a group that are done."""
    return [json.loads(path.read_text()) for path in sorted(RUNS.glob(f"group={group}-*.json"))]


def best(group: str, method: str) -> dict[str, Any] | None:
    """Find what did best on the validation part in a group."""
    found = [one for one in finished(group) if one["run"]["method"] == method]
    return max(found, key=lambda one: one["valid"])["run"] if found else None


def choice() -> Choice | None:
    """Read what the short runs chose; None where they are not done."""
    rate, alphas = best("rates", "plain"), {method: best("alphas", method) for method in ALPHAS}
    if rate is None or any(one is None for one in alphas.values()):
        return None
    return Choice(rate["rate"], {method: one["alpha"] for method, one in alphas.items() if one is not None})


def planned(group: str, base: Run, chosen: Choice) -> Iterator[Run]:
    """List the runs of a group, the first seed of all settings first."""
    base = replace(base, group=group)
    short = replace(base, epochs=max(1, round(SHORT * base.epochs)))
    if group == "rates":
        yield from (replace(short, rate=rate) for rate in RATES)
    elif group == "alphas":
        rate = chosen.rate / 10
        for method, values in ALPHAS.items():
            tried = replace(base if method in METHODS else within(limit(base), base), rate=rate, method=method)
            yield from (replace(tried, alpha=alpha) for alpha in values)
            yield from (replace(tried, alpha=alpha) for alpha in beyond(method))
    elif group == "alarm":
        yield from (replace(short, rate=r, batch=b) for b in (128, 32, 512) for r in RATES)
    else:
        settings = _settings(group, base, chosen)
        yield from (replace(one, seed=seed) for seed in range(3) for one in settings)
        if group == "when":
            fp = replace(base, rate=chosen.rate / 10, method="FP", alpha=chosen.alphas["FP"])
            yield from (replace(fp, first=epoch) for epoch in ONSETS if epoch < base.epochs)


def beyond(method: str) -> list[float]:
    """One more weight of a penalty, where all were tried and the best stands at an end."""
    values = ALPHAS[method]
    tried = {one["run"]["alpha"]: one["valid"] for one in finished("alphas") if one["run"]["method"] == method}
    if method not in METHODS or not set(values) <= set(tried):
        return []
    top = max(values, key=lambda alpha: tried[alpha])
    more = {values[0]: values[0] / BEYOND, values[-1]: values[-1] * BEYOND}
    return [round(more[top], 4)] if top in more else []


def _settings(group: str, base: Run, chosen: Choice) -> list[Run]:
    """List what is run with several seeds."""
    plain, low = replace(base, rate=chosen.rate), replace(base, rate=chosen.rate / 10)
    others = {method: replace(low, method=method, alpha=alpha) for method, alpha in chosen.alphas.items()}
    if group == "row":
        exact = replace(others["FP"], mode="double_backward")
        return [plain, low, *(others[method] for method in METHODS), exact]
    if group == "noise":
        settings = [low, replace(low, method="Mixup"), plain, others["FP"]]
        return [replace(one, noise=0.25) for one in settings]
    if group == "when":
        early = base.epochs // 4
        return [replace(others["FP"], last=early), replace(others["FP"], first=early)]
    settings = [others[method] for method in ("SAM", "GNP", "FP", "GP")]  # plain runs are those of the row
    return [within(limit(base), one) for one in settings]


def limit(base: Run) -> float:
    """Seconds for runs of equal time: of those that there are, else of plain runs."""
    known = [one["run"]["seconds"] for group in ("alphas", "equal_time") for one in finished(group)]
    plain = [one["seconds"] for one in finished("row") if one["run"]["method"] == "plain"]
    fallback = round(float(np.median(plain)), 1) if plain else SECONDS * base.images * base.epochs
    return next((seconds for seconds in known if seconds is not None), fallback)


def within(seconds: float, run: Run) -> Run:
    """Let a run end by the clock of the processor."""
    return replace(run, seconds=seconds, epochs=10 * run.epochs)


def twin(run: Run) -> dict[str, Any] | None:
    """Find the same run in another group."""
    for path in sorted(RUNS.glob(f"group=*{run.name.partition('-')[2]}.json")):
        record: dict[str, Any] = json.loads(path.read_text())
        return record | {"run": record["run"] | {"group": run.group}}
    return None


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Keep a run for this program; False where another one that lives has it."""
    claim = path.with_suffix(".claim")
    try:
        claim.open("x").write(str(os.getpid()))
    except FileExistsError:
        if _lives(claim.read_text()):
            yield False
            return
        claim.write_text(str(os.getpid()))
    try:
        yield True
    finally:
        claim.unlink(missing_ok=True)


def _lives(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    return True


def run_group(group: str, base: Run, deadline: float) -> None:
    """Run what of a group is not done yet and ends before a deadline on the monotonic clock."""
    RUNS.mkdir(parents=True, exist_ok=True)
    chosen = choice()
    rate = best("rates", "plain")
    if chosen is None and group not in ("rates", "alarm") and (group != "alphas" or rate is None):
        raise SystemExit(f"{group} needs what is chosen by 'run rates' and 'run alphas'.")
    for run in planned(group, base, chosen or Choice(rate["rate"] if rate else math.nan, {})):
        path = RUNS / f"{run.name}.json"
        if time.monotonic() + estimate(run) > deadline:
            continue
        with claimed(path) as mine:
            if not mine or path.exists():
                continue
            record = twin(run) or Trainer(run)()
            part = path.with_suffix(".part")
            part.write_text(json.dumps(record))
            part.replace(path)
        print(
            f"{run.name}: test {100 * record['test']:.2f}, peak Tr(F) {record['peak_trace']:.2f}, "
            f"{record['seconds']:.0f} s",
            flush=True,
        )


def estimate(run: Run) -> float:
    """Seconds of a run, by those that are done."""
    if twin(run):
        return 0.0
    if run.seconds is not None:
        return 1.1 * run.seconds
    seconds = [
        one["seconds"] / (len(one["history"]) * one["run"]["images"] * COSTS[one["run"]["method"]])
        for group in ("rates", "row")
        for one in finished(group)
        if one["run"]["mode"] == "finite_difference"
    ]
    for_image = float(np.median(seconds)) if seconds else SECONDS
    return 1.1 * for_image * COSTS[run.method] * run.epochs * run.images


def plan(base: Run) -> None:
    """Say what is done and how long the rest takes."""
    chosen = choice() or Choice(0.1, dict.fromkeys(ALPHAS, 0.1))
    print("| group | done | left | minutes on one thread |\n|---|---|---|---|")
    for group in GROUPS:
        runs = list(planned(group, base, chosen))
        left = [run for run in runs if not (RUNS / f"{run.name}.json").exists()]
        print(f"| {group} | {len(runs) - len(left)} | {len(left)} | {sum(map(estimate, left)) / 60:.0f} |")


def time_it(base: Run) -> None:
    """Seconds of an epoch by method."""
    for method in COSTS:
        trainer = Trainer(replace(base, method=method, alpha=0.1))
        rows = torch.randperm(base.images).split(base.batch)[:21]
        trainer.one_step(rows[0])
        begin = time.process_time()
        for batch in rows[1:]:
            trainer.step += 1
            trainer.one_step(batch)
        seconds = (time.process_time() - begin) * base.images / (20 * base.batch)
        print(f"{method}: {seconds:.1f} s for an epoch of {base.images} images", flush=True)


def fill_page(text: str) -> None:
    """Write the tables between the marks of the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- replication -->")
    _, _, after = rest.partition("<!-- end of replication -->")
    filled = f"{before}<!-- replication -->\n{text}\n<!-- end of replication -->{after}"
    PAGE.write_text(filled, encoding="utf-8")


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("plan", "time", "run", "table", "docs"))
    parser.add_argument("group", nargs="?", choices=(*GROUPS, "all"))
    parser.add_argument("--epochs", type=int, default=STANDARD["epochs"])
    parser.add_argument("--images", type=int, default=STANDARD["images"])
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run that would end later")
    arguments = parser.parse_args()
    base = Run("", epochs=arguments.epochs, images=arguments.images)
    if arguments.command in ("table", "docs"):
        text = tables(finished, (best("rates", "plain") or {}).get("rate"))
        print(text, *draw(finished, RESULTS), sep="\n")
        if arguments.command == "docs":
            fill_page(text)
    elif arguments.command == "plan":
        plan(base)
    elif arguments.command == "time":
        time_it(base)
    elif arguments.group is None:
        parser.error("run needs a group")
    else:
        deadline = time.monotonic() + 60 * arguments.minutes
        for group in GROUPS if arguments.group == "all" else (arguments.group,):
            run_group(group, base, deadline)


if __name__ == "__main__":
    main()
