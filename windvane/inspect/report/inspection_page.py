"""The page of an inspection: one section for each analysis, in one HTML file."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windvane.inspect.result import Figure, Result
from windvane.pages.html_builder import Html, Page, Section, bullet_list, details, paragraph, table, tag, write_page

DPI = 150
MAX_ROWS = 200  # of a table on the page

LIMITS = (
    "Similarity is of representations, not of what networks do: a few unusual images can move it, and a network can "
    "be changed so that it falls while every prediction stays. Read it beside the probes.",
    "Biased CKA grows with the number of features where images are few, also for random features; the unbiased one, "
    "which is the default, does not.",
    "The similarity of untrained networks and of shuffled images is the level that means nothing.",
)


@dataclass(frozen=True)
class Analysis:
    """One section of the page, and how to compute it."""

    title: str
    caption: str  # one sentence on how to read the figure
    run: Callable[[], Result]
    plot: Callable[[Any], Figure] = lambda result: result.plot()
    describe: Callable[[Any], Sequence[str]] = lambda result: ()  # sentences above the figure
    required: bool = False  # an InputError ends the inspection, instead of leaving the section out


def write_analyses(path: Path, title: str, lead: str, results: Sequence[tuple[Analysis, Result]]) -> Path:
    """Write results as one HTML file; returns its absolute path."""
    sections = [Section(analysis.title, _content(analysis, result)) for analysis, result in results]
    sections.append(Section("What these numbers cannot say", [bullet_list(LIMITS)]))
    return write_page(Page(title, [paragraph(lead)], sections), path)


def _content(analysis: Analysis, result: Result) -> list[Html]:
    frame = result.to_frame()
    if frame.index.name:
        frame = frame.reset_index()
    rows = list(frame.head(MAX_ROWS).itertuples(index=False, name=None))
    shown = f"the first {MAX_ROWS} of {len(frame):,} rows" if len(frame) > MAX_ROWS else f"{len(frame)} rows"
    numbers = table([str(name) for name in frame.columns], rows, label=analysis.title)
    image = _as_image(analysis.plot(result), analysis.title)
    figure = tag("figure", image, paragraph(analysis.caption), attributes={"class": "wide"})
    return [*map(paragraph, analysis.describe(result)), figure, details(f"The numbers: {shown}", numbers)]


def _as_image(figure: Figure, description: str) -> Html:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    style = f"max-width:min(100%,{figure.get_figwidth():.1f}in);height:auto"
    return tag("img", attributes={"alt": description, "style": style, "src": f"data:image/png;base64,{data}"})
