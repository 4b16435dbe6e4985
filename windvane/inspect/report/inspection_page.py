"""One self-contained page of what was found inside networks."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from windvane.inspect.result import Result
from windvane.page import Html, Page, Section, details, listed, paragraph, table, tag, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 150
MOST_ROWS = 200  # of a table on the page

LIMITS = (
    "Similarity is of representations, not of what networks do: a few unusual images can move it, and a network can "
    "be changed so that it falls while every prediction stays. Look at the probes beside it.",
    "Biased CKA grows with the number of features where images are few, also for random features; the unbiased one, "
    "which is the default, does not.",
    "What untrained networks and shuffled images reach is the level that means nothing.",
)


@dataclass(frozen=True)
class Analysis:
    """One analysis on a page.

    Attributes
    ----------
    title
        Its heading.
    how_to_read
        One sentence on what the picture shows.
    result
        Of the analysis.
    sentences
        What it says in words.
    draw
        Its picture, where that is not what ``result.plot()`` draws.
    """

    title: str
    how_to_read: str
    result: Result
    sentences: Sequence[str] = ()
    draw: Callable[[], Figure] | None = None


def write_findings(path: str | Path, title: str, lead: str, findings: Sequence[Analysis]) -> Path:
    """Write findings as one page that needs no other file.

    Parameters
    ----------
    path
        Ends in .html; a page that windvane wrote is replaced.
    title, lead
        The heading, and what stands below it.
    findings
        In the order of the page.

    Returns
    -------
    Path
        The absolute path.

    Raises
    ------
    InputError
        Where the page cannot be written there.
    """
    sections = [Section(one.title, _content(one)) for one in findings]
    sections.append(Section("What these numbers cannot say", [listed(LIMITS)]))
    return write_page(Page(title, [paragraph(lead)], sections), Path(path))


def _content(finding: Analysis) -> list[Html]:
    frame = finding.result.to_frame()
    if frame.index.name:
        frame = frame.reset_index()
    rows = frame.head(MOST_ROWS).itertuples(index=False, name=None)
    numbers = table([str(name) for name in frame.columns], list(rows), label=finding.title)
    shown = f"the first {MOST_ROWS} of {len(frame):,} rows" if len(frame) > MOST_ROWS else f"{len(frame)} rows"
    drawn = _as_image((finding.draw or finding.result.plot)(), finding.title)
    picture = tag("figure", drawn, paragraph(finding.how_to_read), attributes={"class": "wide"})
    words = [paragraph(sentence) for sentence in finding.sentences]
    return [*words, picture, details(f"The numbers: {shown}", numbers)]


def _as_image(drawn: Figure, description: str) -> Html:
    held = io.BytesIO()
    drawn.savefig(held, format="png", dpi=DOTS_PER_INCH)
    data = base64.b64encode(held.getvalue()).decode("ascii")
    width = f"max-width:min(100%,{drawn.get_figwidth():.1f}in)"
    return Html(
        f'<img alt="{html.escape(description)}" style="{width};height:auto" src="data:image/png;base64,{data}">'
    )
