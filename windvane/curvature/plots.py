"""Pictures of curvature measurements as matplotlib figures: ``figure.savefig(path)`` writes one.

Runs differ in color, line style and marker, so that they stay distinct without color vision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from windvane.curvature.fisher_trace import FisherRecord, check_records
from windvane.curvature.hessian import HessianTrace
from windvane.curvature.memorization import Memorization
from windvane.errors import InputError
from windvane.pages.svg_charts import OKABE_ITO

LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MAX_MARKED = 40  # a run with more records gets no markers
MAX_INSIDE_LEGEND = 6  # with more runs the legend is outside the axes
MAX_TICKS = 7  # of the steps below a heat map


def plot_trace(runs: Mapping[str, Sequence[FisherRecord]] | Sequence[FisherRecord]) -> Any:
    """Plot Tr(F) over steps on log scales, with a band of one standard error.

    Parameters
    ----------
    runs
        Records of one run, or of several by name.

    Returns
    -------
    matplotlib.figure.Figure
        One picture.
    """
    named = runs if isinstance(runs, Mapping) else {"": runs}
    if not named:
        raise InputError("runs is empty. Allowed: at least one run.")
    figure, axes = _axes("Fisher trace", "Tr(F)")
    for index, (name, records) in enumerate(named.items()):
        _trace_line(axes, _checked(records, f"runs[{name!r}]" if named is runs else "runs"), index, name)
    _log_steps(axes, [record.step for records in named.values() for record in records])
    _log_values(axes, [record.trace for records in named.values() for record in records])
    if len(named) > MAX_INSIDE_LEGEND:
        figure.legend(frameon=False, loc="outside right upper")
    elif any(named):
        axes.legend(frameon=False)
    return figure


def plot_layers(records: Sequence[FisherRecord]) -> Any:
    """Plot the share of each layer in Tr(F) over steps, as a heat map.

    Parameters
    ----------
    records
        Records of one run, with layers.

    Returns
    -------
    matplotlib.figure.Figure
        Layers from the input (top) to the output (bottom); log colors down to a millionth of the largest share.
    """
    layers = list(_checked(records)[0].per_layer)
    if not layers:
        raise InputError("records have no layers. Allowed: those of FisherTracker(..., per_layer=True).")
    values = np.array([[record.per_layer[name] for record in records] for name in layers])  # (layers, records)
    from matplotlib.colors import LogNorm

    low, top = float(np.nanmin(values)), float(np.nanmax(values))
    floor = max(low, top * 1e-6)
    norm = LogNorm(floor, top) if top > 0 else None
    figure, axes = _axes("Fisher trace by layer", "", height=1.6 + 0.24 * len(layers))
    picture = axes.pcolormesh(range(len(records) + 1), range(len(layers) + 1), values, norm=norm, cmap="cividis")
    axes.set_yticks([row + 0.5 for row in range(len(layers))], layers)
    ticks = range(0, len(records), max(1, math.ceil(len(records) / MAX_TICKS)))
    axes.set_xticks([tick + 0.5 for tick in ticks], [f"{records[tick].step:,}" for tick in ticks])
    axes.invert_yaxis()
    axes.grid(visible=False)
    figure.colorbar(picture, ax=axes, label="Tr(F) of the layer", extend="min" if low < floor else "neither")
    return figure


def plot_hessian(records: Sequence[FisherRecord], hessians: Mapping[int, HessianTrace]) -> Any:
    """Plot Tr(F) and Tr(H) over steps, which the paper finds to move together.

    Parameters
    ----------
    records
        Records of one run.
    hessians
        Tr(H) by step. Values that are not positive are left out: the scale is logarithmic.

    Returns
    -------
    matplotlib.figure.Figure
        One picture.
    """
    allowed = "values of hessian_trace by step, as in {0: hessian_trace(model, loss)}"
    if not isinstance(hessians, Mapping):
        raise InputError(f"hessians is of type {type(hessians).__name__}. Allowed: {allowed}.")
    check_records("hessians", list(hessians.values()), HessianTrace, allowed)
    if not hessians:
        raise InputError("hessians is empty. Allowed: at least one measurement.")
    figure, axes = _axes("Fisher and Hessian trace", "trace")
    _trace_line(axes, _checked(records), 0, "Tr(F)")
    shown = {step: hessians[step] for step in sorted(hessians) if hessians[step].trace > 0}
    traces = [hessian.trace for hessian in shown.values()]
    axes.errorbar(
        [*shown],
        traces,
        yerr=[0.0 if math.isnan(hessian.standard_error) else hessian.standard_error for hessian in shown.values()],
        color=OKABE_ITO[1],
        linestyle=LINES[1],
        marker=MARKERS[1],
        markersize=5,
        capsize=3,
        label="Tr(H)",
    )
    _log_steps(axes, [*(record.step for record in records), *hessians])
    _log_values(axes, [*(record.trace for record in records), *traces])
    axes.legend(frameon=False)
    return figure


def plot_memorization(records: Sequence[Memorization]) -> Any:
    """Plot gradient norm and accuracy of clean and noisy examples over steps.

    Parameters
    ----------
    records
        Measurements of one run.

    Returns
    -------
    matplotlib.figure.Figure
        Two pictures side by side.
    """
    check_records("records", records, Memorization, "what memorization returns, in a list")
    if not records:
        raise InputError("records is empty. Allowed: at least one measurement.")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    norms, accuracies = figure.subplots(1, 2)
    _style_axes(norms, "Gradient norm", "norm")
    _style_axes(accuracies, "Fit of the given labels", "accuracy")
    steps = [record.step for record in records]
    groups = {"clean labels": [one.clean for one in records], "noisy labels": [one.noisy for one in records]}
    for index, (name, fits) in enumerate(groups.items()):
        _line(norms, steps, [fit.gradient_norm for fit in fits], index, name)
        _line(accuracies, steps, [fit.accuracy for fit in fits], index, name)
    for axes in (norms, accuracies):
        _log_steps(axes, steps)
        axes.legend(frameon=False)
    _log_values(norms, [fit.gradient_norm for fits in groups.values() for fit in fits])
    return figure


def _trace_line(axes: Any, records: Sequence[FisherRecord], index: int, name: str) -> None:
    steps, traces = [record.step for record in records], np.array([record.trace for record in records])
    color = _line(axes, steps, traces, index, name)
    errors = np.array([record.standard_error for record in records])
    # At least a twentieth of the trace: zero and below do not exist on a log scale.
    low = np.maximum(traces - errors, traces / 20)
    axes.fill_between(steps, low, traces + errors, where=np.isfinite(errors), color=color, alpha=0.2, linewidth=0)


def _line(axes: Any, steps: Sequence[int], values: Any, index: int, name: str) -> str:
    """Draw one line with its own color, line style and marker, and return its color."""
    color, dashes = OKABE_ITO[index % len(OKABE_ITO)], LINES[index % len(LINES)]
    marker = MARKERS[index % len(MARKERS)] if len(steps) <= MAX_MARKED else None
    axes.plot(steps, values, color=color, linestyle=dashes, marker=marker, markersize=4, label=name)
    return color


def _checked(records: Sequence[FisherRecord], argument: str = "records") -> Sequence[FisherRecord]:
    check_records(argument, records, FisherRecord, "records, such as tracker.records_")
    if not records:
        raise InputError(f"{argument} is empty. Allowed: at least one measurement.")
    return records


def _axes(title: str, y_label: str, height: float = 3.8) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, height), layout="constrained")
    axes = figure.subplots()
    _style_axes(axes, title, y_label)
    return figure, axes


def _style_axes(axes: Any, title: str, y_label: str) -> None:
    axes.set(title=title, xlabel="step", ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="0.9")
    axes.set_axisbelow(True)


def _log_steps(axes: Any, steps: Sequence[int]) -> None:
    """Use a log scale that magnifies the first steps, linear below the power of ten at or below the first step."""
    later = [step for step in steps if step > 0]
    if later and max(later) > 10 * min(later):
        axes.set_xscale("symlog", linthresh=10.0 ** math.floor(math.log10(min(later))), linscale=0.3)
        axes.set_xlim(left=0)


def _log_values(axes: Any, values: Sequence[float]) -> None:
    """Use a log scale if a value can be shown on it."""
    if any(0 < value < math.inf for value in values):
        axes.set_yscale("log")
