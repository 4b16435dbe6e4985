"""Pictures of what was measured, as matplotlib figures: ``figure.savefig(path)`` writes one.

Colours are those of Okabe and Ito, which stay apart for colour-blind readers; runs also differ in their line and
marker.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from windvane.curvature.hessian import HessianTrace
from windvane.curvature.memorisation import Memorisation
from windvane.curvature.tracker import FisherRecord
from windvane.errors import InputError

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MOST_MARKED = 40  # records of a run up to which each is marked
MOST_INSIDE = 6  # runs whose names stand in the picture; those of more stand beside it
MOST_TICKS = 7  # steps named below a map


def plot_trace(runs: Mapping[str, Sequence[FisherRecord]] | Sequence[FisherRecord]) -> Any:
    """Draw Tr(F) over the steps, both in log scale, with a band of one standard error.

    Parameters
    ----------
    runs
        Records of one run, or of several by name.

    Returns
    -------
    matplotlib.figure.Figure
        The picture.
    """
    named = runs if isinstance(runs, Mapping) else {"": runs}
    if not named:
        raise InputError("runs is empty. Allowed: at least one run.")
    figure, axes = _axes("Fisher trace", "step", "Tr(F)")
    for index, (name, records) in enumerate(named.items()):
        _trace_line(axes, _checked(records), index, name)
    _log_steps(axes, [record.step for records in named.values() for record in records])
    _log_values(axes, [record.trace for records in named.values() for record in records])
    if len(named) > MOST_INSIDE:
        figure.legend(frameon=False, loc="outside right upper")
    elif any(named):
        axes.legend(frameon=False)
    return figure


def plot_layers(records: Sequence[FisherRecord]) -> Any:
    """Draw the part of each layer in Tr(F), in its units, over the steps, as a map.

    Parameters
    ----------
    records
        Of one run, with layers.

    Returns
    -------
    matplotlib.figure.Figure
        The picture; layers from the input (top) to the output (bottom), colours in log scale down to a millionth.
    """
    layers = list(_checked(records)[0].per_layer)
    if not layers:
        raise InputError("records have no layers. Allowed: those of FisherTracker(..., per_layer=True).")
    values = np.array([[record.per_layer[name] for record in records] for name in layers])  # (layers, records)
    from matplotlib.colors import LogNorm

    low, top = float(np.nanmin(values)), float(np.nanmax(values))
    floor = max(low, top * 1e-6)
    norm = LogNorm(floor, top) if top > 0 else None
    figure, axes = _axes("Fisher trace by layer", "step", "", height=1.6 + 0.24 * len(layers))
    picture = axes.pcolormesh(range(len(records) + 1), range(len(layers) + 1), values, norm=norm, cmap="cividis")
    axes.set_yticks([row + 0.5 for row in range(len(layers))], layers)
    ticks = range(0, len(records), max(1, math.ceil(len(records) / MOST_TICKS)))
    axes.set_xticks([tick + 0.5 for tick in ticks], [f"{records[tick].step:,}" for tick in ticks])
    axes.invert_yaxis()
    axes.grid(visible=False)
    figure.colorbar(picture, ax=axes, label="Tr(F) of the layer", extend="min" if low < floor else "neither")
    return figure


def plot_hessian(records: Sequence[FisherRecord], hessians: Mapping[int, HessianTrace]) -> Any:
    """Draw Tr(F) and Tr(H) over the steps, which the paper finds to move together.

    Parameters
    ----------
    records
        Of one run.
    hessians
        Tr(H) by step; values that are not positive have no place in log scale and are left out.

    Returns
    -------
    matplotlib.figure.Figure
        The picture.
    """
    if not hessians:
        raise InputError("hessians is empty. Allowed: at least one measurement.")
    figure, axes = _axes("Fisher and Hessian trace", "step", "trace")
    _trace_line(axes, _checked(records), 0, "Tr(F)")
    shown = [(step, found) for step, found in sorted(hessians.items()) if found.trace > 0]
    axes.errorbar(
        [step for step, _ in shown],
        [found.trace for _, found in shown],
        yerr=[0.0 if math.isnan(found.standard_error) else found.standard_error for _, found in shown],
        color=COLOURS[1],
        linestyle=LINES[1],
        marker=MARKERS[1],
        markersize=5,
        capsize=3,
        label="Tr(H)",
    )
    _log_steps(axes, [*(record.step for record in records), *hessians])
    _log_values(axes, [*(record.trace for record in records), *(found.trace for _, found in shown)])
    axes.legend(frameon=False)
    return figure


def plot_memorisation(records: Sequence[Memorisation]) -> Any:
    """Draw gradient norm and fit of clean and noisy examples over the steps.

    Parameters
    ----------
    records
        Of one run.

    Returns
    -------
    matplotlib.figure.Figure
        Two pictures beside each other.
    """
    if not records:
        raise InputError("records is empty. Allowed: at least one measurement.")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    steps = [record.step for record in records]
    for axes, quantity, title in zip(
        figure.subplots(1, 2), ("gradient_norm", "accuracy"), ("Gradient norm", "Fit of the given labels"), strict=True
    ):
        for index, group in enumerate(("clean", "noisy")):
            values = [getattr(getattr(record, group), quantity) for record in records]
            _line(axes, steps, values, index, f"{group} labels")
        _dress(axes, title, "step", "norm" if quantity == "gradient_norm" else "accuracy")
        _log_steps(axes, steps)
        if quantity == "gradient_norm":
            _log_values(axes, [getattr(one, quantity) for record in records for one in (record.clean, record.noisy)])
        axes.legend(frameon=False)
    return figure


def _trace_line(axes: Any, records: Sequence[FisherRecord], index: int, name: str) -> None:
    steps, traces = [record.step for record in records], np.array([record.trace for record in records])
    colour = _line(axes, steps, traces, index, name)
    errors = np.array([record.standard_error for record in records])
    # Down to a twentieth at most: below zero there is no place in log scale.
    low = np.maximum(traces - errors, traces / 20)
    axes.fill_between(steps, low, traces + errors, where=np.isfinite(errors), color=colour, alpha=0.2, linewidth=0)


def _line(axes: Any, steps: Sequence[int], values: Any, index: int, name: str) -> str:
    """Draw one line, told apart by colour, dashes and marker; give its colour."""
    colour, dashes = COLOURS[index % len(COLOURS)], LINES[index % len(LINES)]
    marker = MARKERS[index % len(MARKERS)] if len(steps) <= MOST_MARKED else None
    axes.plot(steps, values, color=colour, linestyle=dashes, marker=marker, markersize=4, label=name)
    return colour


def _checked(records: Sequence[FisherRecord]) -> Sequence[FisherRecord]:
    if not isinstance(records, Sequence):
        raise InputError(f"A run is of type {type(records).__name__}. Allowed: records, such as tracker.records_.")
    if not records:
        raise InputError("A run has no records. Allowed: at least one measurement.")
    return records


def _axes(title: str, across: str, up: str, height: float = 3.8) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.subplots()
    _dress(axes, title, across, up)
    return figure, axes


def _dress(axes: Any, title: str, across: str, up: str) -> None:
    axes.set(title=title, xlabel=across, ylabel=up)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)


def _log_steps(axes: Any, steps: Sequence[int]) -> None:
    """Magnify the first steps; linear below the power of ten before the first one that is not zero."""
    later = [step for step in steps if step > 0]
    if later and max(later) > 10 * min(later):
        axes.set_xscale("symlog", linthresh=10.0 ** math.floor(math.log10(min(later))), linscale=0.3)
        axes.set_xlim(left=0)


def _log_values(axes: Any, values: Sequence[float]) -> None:
    """Take the log scale, where there is something to show in it."""
    if any(0 < value < math.inf for value in values):
        axes.set_yscale("log")
