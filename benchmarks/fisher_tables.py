"""The tables of `fisher_replication.py`, from the files of its runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fisher_pictures import draw
from fisher_runs import METHODS
from scipy.stats import spearmanr

from windvane.curvature import ExplosionAlarm, FisherRecord

Found = list[dict[str, Any]]
PAPER = {"best rate": 76.94, "a tenth": 71.32, "FP": 79.66, "GP_r": 79.76, "GP": 75.73}
FACTORS = (1.5, 2.0, 3.0, 4.0)  # of the alarm
MISS = 0.02  # of test accuracy below the best of the same batch size, from which a run is a poor one


def tables(finished: Callable[[str], Found], choice: Any, folder: Path) -> None:
    """Print every table that there are runs for, and draw the pictures."""
    rates(finished("rates"))
    alphas(finished("alphas"))
    if choice is not None:
        row(finished("row"), choice.rate)
        noise(finished("noise"), choice.rate)
        when(finished("when"), finished("row"), choice.rate)
        equal_time(finished("equal_time"))
    alarm(finished("alarm"))
    print("\n".join(str(path) for path in draw(finished, folder)))


def spread(found: Found, value: Callable[[dict[str, Any]], float], scale: float = 100.0) -> str:
    """Write mean and standard deviation over seeds."""
    values = [scale * value(one) for one in found]
    error = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{error}" if values else "-"


def test(found: Found) -> str:
    """Write test accuracy in %."""
    return spread(found, lambda one: one["test"])


def heading(title: str, found: Found, columns: Sequence[str]) -> None:
    """Name epochs, images and seeds above a table."""
    epochs = sorted({len(one["history"]) for one in found})
    images = sorted({one["run"]["images"] for one in found})
    seeds = sorted({one["run"]["seed"] for one in found})
    said = [
        f"{' to '.join(map(str, sorted({epochs[0], epochs[-1]})))} epochs",
        f"{images[-1]:,} images",
        f"{len(seeds)} seed(s)",
    ]
    print(f"\n{title}: {', '.join(said)}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")


def line(*cells: object) -> None:
    """Print a row."""
    print(f"| {' | '.join(map(str, cells))} |")


def rates(found: Found) -> None:
    """Print which rate is best."""
    if not found:
        return
    heading("Rates", found, ("rate", "validation %", "test %", "early Tr(F)", "peak Tr(F)"))
    for one in sorted(found, key=lambda one: one["run"]["rate"]):
        traces = (f"{one[name]:.2f}" for name in ("early_trace", "peak_trace"))
        line(f"{one['run']['rate']:g}", f"{100 * one['valid']:.2f}", f"{100 * one['test']:.2f}", *traces)


def alphas(found: Found) -> None:
    """Print which alpha is best for each method."""
    if not found:
        return
    heading("Alphas at a tenth of the best rate", found, ("method", "alpha", "validation %", "peak Tr(F)"))
    for one in sorted(found, key=lambda one: (one["run"]["method"], one["run"]["alpha"])):
        line(one["run"]["method"], f"{one['run']['alpha']:g}", f"{100 * one['valid']:.2f}", f"{one['peak_trace']:.2f}")


def row(found: Found, rate: float) -> None:
    """Print the paper's row, and whether early traces go with flatness and accuracy in the end."""
    if not found:
        return
    columns = ("setting", "test %", "train %", "early Tr(F)", "peak Tr(F)", "Tr(H) at the end", "paper, test %")
    heading("SimpleCNN on CIFAR-10 without augmentation", found, columns)
    for name, paper in PAPER.items():
        method = name if name in METHODS else "plain"
        wanted = rate if name == "best rate" else rate / 10
        mine = [one for one in found if one["run"]["method"] == method and math.isclose(one["run"]["rate"], wanted)]
        traces = [spread(mine, lambda one, part=part: one[part], 1.0) for part in ("early_trace", "peak_trace")]  # type: ignore[misc]
        flat = spread(mine, lambda one: one["hessian"][0], 1.0)
        line(name, test(mine), spread(mine, lambda one: one["train_fit"]["clean"]), *traces, flat, paper)
    early = [one["early_trace"] for one in found]
    for what, values in (
        ("Tr(H)", [one["hessian"][0] for one in found]),
        ("test accuracy", [one["test"] for one in found]),
    ):
        print(
            f"\nRank correlation of early Tr(F) and {what}, {len(found)} runs: {spearmanr(early, values).statistic:.2f}"
        )


def noise(found: Found, rate: float) -> None:
    """Print what wrong labels do."""
    if not found:
        return
    columns = ("setting", "test % at the end", "at the best validation epoch", "fit of clean labels %", "of wrong ones")
    heading("25 % wrong labels", found, columns)
    for name, method, wanted in (
        ("a tenth", "plain", rate / 10),
        ("best rate", "plain", rate),
        ("FP", "FP", rate / 10),
        ("Mixup", "Mixup", rate / 10),
    ):
        mine = [one for one in found if one["run"]["method"] == method and math.isclose(one["run"]["rate"], wanted)]
        fits = [spread(mine, lambda one, part=part: one["train_fit"][part]) for part in ("clean", "noisy")]  # type: ignore[misc]
        line(name, test(mine), spread(mine, lambda one: one["best_epoch_test"]), *fits)


def when(found: Found, of_row: Found, rate: float) -> None:
    """Print whether it matters when the penalty acts."""
    if not found:
        return
    heading("When the penalty (FP) acts", found, ("epochs", "test %"))
    line(
        "never",
        test([o for o in of_row if o["run"]["method"] == "plain" and math.isclose(o["run"]["rate"], rate / 10)]),
    )
    line("always", test([one for one in of_row if one["run"]["method"] == "FP"]))
    for first, last in sorted({(o["run"]["first"], o["run"]["last"] or math.inf) for o in found}):
        mine = [o for o in found if (o["run"]["first"], o["run"]["last"] or math.inf) == (first, last)]
        line(f"from {first}" if last == math.inf else f"until {last}", test(mine))


def equal_time(found: Found) -> None:
    """Print what methods reach within the same processor time."""
    if not found:
        return
    heading("Equal processor time", found, ("method", "test %", "seconds", "epochs"))
    for method in ("plain", "FP", "GP", "SAM", "GNP"):
        mine = [one for one in found if one["run"]["method"] == method]
        line(
            method,
            test(mine),
            spread(mine, lambda one: one["seconds"], 1.0),
            spread(mine, lambda one: len(one["history"]), 1.0),
        )


def alarm(found: Found) -> None:
    """Print how often the alarm tells of runs that end well, and of those that end poorly."""
    if not found:
        return
    columns = ("factor", "compared to", "false alarms on good runs", "poor runs told of")
    heading("The alarm, rates x batch sizes", found, columns)
    best = {
        batch: max(_of_batch(found, batch), key=lambda one: one["test"]) for batch in {o["run"]["batch"] for o in found}
    }
    for reference in (False, True):
        for factor in FACTORS:
            told = {True: [0, 0], False: [0, 0]}
            for one in found:
                good_run = best[one["run"]["batch"]]
                if reference and one is good_run:
                    continue
                good = one["test"] > good_run["test"] - MISS
                told[good][0] += _tells(one, factor, good_run if reference else None)
                told[good][1] += 1
            counts = [f"{told[good][0]} of {told[good][1]}" for good in (True, False)]
            line(
                f"{factor:g}",
                "the best run of its batch size" if reference else "itself after the first epoch",
                *counts,
            )


def _of_batch(found: Found, batch: int) -> Found:
    return [one for one in found if one["run"]["batch"] == batch]


def _tells(one: dict[str, Any], factor: float, reference: dict[str, Any] | None) -> bool:
    """Whether the alarm tells of a run."""
    watch = ExplosionAlarm(
        math.ceil(one["run"]["images"] / one["run"]["batch"]),
        warn=factor,
        strong=math.nextafter(factor, math.inf),
        reference=None if reference is None else _records(reference),
    )
    for record in _records(one):
        watch.update(record)
    return bool(watch.alarms_)


def _records(one: dict[str, Any]) -> list[FisherRecord]:
    return [
        FisherRecord(step, trace, math.nan, "nothing", {}, one["run"]["batch"], 1) for step, trace in one["records"]
    ]
