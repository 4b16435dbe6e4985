"""The pictures of `replication.py`, from the histories of its runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from windvane.curvature import FisherRecord, Fit, Memorization, plot_layers, plot_memorization, plot_trace
from windvane.curvature.plots import LINES
from windvane.pages.svg_charts import OKABE_ITO


def records(one: dict[str, Any]) -> list[FisherRecord]:
    """Return means of five neighbouring records, with the standard error as the width of the band."""
    found = []
    for i in range(0, len(one["records"]) - 4, 5):
        steps, traces = zip(*one["records"][i : i + 5], strict=True)
        mean = sum(traces) / 5
        error = math.sqrt(sum((t - mean) ** 2 for t in traces) / 4 / 5)
        found.append(FisherRecord(steps[2], mean, error, "records", {}, one["run"]["batch"], 1))
    return found


def label(run: dict[str, Any]) -> str:
    """Name a run in a legend."""
    return f"{run['method']}, rate {run['rate']:g}" + (f", alpha {run['alpha']:g}" if run["alpha"] else "")


def draw(finished: Callable[[str], list[dict[str, Any]]], folder: Path) -> dict[Path, str]:
    """Draw the groups that have runs, and return the caption of each file."""
    # Tr(F) of the paper's row, by layer, of the long runs, and the fit of wrong labels.
    row = [one for one in finished("row") if one["run"]["seed"] == 0 and one["run"]["mode"] == "finite_difference"]
    drawn: dict[str, tuple[Any, str]] = {}
    if row:
        caption = "Tr(F) over the steps of the paper's row, seed 0; means of five measurements"
        drawn["trace"] = plot_trace({label(one["run"]): records(one) for one in _by_rate(row)}), caption
    if longer := [one for one in finished("long") if one["run"]["seed"] == 0]:
        caption = "Tr(F) over the steps of the longer runs, seed 0"
        drawn["long"] = plot_trace({label(one["run"]): records(one) for one in _by_rate(longer)}), caption
    if grid := finished("alarm"):
        caption = (
            "Tr(F) at equal progress: each line is a run of the alarm's grid, from its second epoch to half its length"
        )
        drawn["progress"] = _progress(grid), caption
    plain = [one for one in row if one["run"]["method"] == "plain"]
    if len(plain) > 1:
        low = sorted(plain, key=lambda one: one["run"]["rate"])[-2]
        drawn["layers"] = plot_layers(_with_layers(low)), f"Tr(F) by layer at the low rate, {low['run']['rate']:g}"
    for one in finished("noise"):
        if one["run"]["seed"] == 0 and one["memorisation"]:
            groups = [Memorization(m["step"], Fit(**m["clean"]), Fit(**m["noisy"])) for m in one["memorisation"]]
            name = f"memorization_{one['run']['method']}_{one['run']['rate']:g}"
            drawn[name] = plot_memorization(groups), f"25 % wrong labels: {label(one['run'])}"
    for name, (figure, _) in drawn.items():
        figure.savefig(folder / f"fisher_{name}.png", dpi=110)
    return {folder / f"fisher_{name}.png": caption for name, (_, caption) in drawn.items()}


def _progress(found: list[dict[str, Any]]) -> Any:
    """Draw Tr(F) over the training loss, a panel for each batch size."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    batches = sorted({one["run"]["batch"] for one in found})
    for axes, batch in zip(figure.subplots(1, len(batches), sharey=True, squeeze=False)[0], batches, strict=True):
        runs = sorted((one for one in found if one["run"]["batch"] == batch), key=lambda one: -one["run"]["rate"])
        for one, color, line in zip(runs, OKABE_ITO, itertools.cycle(LINES), strict=False):
            shown = f"rate {one['run']['rate']:g}: {100 * one['test']:.1f} %"
            axes.plot(*_over_loss(one), color=color, linestyle=line, label=shown)
        axes.set(title=f"batch {batch}", xlabel="training loss", yscale="log", xlim=(2.2, 0.2))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(visible=True, color="0.9")
        axes.legend(frameon=False, title="test accuracy", fontsize="small", title_fontsize="small")
        axes.set_ylabel("Tr(F)" if batch == batches[0] else "")
    return figure


def _over_loss(one: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return the loss and the mean trace of each epoch from the second one to half of the run."""
    steps, half = math.ceil(one["run"]["images"] / one["run"]["batch"]), len(one["history"]) // 2
    losses, means = [], []
    for row in one["history"][1:half]:
        traces = [trace for step, trace in one["records"] if (row["epoch"] - 1) * steps <= step < row["epoch"] * steps]
        if traces:
            losses.append(row["loss"])
            means.append(sum(traces) / len(traces))
    return losses, means


def _by_rate(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda one: (one["run"]["method"] != "plain", -one["run"]["rate"], one["run"]["method"]))


def _with_layers(one: dict[str, Any]) -> list[FisherRecord]:
    steps = [step for step, _ in one["records"]][::10]
    return [
        FisherRecord(step, sum(parts.values()), math.nan, "nothing", parts, one["run"]["batch"], 1)
        for step, parts in zip(steps, one["layers"], strict=True)
    ]
