"""The tables of `replication.py`, from its runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks.fisher.runs import METHODS, lower
from benchmarks.markdown import table_lines
from windvane.curvature import ExplosionAlarm, FisherRecord

Found = list[dict[str, Any]]
PAPER = {  # test accuracy, and peak of what it calls Tr(F): ||mean gradient||^2 of 128 examples, so Tr(F) / 128
    "best rate": (76.94, 24.21),
    "low rate": (71.32, 52.05),
    "FP": (79.66, 19.63),
    "GP_r": (79.76, 25.35),
    "GP": (75.73, 25.03),
}
COLUMNS = ("setting", "test %", "train %", "early Tr(F)", "peak Tr(F) / 128", "Tr(H) at the end")
IN_PAPER = ("paper: test %", "its peak")
FACTORS = (2.0, 4.0)  # of the alarm
MISS = 0.02  # of test accuracy below the best of the same batch size, from which a run is a poor one


def tables(finished: Callable[[str], Found], rate: float | None) -> str:
    """Lay out in Markdown what there are runs for."""
    parts = [rates(finished("rates")), alphas(finished("alphas"))]
    if rate is not None:
        parts += [row(finished("row"), rate), long(finished("long"), rate), noise(finished("noise"), rate)]
        parts.append(when(finished("when"), finished("row"), rate))
        parts.append(equal_time(finished("equal_time"), finished("row"), rate))
    return "\n\n".join("\n".join(part) for part in [*parts, alarm(finished("alarm"))] if part)


def spread(found: Found, value: Callable[[dict[str, Any]], float], scale: float = 100.0) -> str:
    """Write mean and standard deviation over seeds."""
    values = [scale * value(one) for one in found]
    error = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{error}" if values else "-"


def test(found: Found) -> str:
    """Write test accuracy in %."""
    return spread(found, lambda one: one["test"])


def laid_out(title: str, found: Found, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Name epochs, images and seeds above a table; nothing where there are no runs."""
    if not found:
        return []
    epochs = sorted({len(one["history"]) for one in found})
    n_images, n_seeds = max(one["run"]["images"] for one in found), len({one["run"]["seed"] for one in found})
    length = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    heading = f"## {title[0].upper()}{title[1:]}"
    said = f"{length} epochs, {n_images:,} images, {n_seeds} seed{'s' if n_seeds > 1 else ''}."
    return [heading, "", said, "", *table_lines(columns, rows)]


def of(found: Found, method: str, rate: float) -> Found:
    """Choose the runs of a method at a rate."""
    return [one for one in found if one["run"]["method"] == method and math.isclose(one["run"]["rate"], rate)]


def rates(found: Found) -> list[str]:
    """Which rate is best."""
    rows = [
        (f"{o['run']['rate']:g}", *(f"{100 * o[k]:.2f}" for k in ("valid", "test")), *_traces([o]))
        for o in sorted(found, key=lambda one: one["run"]["rate"])
    ]
    return laid_out("Rates", found, ("rate", "validation %", "test %", "early Tr(F)", "peak Tr(F)"), rows)


def alphas(found: Found) -> list[str]:
    """Which alpha is best for each method."""
    rows = [
        (o["run"]["method"], f"{o['run']['alpha']:g}", f"{100 * o['valid']:.2f}", *_traces([o]))
        for o in sorted(found, key=lambda one: (one["run"]["method"], one["run"]["alpha"]))
    ]
    columns = ("method", "alpha", "validation %", "early Tr(F)", "peak Tr(F)")
    return laid_out("Alphas at the low rate, a third of the best", found, columns, rows)


def row(found: Found, rate: float) -> list[str]:
    """Lay out the paper's row, and whether early traces go with flatness and accuracy in the end."""
    exact = [one for one in found if one["run"]["mode"] == "double_backward"]
    found = [one for one in found if one not in exact]
    settings = {name: of(found, name if name in METHODS else "plain", lower(rate, 1)) for name in PAPER}
    settings["best rate"] = of(found, "plain", rate)
    settings |= {"FP by double backward": exact, "a tenth": of(found, "plain", lower(rate, 2))}
    rows, n_seeds = [], max(map(len, settings.values()))
    for name, mine in settings.items():
        there, peak_there = PAPER.get(name, ("-", "-"))
        rows.append((f"{name} (1 seed)" if len(mine) == 1 < n_seeds else name, *_cells(mine), there, peak_there))
    lines = laid_out("SimpleCNN on CIFAR-10 without augmentation", found, (*COLUMNS, *IN_PAPER), rows)
    lines += against_best(settings)
    known = [one for one in found if math.isfinite(one["early_trace"]) and one["hessian"] is not None]
    if len(known) > 2:
        early = [one["early_trace"] for one in known]
        ends = {"Tr(H) at the end": [one["hessian"][0] for one in known], "test accuracy": [o["test"] for o in known]}
        said = [f"{spearmanr(early, values).statistic:.2f} with {what}" for what, values in ends.items()]
        lines += ["", f"Rank correlation of early Tr(F) over these {len(known)} runs: {', '.join(said)}."]
    return lines


def long(found: Found, rate: float) -> list[str]:
    """Lay out the runs of many epochs, at the paper's tenth of the best rate."""
    settings = {"best rate": of(found, "plain", rate), "a tenth": of(found, "plain", lower(rate, 2))}
    penalised = of(found, "FP", lower(rate, 2))
    for alpha in sorted({one["run"]["alpha"] for one in penalised}):
        settings[f"FP, alpha {alpha:g}"] = [one for one in penalised if one["run"]["alpha"] == alpha]
    lines = laid_out("The same for longer", found, COLUMNS, [(name, *_cells(mine)) for name, mine in settings.items()])
    return lines + against_best(settings)


def against_best(settings: dict[str, Found]) -> list[str]:
    """Compare means over seeds with those of the best rate: a difference of accuracies, ratios of traces."""
    if not all(settings.values()):
        return []
    means = {
        name: [_mean(mine, key) for key in ("test", "early_trace", "peak_trace")] for name, mine in settings.items()
    }
    test_of_best, *traces_of_best = means.pop("best rate")
    rows = []
    for name, (accuracy, *traces) in means.items():
        ratios = [f"{one / other:.2f}" for one, other in zip(traces, traces_of_best, strict=True)]
        rows.append([name, f"{100 * (accuracy - test_of_best):+.2f}", *ratios])
    columns = ("against the best rate", "test, points", "early Tr(F), times", "peak Tr(F), times")
    return ["", *table_lines(columns, rows)]


def _mean(found: Found, key: str) -> float:
    return float(np.mean([one[key] for one in found]))


def noise(found: Found, rate: float) -> list[str]:
    """Lay out what wrong labels do."""
    settings = [("best rate", "plain", 0), ("low rate", "plain", 1)]
    settings += [(method, method, 1) for method in ("FP", "Mixup", "SAM")]
    rows = []
    for name, method, by in settings:
        mine = of(found, method, lower(rate, by))
        fits = [spread(mine, lambda one, part=part: one["train_fit"][part]) for part in ("clean", "noisy")]  # type: ignore[misc]
        rows.append((name, test(mine), spread(mine, lambda one: one["best_epoch_test"]), *fits))
    columns = ("setting", "test % at the end", "at the best validation epoch", "fit of right labels %", "of wrong ones")
    return laid_out("25 % wrong labels", found, columns, rows)


def when(found: Found, of_row: Found, rate: float) -> list[str]:
    """Whether it matters when the penalty acts."""
    of_row = [one for one in of_row if one["run"]["mode"] == "finite_difference"]
    settings = {"never": of(of_row, "plain", lower(rate, 1)), "always": of(of_row, "FP", lower(rate, 1))}
    for first, last in sorted({_acts(one) for one in found}):
        name = f"from {first} on" if last == math.inf else f"until {last:g}"
        settings[name] = [one for one in found if _acts(one) == (first, last)]
    rows = [(name, test(mine), len(mine)) for name, mine in settings.items()]
    return laid_out("When the penalty (FP) acts", found, ("epochs", "test %", "seeds"), rows)


def equal_time(found: Found, of_row: Found, rate: float) -> list[str]:
    """Methods within the same processor time, which is that of the plain runs of the row."""
    rows = []
    settings = {"plain, best rate": of(of_row, "plain", rate), "plain": of(of_row, "plain", lower(rate, 1))}
    settings |= {method: of(found, method, lower(rate, 1)) for method in ("FP", "GP", "SAM", "GNP")}
    settings |= {f"{method}, best rate": of(found, method, rate) for method in ("FP", "SAM")}
    for method, mine in settings.items():
        spent = (spread(mine, lambda one: one["seconds"], 1.0), spread(mine, lambda one: len(one["history"]), 1.0))
        rows.append((method, test(mine), *spent))
    title = "Equal processor time, at the low rate where none is named"
    return laid_out(title, found, ("method", "test %", "seconds", "epochs"), rows)


def alarm(found: Found) -> list[str]:
    """How often the alarm tells of runs that end well, and of those that end poorly, and how early."""
    if not found:
        return []
    best = {b: max(_of_batch(found, b), key=lambda one: one["test"]) for b in {o["run"]["batch"] for o in found}}
    slow = [one for one in found if one["run"]["rate"] <= best[one["run"]["batch"]]["run"]["rate"]]
    rows = []
    for scope, runs in (("all", found), ("up to the best rate", slow)):
        for compared, leaders in (("itself after epoch 1", {}), ("the best of its batch size", best)):
            for factor in FACTORS:
                rows.append((scope, compared, f"{factor:g}", *_judged(runs, best, leaders, factor)))
    of_alarms = ("false alarms on good runs", "poor runs told of", "run left then", "AUC")
    tried = [len({one["run"][part] for one in found}) for part in ("rate", "batch")]
    title = f"The alarm in the first half of {tried[0]} rates x {tried[1]} batch sizes"
    return laid_out(title, found, ("runs", "compared to", "factor", *of_alarms), rows)


def _judged(
    runs: Found, best: dict[int, dict[str, Any]], leaders: dict[int, dict[str, Any]], factor: float
) -> list[str]:
    """Count alarms on good and on poor runs; a run that the others are compared to does not count."""
    told, left, ratios = {True: [0, 0], False: [0, 0]}, [], []
    for one in runs:
        batch = one["run"]["batch"]
        if one is not leaders.get(batch):
            good = one["test"] > best[batch]["test"] - MISS
            watch = _watched(one, factor, leaders.get(batch))
            told[good][0] += bool(watch.alarms_)
            told[good][1] += 1
            ratios.append((not good, watch.max_ratio_))
            if watch.alarms_ and not good:
                left.append(1 - watch.alarms_[0].step / _steps(one))
    early = f"{100 * float(np.median(left)):.0f} %" if left else "-"
    return [*(f"{told[good][0]} of {told[good][1]}" for good in (True, False)), early, _area(ratios)]


def _area(ratios: Sequence[tuple[bool, float]]) -> str:
    """Say how well the largest ratio ranks poor runs above good ones; a run whose trace is not finite ranks highest."""
    poor, highest = [one for one, _ in ratios], [ratio for _, ratio in ratios]
    if len(set(poor)) < 2:
        return "-"
    return f"{roc_auc_score(poor, np.nan_to_num(highest, nan=1e9, posinf=1e9)):.2f}"


def _cells(found: Found) -> list[str]:
    fit = spread(found, lambda one: one["train_fit"]["clean"])
    peak = spread(found, lambda one: one["peak_trace"] / 128, 1.0)
    flat = [one for one in found if one["hessian"] is not None]
    return [test(found), fit, _early(found), peak, spread(flat, lambda one: one["hessian"][0], 1.0)]


def _early(found: Found) -> str:
    known = [one for one in found if math.isfinite(one["early_trace"])]
    return spread(known, lambda one: one["early_trace"], 1.0)


def _traces(found: Found) -> list[str]:
    return [_early(found), spread(found, lambda one: one["peak_trace"], 1.0)]


def _acts(one: dict[str, Any]) -> tuple[int, float]:
    last = one["run"]["last"]
    return one["run"]["first"], math.inf if last is None else last


def _of_batch(found: Found, batch: int) -> Found:
    return [one for one in found if one["run"]["batch"] == batch]


def _steps(one: dict[str, Any]) -> int:
    steps: int = math.ceil(one["run"]["images"] / one["run"]["batch"]) * one["run"]["epochs"]
    return steps


def _watched(one: dict[str, Any], factor: float, reference: dict[str, Any] | None) -> ExplosionAlarm:
    """Let the alarm look at the first half of a run, in which the rate is constant."""
    first_epoch = _steps(one) // one["run"]["epochs"]
    known = None if reference is None else _records(reference)
    watch = ExplosionAlarm(
        first_epoch, warn=factor, strong=factor, reference=known, until_step=_steps(one) // 2, quiet=True
    )
    for record in _records(one):
        watch.update(record)
    return watch


def _records(one: dict[str, Any]) -> list[FisherRecord]:
    """Give the records of a run; the training loss of the epoch stands for the entropy of the predictions."""
    batch, steps = one["run"]["batch"], _steps(one) / one["run"]["epochs"]
    middles = [(row["epoch"] - 0.5) * steps for row in one["history"]]
    losses = np.interp([step for step, _ in one["records"]], middles, [row["loss"] for row in one["history"]])
    return [
        FisherRecord(step, trace, math.nan, "nothing", {}, batch, 1, entropy=float(loss))
        for (step, trace), loss in zip(one["records"], losses, strict=True)
    ]
