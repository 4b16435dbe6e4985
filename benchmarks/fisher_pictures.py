"""The pictures of `fisher_replication.py`, from the histories of its runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from windvane.curvature import FisherRecord, Fit, Memorisation, plot_layers, plot_memorisation, plot_trace


def records(one: dict[str, Any]) -> list[FisherRecord]:
    """Means of five neighbours, whose spread is the band."""
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


def draw(finished: Callable[[str], list[dict[str, Any]]], folder: Path) -> list[Path]:
    """Draw what there are runs for: Tr(F) of the paper's row, by layer, and the fit of wrong labels."""
    drawn = []
    row = [one for one in finished("row") if one["run"]["seed"] == 0]
    if row:
        figure = plot_trace({label(one["run"]): records(one) for one in row})
        drawn.append(folder / "trace.png")
        figure.savefig(drawn[-1], dpi=110)
    plain = [one for one in row if one["run"]["method"] == "plain"]
    if plain:
        low = min(plain, key=lambda one: one["run"]["rate"])
        steps = [step for step, _ in low["records"]][::10]
        layers = [
            FisherRecord(step, sum(parts.values()), math.nan, "nothing", parts, 128, 1)
            for step, parts in zip(steps, low["layers"], strict=True)
        ]
        drawn.append(folder / "layers.png")
        plot_layers(layers).savefig(drawn[-1], dpi=110)
    for one in finished("noise"):
        if one["run"]["seed"] == 0 and one["memorisation"]:
            groups = [Memorisation(m["step"], Fit(**m["clean"]), Fit(**m["noisy"])) for m in one["memorisation"]]
            drawn.append(folder / f"memorisation_{one['run']['method']}_{one['run']['rate']:g}.png")
            plot_memorisation(groups).savefig(drawn[-1], dpi=110)
    return drawn
