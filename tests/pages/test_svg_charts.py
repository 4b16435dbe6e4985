"""Charts: places are right, and nothing of the user's escapes into the page as code."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.pages.svg_charts import WIDTH, Axis, Series, plot, round_ticks

finite = st.floats(-1e12, 1e12)


@settings(deadline=None, max_examples=60)
@given(finite, st.floats(1e-6, 1e9))
def test_ticks_are_round_and_inside(low: float, length: float) -> None:
    high = low + length
    if not high - low > 1e-9 * abs(low):
        return
    ticks = round_ticks(low, high)
    values = np.array([value for value, _ in ticks])
    assert 2 <= len(ticks) <= 7
    assert (values >= low - 1e-6 * length).all()
    assert (values <= high + 1e-6 * length).all()
    steps = np.diff(values)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
    mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-6)
    assert min(abs(mantissa - m) for m in (1, 2, 5, 10)) < 0.02


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 1.0, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-30.0, 32.0, ["-20", "0", "20"]),
        (0.0, 12_000.0, ["0", "2,000", "4,000", "6,000", "8,000", "10,000", "12,000"]),
    ],
)
def test_labels_of_ticks(low: float, high: float, labels: list[str]) -> None:
    assert [label for _, label in round_ticks(low, high)] == labels


def test_points_stand_where_they_belong() -> None:
    ends = Series(np.array([0.0, 1.0, np.nan]), np.array([0.0, 1.0, 0.5]), "line")
    svg = plot([ends], Axis("x", 0, 1), Axis("y", 0, 1), "a line")
    path = re.search(r'class="line c0" d="M([\d. L]+)"', svg)
    assert path is not None
    (x0, y0), (x1, y1) = (map(float, point.split()) for point in path[1].split("L"))
    ticks = dict(re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle" class="tick">([\d.]+)<', svg))
    places = {label: float(x) for x, label in ticks.items()}
    assert (x0, x1) == (places["0.0"], places["1.0"])
    assert y0 > y1


@pytest.mark.parametrize("kind", ["line", "dashed", "points", "ring", "bars"])
def test_every_kind_is_one_path_of_sound_svg(kind: str) -> None:
    x = np.arange(4.0)
    series = Series(x, x[:3] if kind == "bars" else x, kind, 2)  # type: ignore[arg-type]
    root = ElementTree.fromstring(plot([series], Axis("a & b", 0, 3), Axis("<y>", 0, 3), 'says "<script>"'))
    assert root.attrib["viewBox"].split()[2] == f"{WIDTH:g}"
    assert root.attrib["aria-label"] == 'says "<script>"'
    assert [e.attrib["class"] for e in root.iter() if e.attrib.get("class", "").startswith(kind)] == [f"{kind} c2"]
    assert {"a & b", "<y>"} <= {e.text for e in root.iter()}


def test_bars_stand_on_zero_with_the_right_heights() -> None:
    svg = plot([Series(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0]), "bars")], Axis("", 0, 2), Axis("", 0, 2), "")
    found = re.findall(r"M[\d.]+ ([\d.]+)V([\d.]+)H", svg)
    heights = [float(ground) - float(top) for ground, top in found]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)


def test_nothing_to_draw() -> None:
    empty = Series(np.empty(0), np.empty(0))
    svg = plot([empty, Series(np.full(2, np.nan), np.zeros(2), "points")], Axis("", 0, 1), Axis("", 0, 1), "")
    assert "c0" not in svg
    for values in ([], [np.nan, np.inf], [3.0], [0.0, 0.0]):
        axis = Axis.around("", np.array(values))
        assert axis.low < axis.high


def test_labels_that_would_touch_are_left_out() -> None:
    ticks = [(float(i), f"label {i}") for i in range(40)]
    svg = plot([], Axis("x", 0, 39, ticks), Axis("y", 0, 1), "")
    assert 2 <= svg.count(">label ") < 12
