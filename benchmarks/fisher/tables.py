"""The tables of `replication.py`, from its runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks.fisher.runs import METHODS, lower
from benchmarks.markdown import table_lines
from windvane.curvature import ExplosionAlarm, FisherRecord
from windvane.pages.texts import counted

Record = dict[str, Any]
Records = list[Record]
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
POOR_GAP = 0.02  # a run is poor if its test accuracy is this far below the best of its batch size, or farther


def tables(finished: Callable[[str], Records], rate: float | None) -> str:
    """Return the tables of all groups that have runs, as Markdown; `rate` is the best learning rate."""
    parts = [rates(finished("rates")), alphas(finished("alphas"))]
    if rate is not None:
        parts += [row(finished("row"), rate), long(finished("long"), rate), noise(finished("noise"), rate)]
        parts.append(when(finished("when"), finished("row"), rate))
        parts.append(equal_time(finished("equal_time"), finished("row"), rate))
    parts.append(alarm(finished("alarm")))
    if rate is not None:
        parts.append(hessian(finished("hessian"), rate))
        low = {"plain, low rate": select(finished("hessian"), "plain", lower(rate, 1))}
        parts.append(chosen("FP and the gradient by the input (GP_x), in float32", finished("input"), low))
        parts.append(chosen("With flips and shifts, in float32", finished("augmented"), {}))
        of_row = [run for run in finished("row") if run["run"]["mode"] == "finite_difference"]
        small = {"batch 128 in bfloat16, plain": select(of_row, "plain", rate)}
        parts.append(chosen("Batches of 1,280, in float32", finished("large"), small))
        fp = [run for run in finished("input") if run["run"]["method"] == "FP"]
        best = max((run["valid"], run["run"]["alpha"]) for run in fp)[1] if fp else math.nan
        tenth = {"FP, every 10 steps": [run for run in fp if run["run"]["alpha"] == best]}
        parts.append(chosen("FP at every step, in float32", finished("interval"), low | tenth))
    return "\n\n".join("\n".join(part) for part in parts if part)


def spread(runs: Records, value: Callable[[Record], float], scale: float = 100.0) -> str:
    """Write mean and standard deviation over seeds."""
    values = [scale * value(run) for run in runs]
    error = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{error}" if values else "-"


def test_accuracy(runs: Records) -> str:
    """Write test accuracy in %."""
    return spread(runs, lambda run: run["test"])


def section(title: str, runs: Records, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return the lines of a heading, of the epochs, images and seeds, and of a table; none without runs."""
    if not runs:
        return []
    epochs = sorted({len(run["history"]) for run in runs})
    length = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    n_images, seeds = max(run["run"]["images"] for run in runs), {run["run"]["seed"] for run in runs}
    sizes = f"{length} epochs, {n_images:,} images, {counted(len(seeds), 'seed')}."
    return [f"## {title}", "", sizes, "", *table_lines(columns, rows)]


def select(runs: Records, method: str, rate: float) -> Records:
    """Return the runs of a method at a learning rate."""
    return [run for run in runs if run["run"]["method"] == method and math.isclose(run["run"]["rate"], rate)]


def rates(runs: Records) -> list[str]:
    """Which rate is best."""
    rows = [
        (f"{run['run']['rate']:g}", f"{100 * run['valid']:.2f}", f"{100 * run['test']:.2f}", *_traces(run))
        for run in sorted(runs, key=lambda run: run["run"]["rate"])
    ]
    return section("Rates", runs, ("rate", "validation %", "test %", "early Tr(F)", "peak Tr(F)"), rows)


def alphas(runs: Records) -> list[str]:
    """Which alpha is best for each method."""
    rows = [
        (run["run"]["method"], f"{run['run']['alpha']:g}", f"{100 * run['valid']:.2f}", *_traces(run))
        for run in sorted(runs, key=lambda run: (run["run"]["method"], run["run"]["alpha"]))
    ]
    columns = ("method", "alpha", "validation %", "early Tr(F)", "peak Tr(F)")
    return section("Alphas at the low rate, a third of the best", runs, columns, rows)


def row(runs: Records, rate: float) -> list[str]:
    """The paper's row, and the rank correlation of early traces with flatness and accuracy at the end."""
    exact = [run for run in runs if run["run"]["mode"] == "double_backward"]
    runs = [run for run in runs if run not in exact]
    settings = {name: select(runs, name if name in METHODS else "plain", lower(rate, 1)) for name in PAPER}
    settings["best rate"] = select(runs, "plain", rate)
    settings |= {"FP by double backward": exact, "a tenth": select(runs, "plain", lower(rate, 2))}
    rows, n_seeds = [], max(map(len, settings.values()))
    for name, group in settings.items():
        shown = f"{name} (1 seed)" if len(group) == 1 < n_seeds else name
        rows.append((shown, *_cells(group), *PAPER.get(name, ("-", "-"))))
    lines = section("SimpleCNN on CIFAR-10 without augmentation", runs, (*COLUMNS, *IN_PAPER), rows)
    lines += against_best(settings)
    known = [run for run in runs if math.isfinite(run["early_trace"]) and run["hessian"] is not None]
    if len(known) > 2:
        early = [run["early_trace"] for run in known]
        flatness, accuracy = [run["hessian"][0] for run in known], [run["test"] for run in known]
        lines += [
            "",
            f"Rank correlation of early Tr(F) over these {len(known)} runs: "
            f"{spearmanr(early, flatness).statistic:.2f} with Tr(H) at the end, "
            f"{spearmanr(early, accuracy).statistic:.2f} with test accuracy.",
        ]
    return lines


def long(runs: Records, rate: float) -> list[str]:
    """The runs of many epochs, at the paper's tenth of the best rate."""
    settings = {"best rate": select(runs, "plain", rate), "a tenth": select(runs, "plain", lower(rate, 2))}
    penalized = select(runs, "FP", lower(rate, 2))
    for alpha in sorted({run["run"]["alpha"] for run in penalized}):
        settings[f"FP, alpha {alpha:g}"] = [run for run in penalized if run["run"]["alpha"] == alpha]
    lines = section("The same for longer", runs, COLUMNS, [(name, *_cells(group)) for name, group in settings.items()])
    return lines + against_best(settings)


def against_best(settings: dict[str, Records]) -> list[str]:
    """Compare means over seeds with those of the best rate: a difference of accuracies, ratios of traces."""
    if not all(settings.values()):
        return []
    means = {
        name: [float(np.mean([run[key] for run in group])) for key in ("test", "early_trace", "peak_trace")]
        for name, group in settings.items()
    }
    test_of_best, *traces_of_best = means.pop("best rate")
    rows = []
    for name, (accuracy, *traces) in means.items():
        ratios = [f"{one / other:.2f}" for one, other in zip(traces, traces_of_best, strict=True)]
        rows.append([name, f"{100 * (accuracy - test_of_best):+.2f}", *ratios])
    columns = ("against the best rate", "test, points", "early Tr(F), times", "peak Tr(F), times")
    return ["", *table_lines(columns, rows)]


def noise(runs: Records, rate: float) -> list[str]:
    """What wrong labels do."""
    settings = {"best rate": select(runs, "plain", rate), "low rate": select(runs, "plain", lower(rate, 1))}
    settings |= {method: select(runs, method, lower(rate, 1)) for method in ("FP", "Mixup", "SAM")}
    rows = []
    for name, group in settings.items():
        best = spread(group, lambda run: run["best_epoch_test"])
        clean, noisy = _fit(group, "clean"), _fit(group, "noisy")
        rows.append((name, test_accuracy(group), best, clean, noisy))
    columns = ("setting", "test % at the end", "at the best validation epoch", "fit of right labels %", "of wrong ones")
    return section("25 % wrong labels", runs, columns, rows)


def when(runs: Records, of_row: Records, rate: float) -> list[str]:
    """Whether it matters when the penalty acts."""
    of_row = [run for run in of_row if run["run"]["mode"] == "finite_difference"]
    settings = {"never": select(of_row, "plain", lower(rate, 1)), "always": select(of_row, "FP", lower(rate, 1))}
    for first, last in sorted({_penalty_epochs(run) for run in runs}):
        name = f"from {first} on" if last == math.inf else f"until {last:g}"
        settings[name] = [run for run in runs if _penalty_epochs(run) == (first, last)]
    rows = [(name, test_accuracy(group), len(group)) for name, group in settings.items()]
    return section("When the penalty (FP) acts", runs, ("epochs", "test %", "seeds"), rows)


def equal_time(runs: Records, of_row: Records, rate: float) -> list[str]:
    """Methods within the same processor time, which is that of the plain runs of the row."""
    settings = {"plain, best rate": select(of_row, "plain", rate), "plain": select(of_row, "plain", lower(rate, 1))}
    settings |= {method: select(runs, method, lower(rate, 1)) for method in ("FP", "GP", "SAM", "GNP")}
    settings |= {f"{method}, best rate": select(runs, method, rate) for method in ("FP", "SAM")}
    rows = []
    for method, group in settings.items():
        seconds = spread(group, lambda run: run["seconds"], 1)
        epochs = spread(group, lambda run: len(run["history"]), 1)
        rows.append((method, test_accuracy(group), seconds, epochs))
    title = "Equal processor time, at the low rate where none is named"
    return section(title, runs, ("method", "test %", "seconds", "epochs"), rows)


def alarm(runs: Records) -> list[str]:
    """How often the alarm warns of runs that end well, and of those that end poorly, and how early."""
    if not runs:
        return []
    best: dict[int, Record] = {}  # by batch size
    for run in sorted(runs, key=lambda run: run["test"], reverse=True):
        best.setdefault(run["run"]["batch"], run)
    slow = [run for run in runs if run["run"]["rate"] <= best[run["run"]["batch"]]["run"]["rate"]]
    rows = [
        (scope, compared, f"{factor:g}", *_alarm_cells(chosen, best, references, factor))
        for scope, chosen in (("all", runs), ("up to the best rate", slow))
        for compared, references in (("itself after epoch 1", {}), ("the best of its batch size", best))
        for factor in FACTORS
    ]
    of_alarms = ("false alarms on good runs", "poor runs told of", "run left then", "AUC")
    n_rates, n_batches = (len({run["run"][field] for run in runs}) for field in ("rate", "batch"))
    title = f"The alarm in the first half of {n_rates} rates x {n_batches} batch sizes"
    return section(title, runs, ("runs", "compared to", "factor", *of_alarms), rows)


def agreement(history: Sequence[Mapping[str, Any]]) -> float:
    """Return the rank correlation of Tr(F) and Tr(H) over the epochs of a run."""
    known = [row for row in history if "hessian" in row]
    return float(spearmanr([row["fisher"][0] for row in known], [row["hessian"][0] for row in known]).statistic)


def hessian(runs: Records, rate: float) -> list[str]:
    """How well Tr(F) and Tr(H) of the same images agree along the training."""
    settings = {"best rate": select(runs, "plain", rate), "low rate": select(runs, "plain", lower(rate, 1))}
    rows = []
    for name, group in settings.items():
        ratios = [row["hessian"][0] / row["fisher"][0] for run in group for row in run["history"] if row.get("hessian")]
        ratio = f"{np.median(ratios):.2f}" if ratios else "-"
        rows.append((name, test_accuracy(group), spread(group, lambda run: agreement(run["history"]), 1), ratio))
    columns = ("setting", "test %", "rank correlation", "Tr(H) / Tr(F), median")
    return section("Tr(F) and Tr(H) along the training, in float32", runs, columns, rows)


def chosen(title: str, runs: Records, beside: Mapping[str, Records]) -> list[str]:
    """All settings of a group, from which the first seed chose those that have more, and the runs they compare to."""
    settings = dict(beside)
    for run in sorted(runs, key=lambda run: (run["run"]["method"] != "plain", run["run"]["rate"], run["run"]["alpha"])):
        weight = f", alpha {run['run']['alpha']:g}" if run["run"]["alpha"] else ""
        settings.setdefault(f"{run['run']['method']}, rate {run['run']['rate']:g}{weight}", []).append(run)
    rows = [
        (name, len(group), spread(group, lambda run: run["valid"]), *_cells(group)) for name, group in settings.items()
    ]
    return section(title, runs, ("setting", "seeds", "validation %", *COLUMNS[1:]), rows)


def _alarm_cells(
    runs: Records, best: Mapping[int, Record], references: Mapping[int, Record], factor: float
) -> list[str]:
    """Count alarms on good and on poor runs; a run that the others are compared to does not count."""
    alarms: dict[bool, list[bool]] = {True: [], False: []}  # of good and of poor runs, whether there was an alarm
    left, ratios = [], []
    for run in runs:
        batch = run["run"]["batch"]
        if run is references.get(batch):
            continue
        is_good = run["test"] > best[batch]["test"] - POOR_GAP
        watch = _alarm_of(run, factor, references.get(batch))
        alarms[is_good].append(bool(watch.alarms_))
        ratios.append((not is_good, watch.max_ratio_))
        if watch.alarms_ and not is_good:
            left.append(1 - watch.alarms_[0].step / _steps(run))
    early = f"{100 * float(np.median(left)):.0f} %" if left else "-"
    return [*(f"{sum(raised)} of {len(raised)}" for raised in alarms.values()), early, _auc(ratios)]


def _auc(ratios: Sequence[tuple[bool, float]]) -> str:
    """Write how well the largest ratio ranks poor runs above good ones; runs without a finite trace rank highest."""
    is_poor, highest = [poor for poor, _ in ratios], [ratio for _, ratio in ratios]
    if len(set(is_poor)) < 2:
        return "-"
    return f"{roc_auc_score(is_poor, np.nan_to_num(highest, nan=1e9, posinf=1e9)):.2f}"


def _cells(runs: Records) -> list[str]:
    peak = spread(runs, lambda run: run["peak_trace"] / 128, 1)
    hessian = spread([run for run in runs if run["hessian"] is not None], lambda run: run["hessian"][0], 1)
    return [test_accuracy(runs), _fit(runs, "clean"), _early(runs), peak, hessian]


def _fit(runs: Records, group: str) -> str:
    return spread(runs, lambda run: run["train_fit"][group])


def _early(runs: Records) -> str:
    known = [run for run in runs if math.isfinite(run["early_trace"])]
    return spread(known, lambda run: run["early_trace"], 1)


def _traces(run: Record) -> list[str]:
    return [_early([run]), f"{run['peak_trace']:.2f}"]


def _penalty_epochs(run: Record) -> tuple[int, float]:
    last = run["run"]["last"]
    return run["run"]["first"], math.inf if last is None else last


def _steps(run: Record) -> int:
    steps: int = math.ceil(run["run"]["images"] / run["run"]["batch"]) * run["run"]["epochs"]
    return steps


def _alarm_of(run: Record, factor: float, reference: Record | None) -> ExplosionAlarm:
    """Return an alarm that has checked the first half of a run, in which the learning rate is constant."""
    first_epoch, half = _steps(run) // run["run"]["epochs"], _steps(run) // 2
    known = None if reference is None else _records(reference)
    watch = ExplosionAlarm(first_epoch, warn=factor, strong=factor, reference=known, until_step=half, quiet=True)
    for record in _records(run):
        watch.update(record)
    return watch


def _records(run: Record) -> list[FisherRecord]:
    """Return the records of a run; the training loss of the epoch stands for the entropy of the predictions."""
    batch, steps = run["run"]["batch"], _steps(run) / run["run"]["epochs"]
    middles = [(row["epoch"] - 0.5) * steps for row in run["history"]]
    losses = np.interp([step for step, _ in run["records"]], middles, [row["loss"] for row in run["history"]])
    return [
        FisherRecord(step, trace, math.nan, "nothing", {}, batch, 1, entropy=float(loss))
        for (step, trace), loss in zip(run["records"], losses, strict=True)
    ]
