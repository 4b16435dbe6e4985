"""Small charts as SVG text: pure functions from arrays to pictures, without scripts.

A chart is 360 units wide, so that its labels stay readable on a phone. Colors are CSS classes (``c0`` to ``c4``) that
the style of `windvane.pages.html_builder` defines for light and dark. All texts are escaped here.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from windvane.pages.texts import cut

Kind = Literal["line", "points", "dashed", "bars", "ring"]
Ticks = Sequence[tuple[float, str]]

WIDTH, HEIGHT = 360.0, 250.0
CHARACTER_WIDTH = 6.1  # of a tick label
LONGEST_LABEL = 20  # characters of a tick label
N_COLORS = 5
N_TICKS = 5  # of an axis, about

# Okabe and Ito's palette, distinct with every kind of color vision: for matplotlib figures; charts have CSS classes.
OKABE_ITO = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@dataclass(frozen=True)
class Axis:
    """One axis of a chart."""

    label: str
    low: float
    high: float
    ticks: Ticks = ()  # values with labels; round numbers if empty

    @classmethod
    def around(cls, label: str, values: Any, *, margin: float = 0.04) -> Axis:
        """An axis that spans all finite values plus a margin (a share of their range); never of length zero."""
        finite = np.asarray(values, dtype=np.float64).ravel()
        finite = finite[np.isfinite(finite)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        room = (high - low) * margin if high > low else max(abs(low) * 0.05, 1e-6)
        return cls(label, low - room, high + room)


@dataclass(frozen=True)
class Series:
    """Points to draw, and how."""

    x: NDArray[Any]  # (m,); for bars the m + 1 edges
    y: NDArray[Any]  # (m,)
    kind: Kind = "line"
    color: int = 0  # 0 to 4
    name: str = ""  # in the legend; empty for none

    @classmethod
    def key(cls, name: str, color: int) -> Series:
        """An entry of a legend, for series that have no names themselves."""
        return cls(np.empty(0), np.empty(0), color=color, name=name)


def plot(series: Sequence[Series], x: Axis, y: Axis, description: str, *, height: float = HEIGHT) -> str:
    """An ``svg`` element with all series in one frame, later ones on top; `description` is its text alternative."""
    x_ticks, y_ticks = x.ticks or round_ticks(x.low, x.high), y.ticks or round_ticks(y.low, y.high)
    left = 24 + CHARACTER_WIDTH * max((len(_short(label)) for _, label in y_ticks), default=0)
    right, top, bottom = WIDTH - 12, 8.0, height - 38
    across = _Scale(x.low, x.high, left, right)
    up = _Scale(y.low, y.high, bottom, top)
    parts = [f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{html.escape(description)}">']
    for value, label in y_ticks:
        parts.append(f'<path class="grid" d="M{left:.1f} {up(value):.1f}H{right:.1f}"/>')
        parts.append(_text(left - 5, up(value) + 3.5, _short(label), "end"))
    for value, label in _uncrowded(x_ticks, across):
        parts.append(f'<path class="grid" d="M{across(value):.1f} {top:.1f}V{bottom:.1f}"/>')
        parts.append(_text(across(value), bottom + 14, _short(label), "middle"))
    parts.append(_text((left + right) / 2, height - 6, x.label, "middle", "axis"))
    middle = (top + bottom) / 2
    turned = f' transform="rotate(-90 11 {middle:.1f})"'
    parts.append(_text(11, middle, y.label, "middle", "axis", turned))
    paths = [(one, _PATHS[one.kind](one, across, up)) for one in series]
    parts += [f'<path class="{one.kind} c{one.color % N_COLORS}" d="{path}"/>' for one, path in paths if path]
    return "".join([*parts, "</svg>"])


def histogram(counts: NDArray[Any], edges: NDArray[Any], label: str, description: str) -> str:
    """Bars of the numbers of rows (m,) between edges (m + 1,)."""
    x, y = Axis.around(label, edges, margin=0.0), Axis("rows", 0.0, max(1.0, 1.05 * float(counts.max())))
    return plot([Series(edges, counts, "bars")], x, y, description)


def round_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """About five ticks between low and high, one, two or five times a power of ten apart, with labels."""
    power = 10.0 ** math.floor(math.log10((high - low) / N_TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if (high - low) / (power * factor) <= N_TICKS + 1)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    values = [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    large = max(map(abs, values), default=0.0) >= 1e6 or decimals > 6
    return [(v, f"{v + 0.0:.3g}" if large else f"{v + 0.0:,.{decimals}f}") for v in values]


@dataclass(frozen=True)
class _Scale:
    """Maps values to coordinates."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: Any) -> Any:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _text(x: float, y: float, words: str, anchor: str, kind: str = "tick", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}"{more}>{html.escape(words)}</text>'


def _short(label: str) -> str:
    return cut(label, LONGEST_LABEL)


def _uncrowded(ticks: Ticks, across: _Scale) -> list[tuple[float, str]]:
    """The ticks whose labels do not touch."""
    kept: list[tuple[float, str]] = []
    end = -math.inf
    for value, label in ticks:
        half = CHARACTER_WIDTH * len(_short(label)) / 2
        if across(value) - half > end + 4:
            kept.append((value, label))
            end = across(value) + half
    return kept


def _points(one: Series, across: _Scale, up: _Scale) -> list[str]:
    """Coordinates of the finite points."""
    places = zip(across(np.asarray(one.x, dtype=float)), up(np.asarray(one.y, dtype=float)), strict=True)
    return [f"{a:.1f} {b:.1f}" for a, b in places if math.isfinite(a) and math.isfinite(b)]


def _line(one: Series, across: _Scale, up: _Scale) -> str:
    return "M" + "L".join(points) if (points := _points(one, across, up)) else ""


def _dots(one: Series, across: _Scale, up: _Scale) -> str:
    """One path of round dots: a third of the bytes of separate circles."""
    return "".join(f"M{point}h0" for point in _points(one, across, up))


def _bars(one: Series, across: _Scale, up: _Scale) -> str:
    edges, tops = across(np.asarray(one.x, dtype=float)), up(np.asarray(one.y, dtype=float))
    ground = up(0.0)
    return "".join(
        f"M{a + 0.5:.1f} {ground:.1f}V{t:.1f}H{max(b - 0.5, a + 0.6):.1f}V{ground:.1f}z"
        for a, b, t in zip(edges[:-1], edges[1:], tops, strict=True)
    )


_PATHS = {"line": _line, "dashed": _line, "points": _dots, "ring": _dots, "bars": _bars}  # kind -> data of the path
