from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from windvane.curvature import (
    FisherRecord,
    FisherTracker,
    Fit,
    HessianTrace,
    Memorization,
    plot_hessian,
    plot_layers,
    plot_memorization,
    plot_trace,
)
from windvane.errors import InputError

pytest.importorskip("matplotlib", reason="matplotlib is not installed")
pytestmark = pytest.mark.filterwarnings("error")


def records(scale: float = 1.0, n: int = 30, error: float = 0.3) -> list[FisherRecord]:
    layers = ("conv1", "conv2", "blocks.0.attention.qkv", "head")
    found = []
    for i in range(n):
        parts = {name: scale * (j + 1) * (1 + i) ** 0.5 for j, name in enumerate(layers)}
        trace = sum(parts.values())
        found.append(FisherRecord(50 * i, trace, error * trace if i else math.nan, "records", parts, 128, 1))
    return found


def memory(n: int = 20) -> list[Memorization]:
    return [
        Memorization(20 * i, Fit(96, 1 - 0.9 / (1 + i), 0.1, 1 / (1 + i)), Fit(32, i / 40, 2.0, 3.0)) for i in range(n)
    ]


def shown(figure: Any, path: Path) -> Any:
    """Draw it for good: what matplotlib cannot draw would warn here."""
    figure.savefig(path / "figure.png", dpi=100)
    return figure.axes[0]


def test_trace_of_several_runs(tmp_path: Path) -> None:
    axes = shown(plot_trace({"low rate": records(3.0), "high rate": records()}), tmp_path)
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["low rate", "high rate"]
    lines = axes.get_lines()
    np.testing.assert_allclose(lines[1].get_ydata(), [record.trace for record in records()])
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 2
    band = axes.collections[0].get_paths()[0].vertices  # around the first run, without its first record
    assert band[:, 0].min() == 50
    assert band[:, 1].max() == pytest.approx(1.3 * records(3.0)[-1].trace)


def test_one_run_has_no_legend_and_large_errors_stay_in_the_picture(tmp_path: Path) -> None:
    axes = shown(plot_trace(records(error=5.0)), tmp_path)
    assert axes.get_legend() is None
    assert axes.collections[0].get_paths()[0].vertices[:, 1].min() > 0


def test_a_single_record(tmp_path: Path) -> None:
    shown(plot_trace(records(n=1)), tmp_path)
    shown(plot_layers(records(n=1)), tmp_path)
    shown(plot_memorization(memory(1)), tmp_path)


def test_runs_that_have_diverged(tmp_path: Path) -> None:
    shown(plot_trace(records(math.nan)), tmp_path)
    shown(plot_hessian(records(math.nan), {0: HessianTrace(math.nan, 1.0, {}, 30)}), tmp_path)


def test_the_names_of_many_runs_stand_beside_the_picture(tmp_path: Path) -> None:
    figure = plot_trace({f"run {i}": records(1.0 + i) for i in range(12)})
    axes = shown(figure, tmp_path)
    assert axes.get_legend() is None
    assert len(figure.legends[0].get_texts()) == 12


def test_layers_from_input_to_output(tmp_path: Path) -> None:
    axes = shown(plot_layers(records()), tmp_path)
    assert [text.get_text() for text in axes.get_yticklabels()] == list(records()[0].per_layer)
    assert axes.yaxis_inverted()
    values = axes.collections[0].get_array()
    np.testing.assert_allclose(values[3], [record.per_layer["head"] for record in records()])


def test_layers_without_any_curvature(tmp_path: Path) -> None:
    shown(plot_layers(records(0.0)), tmp_path)


def test_fisher_and_hessian(tmp_path: Path) -> None:
    hessians = {
        0: HessianTrace(-5.0, 1.0, {}, 30),
        500: HessianTrace(40.0, 2.0, {}, 30),
        1450: HessianTrace(60.0, math.nan, {}, 1),
    }
    axes = shown(plot_hessian(records(), hessians), tmp_path)
    assert list(axes.get_lines()[1].get_xdata()) == [500, 1450]


def test_memorisation(tmp_path: Path) -> None:
    figure = plot_memorization(memory())
    shown(figure, tmp_path)
    assert [axes.get_title() for axes in figure.axes] == ["Gradient norm", "Fit of the given labels"]
    np.testing.assert_allclose(
        figure.axes[1].get_lines()[1].get_ydata(), [record.noisy.accuracy for record in memory()]
    )


def test_nothing_to_draw() -> None:
    for draw in (lambda: plot_trace([]), lambda: plot_trace({"a": []}), lambda: plot_memorization([])):
        with pytest.raises(InputError, match="at least one measurement"):
            draw()
    for draw in (lambda: plot_trace({}), lambda: plot_hessian(records(), {})):
        with pytest.raises(InputError, match="is empty"):
            draw()
    with pytest.raises(InputError, match=r"type FisherTracker.*tracker.records_"):
        plot_trace(FisherTracker(nn.Linear(2, 2)))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="per_layer=True"):
        plot_layers([FisherRecord(0, 1.0, math.nan, "nothing", {}, 8, 1)])


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: plot_trace({"a": [1, 2]}), r"runs\['a'\] has items of type int.*tracker.records_"),
        (lambda: plot_trace([1.5]), "runs has items of type float"),
        (lambda: plot_trace([*records(), None]), "runs has items of type FisherRecord, NoneType"),
        (lambda: plot_trace("run"), "runs is of type str"),
        (lambda: plot_trace({"a": "run"}), r"runs\['a'\] is of type str"),
        (lambda: plot_layers({"a": records()}), "records is of type dict"),
        (lambda: plot_layers(memory()), "records has items of type Memorization"),
        (lambda: plot_hessian(memory(), {0: HessianTrace(1.0, 1.0, {}, 30)}), "records has items of type Memorization"),
        (lambda: plot_hessian(records(), [1.0]), "hessians is of type list.*by step"),
        (lambda: plot_hessian(records(), {0: 1.0}), "hessians has items of type float"),
        (lambda: plot_memorization(records()), "records has items of type FisherRecord"),
        (lambda: plot_memorization(memory()[0]), "records is of type Memorization"),
    ],
)
def test_what_is_no_measurement(draw: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        draw()
