"""The paper's row for SimpleCNN on CIFAR-10 without augmentation, and its findings on the Fisher trace.

Claim: with a learning rate well below the best one, the Fisher trace rises higher early on and test accuracy is lower;
the Fisher Penalty lowers the trace and restores the accuracy (Jastrzebski et al., arXiv 2012.14193, table 1: best rate
76.9, a tenth 71.3, FP 79.7, GP_r 79.8, GP 75.7 with 50,000 images and 300 epochs).
Recipe: SGD, momentum 0.9, batch 128, rate x0.1 after 80 % and 90 % of the epochs, no weight decay, no augmentation;
10,000 training images (2,000 others choose rates and alphas, nothing else), 40 epochs, three seeds. Rates and alphas
are chosen by whole runs of one seed (in a quarter of the epochs the lowest alpha is always best).
The low rate is a third of the best: 40 epochs at a tenth do not fit the training images, and a penalty has nothing to
win then. `long` is four times as long, at the tenth of the paper.
The groups from `hessian` on have half of the images and compute all in float32, and are compared with each other;
`large` has all images. In these groups the rate, then alpha are chosen by the validation images of seed 0 among the
first runs, and the other seeds follow. GP_x is computed every 10 steps, as FP; for a batch of 1280 FP is computed at
every step on 128 of the images, as in the paper.
Training and evaluation of the other groups compute products in bfloat16, which halves the time where the processor has
instructions for it (elsewhere it takes ten times as long); the Hessian is computed in float32. The
penalty's gradient in bfloat16 has a cosine of 0.98 to 1.00 with that in float32 at the same labels.
Hardware: one thread of a CPU for each run; `plan` says how long. Times are of the processor, so that neighbours hardly
count. Repeats: 3 seeds; `SEEDS_SO_FAR` of groups that are not complete.
Resumable: each run is a line of runs.jsonl, with its history; what exists is not run again, and several of these
programs may work at once.

    python -m benchmarks.fisher.replication plan               what is done, what is left, how long it takes
    python -m benchmarks.fisher.replication time               seconds of an epoch, by method
    python -m benchmarks.fisher.replication run rates          choose the best rate
    python -m benchmarks.fisher.replication run alphas         choose alpha of all penalties at the low rate
    python -m benchmarks.fisher.replication run row            the paper's row: 5 settings x 3 seeds, 2 with one
    python -m benchmarks.fisher.replication run long           160 epochs: best rate, a tenth, FP there
    python -m benchmarks.fisher.replication run noise          25 % wrong labels: plain, FP, Mixup, SAM
    python -m benchmarks.fisher.replication run when           FP early, late, from epoch 1, 2, 4 ... on
    python -m benchmarks.fisher.replication run equal_time     FP, GP, SAM, GNP within the same processor time
    python -m benchmarks.fisher.replication run alarm          a grid of rates and batch sizes, for the alarm
    python -m benchmarks.fisher.replication run hessian        Tr(H) beside Tr(F) every second epoch, at two rates
    python -m benchmarks.fisher.replication run input          GP_x beside FP at the low rate
    python -m benchmarks.fisher.replication run augmented      plain and FP with flipped and shifted images
    python -m benchmarks.fisher.replication run large          plain and FP with batches of ten times the size
    python -m benchmarks.fisher.replication run interval       FP computed at every step
    python -m benchmarks.fisher.replication run all            all of these, in this order
    python -m benchmarks.fisher.replication run all --seeds 1  the same with one seed only, as a first pass
    python -m benchmarks.fisher.replication table              all tables
    python -m benchmarks.fisher.replication pictures           draws the pictures of docs/findings/fisher.md
"""

from __future__ import annotations

import fcntl
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.command_line import make_parser
from benchmarks.data import ROOT
from benchmarks.fisher.pictures import draw
from benchmarks.fisher.runs import (
    EARLY_LOSS,
    FALLS,
    GRID,
    HESSIAN_IMAGES,
    HESSIAN_PROBES,
    METHODS,
    PENALIZED,
    STANDARD,
    VALID,
    Run,
    Trainer,
    lower,
)
from benchmarks.fisher.tables import tables
from benchmarks.markdown import print_head
from benchmarks.result_table import ResultTable, nest

RESULTS = ResultTable(
    Path(__file__).with_name("runs.jsonl"),
    tuple(f"run.{one.name}" for one in fields(Run)),
    {"valid": VALID, "falls": FALLS, "early_loss": EARLY_LOSS}
    | {"hessian_images": HESSIAN_IMAGES, "hessian_probes": HESSIAN_PROBES},
)
CLAIMS = ROOT / "build" / "fisher_replication"
PICTURES = ROOT / "docs" / "findings"
EXACT_GROUPS = ("hessian", "input", "augmented", "large", "interval")  # in float32
GROUPS = ("rates", "alphas", "row", "long", "noise", "when", "equal_time", "alarm", *EXACT_GROUPS)
RATES = GRID[3:]
ALPHAS = {  # weights of the penalties; the radius of SAM; the share of GNP
    **dict.fromkeys(METHODS, (0.001, 0.00316, 0.01)),
    "SAM": (0.05, 0.1, 0.2),
    "GNP": (0.5, 0.8),
}
LONG_ALPHAS = (0.01,)
BEYOND = 3.162  # factor to one more weight of a penalty, where the first or the last one is the best
LONGER = 4  # times the epochs, for the runs at a tenth of the best rate
ONSETS = (1, 2, 4, 8, 16)  # epochs from which the penalty acts
COSTS = {"plain": 1.0, "Mixup": 1.0, "FP": 1.22, "GP_r": 1.22, "GP": 1.22}
COSTS |= {"GP_x": 1.22, "SAM": 2.0, "GNP": 2.0}  # of a plain step
FLOAT32 = 6.4  # times the cost of a step in bfloat16, on a processor without instructions for that
HESSIAN_STEPS = 75  # plain steps in the time of Tr(H)
NEAR_ALPHAS = (0.00316, 0.01, 0.0316)  # of FP, around the best one at the low rate
SMALL_ALPHAS = (0.00316, 0.01)  # of FP on half of the images
INPUT_ALPHAS = (10.0, 100.0, 1000.0)  # of GP_x, as in the paper
PART = 2  # of the images, one in so many, in float32
SEEDS = 3
SEEDS_SO_FAR = {"hessian": 1, "input": 1, "augmented": 0, "large": 0, "interval": 0}  # of groups that are not complete
SECONDS = 0.42e-3  # for an image in a plain run, until a run has measured it


@dataclass(frozen=True)
class Choice:
    """The best rate and the best alpha of each method, by the validation images of one seed."""

    rate: float
    alphas: Mapping[str, float]


def finished(group: str) -> list[dict[str, Any]]:
    """Return the finished runs of a group."""
    return [nest(row) for row in RESULTS.rows() if row["run.group"] == group]


def is_done(run: Run) -> bool:
    """Whether a run has a result."""
    return record_of(run) is not None


def best(group: str, method: str) -> dict[str, Any] | None:
    """Return the run of a group and method with the best validation accuracy."""
    records = [record for record in finished(group) if record["run"]["method"] == method]
    return max(records, key=lambda record: record["valid"])["run"] if records else None


def choice() -> Choice | None:
    """Return the best rate and alphas; None before all rates have run, and no alphas before all of those have."""
    rate = best("rates", "plain")
    if rate is None or len(finished("rates")) < len(RATES):
        return None
    alphas = {}
    for method, values in ALPHAS.items():
        accuracies = accuracy_by_alpha(method)
        if not {*values, *more_alphas(method)} <= accuracies.keys():
            return Choice(rate["rate"], {})
        alphas[method] = max(accuracies, key=accuracies.__getitem__)
    return Choice(rate["rate"], alphas)


def accuracy_by_alpha(method: str) -> dict[float, float]:
    """Return the validation accuracy of each alpha of a method that has run."""
    records = [record for record in finished("alphas") if record["run"]["method"] == method]
    return {record["run"]["alpha"]: record["valid"] for record in records}


@dataclass(frozen=True)
class Stages:
    """A group that chooses by seed 0 the rate of plain runs, then the alpha of a penalty, and then runs more seeds."""

    setting: Mapping[str, Any]  # fields of all its runs
    penalty: Mapping[str, Any]  # fields of the penalized runs
    # Of the plain runs, as steps above the best one; without any, only the low rate is penalized.
    rates: tuple[int, ...] = ()
    alphas: tuple[float, ...] = NEAR_ALPHAS


STAGES = {
    "input": Stages({}, {"method": "GP_x"}, alphas=INPUT_ALPHAS),
    "augmented": Stages({"augmented": True}, {"method": "FP"}, (-1, 0, 1)),
    "large": Stages({"batch": 1280}, {"method": "FP", "every": 1}, (0, 1, 2)),
    "interval": Stages({}, {"method": "FP", "every": 1}),
}


def planned(group: str, base: Run, chosen: Choice | None, seeds: int, *, guess: bool = False) -> Iterator[Run]:
    """Yield the runs of a group whose rates and alphas are chosen, the first seed of all settings first.

    With `guess`, what a group has yet to choose is its first candidate.
    """
    base = replace(base, group=group)
    if group == "rates":
        yield from (replace(base, rate=rate) for rate in RATES)
    elif chosen is None:
        return
    elif group in EXACT_GROUPS:
        images = base.images if group == "large" else base.images // PART
        yield from _in_float32(group, replace(base, images=images, precision="float32"), chosen, seeds, guess)
    elif group == "alphas":
        low = replace(base, rate=lower(chosen.rate, 1))
        for method, values in ALPHAS.items():
            one = replace(low if method in METHODS else with_time_limit(low), method=method)
            yield from (replace(one, alpha=alpha) for alpha in (*values, *more_alphas(method)))
    elif group == "alarm":
        near = [lower(chosen.rate, by) for by in (2, 1, 0, -1)]
        yield from (replace(base, rate=rate, batch=batch) for batch in (128, 512, 32) for rate in near)
    elif group == "long":
        longer = replace(base, epochs=LONGER * base.epochs)
        tenth = replace(longer, rate=lower(chosen.rate, 2))
        settings = [replace(tenth, method="FP", alpha=alpha) for alpha in LONG_ALPHAS]
        settings += [tenth, replace(longer, rate=chosen.rate)]
        yield from (replace(one, seed=seed) for seed in range(seeds) for one in settings)
    elif chosen.alphas:
        settings = _settings(group, base, chosen)
        yield from (replace(one, seed=seed) for seed in range(seeds) for one in settings)
        if group == "row":  # two more, with one seed
            low = replace(base, rate=lower(chosen.rate, 1), method="FP", alpha=chosen.alphas["FP"])
            yield from (replace(low, mode="double_backward"), replace(base, rate=lower(chosen.rate, 2)))


def _in_float32(group: str, base: Run, chosen: Choice, seeds: int, guess: bool) -> Iterator[Run]:
    """Yield the runs of a group in float32."""
    plain, low = (replace(base, rate=lower(chosen.rate, by)) for by in (0, 1))
    if group == "hessian":
        settings = [replace(one, hessian_every=2) for one in (plain, low)]
        yield from (replace(one, seed=seed) for seed in range(seeds) for one in settings)
        return
    if group == "input":  # FP beside it; the plain runs are those of `hessian`
        yield from _with_best_alpha(replace(low, method="FP"), SMALL_ALPHAS, seeds, guess)
    stages = STAGES[group]
    start, settings = replace(low, **stages.setting), []
    if stages.rates:
        places = [GRID.index(chosen.rate) + by for by in stages.rates]
        candidates = [replace(start, rate=GRID[place]) for place in places if place < len(GRID)]
        yield from candidates
        settings = [one for one in (best_of(candidates, guess),) if one is not None]
        if not settings:
            return
        start = settings[0]
    yield from _with_best_alpha(replace(start, **stages.penalty), stages.alphas, seeds, guess, settings)


def _with_best_alpha(
    start: Run, alphas: Sequence[float], seeds: int, guess: bool, beside: Sequence[Run] = ()
) -> Iterator[Run]:
    """Yield a penalized run with each alpha, then the other seeds of the best one and of the runs beside it."""
    found = {alpha: record["valid"] for alpha in alphas if (record := record_of(replace(start, alpha=alpha)))}
    candidates = [replace(start, alpha=alpha) for alpha in sorted({*alphas, *beyond(alphas, found)})]
    yield from candidates
    if (top := best_of(candidates, guess)) is not None:
        yield from (replace(one, seed=seed) for seed in range(1, seeds) for one in (*beside, top))


def record_of(run: Run) -> dict[str, Any] | None:
    """Return the result of a run, if it is there."""
    return RESULTS.find(*asdict(run).values())


def best_of(runs: Sequence[Run], guess: bool) -> Run | None:
    """Return the run with the best validation accuracy; before all have run the first one, or without `guess` None."""
    found = [record["valid"] for run in runs if (record := record_of(run)) is not None]
    if len(found) < len(runs):
        return runs[0] if guess else None
    return runs[found.index(max(found))]


def more_alphas(method: str) -> list[float]:
    """Return one more weight of a penalty, if all have run and the first or the last one is the best."""
    return beyond(ALPHAS[method], accuracy_by_alpha(method)) if method in METHODS else []


def beyond(alphas: Sequence[float], found: Mapping[float, float]) -> list[float]:
    """Return one more weight, if all have an accuracy and that of the first or the last one is the best."""
    if not set(alphas) <= set(found):
        return []
    top = max(alphas, key=lambda alpha: found[alpha])
    more = {alphas[0]: alphas[0] / BEYOND, alphas[-1]: alphas[-1] * BEYOND}
    return [round(more[top], 4)] if top in more else []


def _settings(group: str, base: Run, chosen: Choice) -> list[Run]:
    """Return the settings of a group that are run with several seeds."""
    plain, low = (replace(base, rate=lower(chosen.rate, by)) for by in (0, 1))
    others = {method: replace(low, method=method, alpha=alpha) for method, alpha in chosen.alphas.items()}
    fp = others["FP"]
    if group == "row":
        return [plain, low, *(others[method] for method in METHODS)]
    if group == "noise":
        settings = [low, replace(low, method="Mixup"), plain, fp, others["SAM"]]
        return [replace(one, noise=0.25) for one in settings]
    if group == "when":
        early = base.epochs // 4
        onsets = [replace(fp, first=epoch) for epoch in ONSETS if epoch < base.epochs]
        return [replace(fp, last=early), replace(fp, first=early), *onsets]
    # Equal time; plain runs are those of the row.
    limited = {method: with_time_limit(others[method]) for method in ("SAM", "GNP", "FP", "GP")}
    return [*limited.values(), *(replace(limited[method], rate=plain.rate) for method in ("SAM", "FP"))]


def with_time_limit(run: Run) -> Run:
    """Limit the processor time of a run to that of finished runs of equal time, else of complete plain runs."""
    known = [one["run"]["seconds"] for group in ("alphas", "equal_time") for one in finished(group)]
    plain = [one["seconds"] for one in finished("rates") if len(one["history"]) == one["run"]["epochs"]]
    fallback = round(float(np.median(plain)), 1) if plain else math.nan
    seconds = next((seconds for seconds in known if seconds is not None), fallback)
    return replace(run, seconds=seconds, epochs=10 * run.epochs)


def record_of_another_group(run: Run) -> dict[str, Any] | None:
    """Return the record of the same run in another group, under the group of this one."""
    for row in RESULTS.rows():
        if RESULTS.key_of(row)[1:] == tuple(asdict(run).values())[1:]:
            return nest(row | {"run.group": run.group})
    return None


@contextmanager
def claimed(run: Run) -> Iterator[bool]:
    """Claim a run for this process; yields False if another living process has it."""
    CLAIMS.mkdir(parents=True, exist_ok=True)
    with (CLAIMS / run.name).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
        except BlockingIOError:
            yield False
        else:
            yield True


def run_group(group: str, base: Run, seeds: int, deadline: float) -> None:
    """Run the unfinished runs of a group that end before a deadline on the monotonic clock."""
    if not list(planned(group, base, choice(), seeds)):
        raise SystemExit(f"{group} needs what is chosen by 'run rates' and 'run alphas'.")
    # Planned again after each run, as results add runs to the plan.
    while any(_run_if_free(run, deadline) for run in planned(group, base, choice(), seeds)):
        pass


def _run_if_free(run: Run, deadline: float) -> bool:
    """Run what is not done or claimed by another process and ends before the deadline; return whether it ran."""
    if is_done(run) or time.monotonic() + estimate(run) > deadline:
        return False
    with claimed(run) as is_mine:
        if not is_mine or is_done(run):
            return False
        record = record_of_another_group(run) or Trainer(run)()
        RESULTS.put(record)
    scores = f"test {100 * record['test']:.2f}, peak Tr(F) {record['peak_trace']:.2f}, {record['seconds']:.0f} s"
    print(f"{run.name}: {scores}", flush=True)
    return True


def estimate(run: Run) -> float:
    """Estimate the seconds of a run from those of finished ones."""
    if record_of_another_group(run):
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
    measured = HESSIAN_STEPS * run.batch / run.hessian_every if run.hessian_every else 0
    return 1.1 * for_image * cost(run) * run.epochs * (run.images + measured)


def cost(run: Run) -> float:
    """Return the cost of a step, of a plain one in bfloat16."""
    # A penalty is computed on some of the examples, in some of the steps.
    share = 10 / run.every * min(PENALIZED / run.batch, 1) if run.method in (*METHODS, "GP_x") else 1
    return (1 + (COSTS[run.method] - 1) * share) * (FLOAT32 if run.precision == "float32" else 1)


def plan() -> list[tuple[Any, ...]]:
    """The runs that have results: those of all seeds, or of the first ones of a group that is not complete."""
    base, chosen = Run("", epochs=STANDARD["epochs"], images=STANDARD["images"]), choice()
    seeds = {group: SEEDS_SO_FAR.get(group, SEEDS) for group in GROUPS}
    runs = [run for group in GROUPS if seeds[group] for run in planned(group, base, chosen, seeds[group])]
    return [tuple(asdict(run).values()) for run in runs]


def print_plan(base: Run, seeds: int) -> None:
    """Print how many runs of each group are done, and how long the others take."""
    chosen = choice() or Choice(0.1, {})
    chosen = replace(chosen, alphas=chosen.alphas or dict.fromkeys(ALPHAS, 0.1))
    print_head("| group | done | left | minutes on one thread |")
    for group in GROUPS:
        runs = list(planned(group, base, chosen, seeds, guess=True))
        left = [run for run in runs if not is_done(run)]
        print(f"| {group} | {len(runs) - len(left)} | {len(left)} | {sum(map(estimate, left)) / 60:.0f} |")


def print_times(base: Run) -> None:
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


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "plan", "time", "run", "table", "pictures")
    parser.add_argument("group", nargs="?", choices=(*GROUPS, "all"))
    parser.add_argument("--epochs", type=int, default=STANDARD["epochs"])
    parser.add_argument("--images", type=int, default=STANDARD["images"])
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run that would end later")
    arguments = parser.parse_args(words)
    base = Run("", epochs=arguments.epochs, images=arguments.images)
    if arguments.command == "table":
        print(tables(finished, (best("rates", "plain") or {}).get("rate")))
    elif arguments.command == "pictures":
        print("\n\n".join(f"![{caption}]({path.name})" for path, caption in draw(finished, PICTURES).items()))
    elif arguments.command == "plan":
        print_plan(base, arguments.seeds)
    elif arguments.command == "time":
        print_times(base)
    elif arguments.group is None:
        parser.error("run needs a group")
    else:
        deadline = time.monotonic() + 60 * arguments.minutes
        for group in GROUPS if arguments.group == "all" else (arguments.group,):
            run_group(group, base, arguments.seeds, deadline)


if __name__ == "__main__":
    main()
