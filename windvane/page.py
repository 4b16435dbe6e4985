"""One small builder of self-contained HTML pages; everything that shows something uses it.

A page is one file without a script: it opens at once, offline, on a phone and on a desktop, light and dark, and
prints. Whatever enters it is escaped, unless it is `Html` already, which the functions here alone make.
"""

from __future__ import annotations

import html
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from windvane.draw import Series
from windvane.errors import InputError
from windvane.version import VERSION

Tone = Literal["plain", "good", "warn"]

MOST_LEVEL = 6  # letters of a heading that stands level in a shaded table; longer ones stand upright
LONG = 40  # letters of a cell that may take several lines

_GENERATOR = '<meta name="generator" content="windvane'
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class Html(str):
    """Text that is HTML already; any other is escaped where it enters a page."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading of its own."""

    title: str
    content: Sequence[Html]

    @property
    def anchor(self) -> str:
        """What a link to it is called."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """A whole page.

    Attributes
    ----------
    title
        Its heading.
    lead
        What stands below the heading, before the contents.
    sections
        The parts, in order.
    foot
        The last line.
    """

    title: str
    lead: Sequence[Html]
    sections: Sequence[Section]
    foot: str = ""

    def to_html(self) -> Html:
        """Write the page out.

        Returns
        -------
        Html
            A complete document.
        """
        links = [tag("a", section.title, attributes={"href": f"#{section.anchor}"}) for section in self.sections]
        parts = [
            tag("section", tag("h2", section.title), *section.content, attributes={"id": section.anchor})
            for section in self.sections
        ]
        return Html(
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f'{_GENERATOR} {VERSION}">\n<title>{escape(self.title)}</title>\n'
            f"<style>{_style()}</style>\n</head>\n<body>\n"
            f"<header>{tag('h1', self.title)}{''.join(self.lead)}</header>\n"
            + tag("nav", *links, attributes={"aria-label": "Contents"})
            + "\n<main>\n"
            + "\n".join(parts)
            + f"\n</main>\n<footer>{escape(self.foot)}</footer>\n</body>\n</html>\n"
        )


def write_page(page: Page, path: Path) -> Path:
    """Write a page to a file, whole or not at all.

    Parameters
    ----------
    page
        The page.
    path
        A name that ends in .html or .htm. A page that windvane wrote is replaced.

    Returns
    -------
    Path
        The absolute path.

    Raises
    ------
    InputError
        Where the name has another ending, the folder does not exist, or something else is there.
    """
    check_path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_text(page.to_html(), encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path.absolute()


@cache
def _style() -> str:
    return Path(__file__).with_suffix(".css").read_text(encoding="utf-8")


def check_path(path: Path) -> None:
    """Refuse a path that `write_page` would refuse, before the work is done.

    Parameters
    ----------
    path
        Where a page is to be written.

    Raises
    ------
    InputError
        As in `write_page`.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"path={str(path)!r} is no name for a page. Allowed: a name that ends in .html.")
    if not path.parent.is_dir():
        raise InputError(f"path={str(path)!r} cannot be written: the folder {str(path.parent)!r} does not exist.")
    if path.is_dir():
        raise InputError(f"path={str(path)!r} is a folder. Allowed: the name of a file.")
    if path.exists():
        with path.open("rb") as file:
            if _GENERATOR.encode() not in file.read(1000):
                raise InputError(
                    f"path={str(path)!r} exists, and windvane did not write it. Allowed: a new file or an earlier page."
                )


def escape(value: object) -> Html:
    """Make any value safe to stand in a page.

    Parameters
    ----------
    value
        Anything; `Html` stays as it is.

    Returns
    -------
    Html
        Its text, without control characters.
    """
    return value if isinstance(value, Html) else Html(html.escape(_CONTROL.sub("\ufffd", str(value))))


def tag(name: str, *content: object, attributes: Mapping[str, object] | None = None) -> Html:
    """Make an element.

    Parameters
    ----------
    name
        Of the element.
    *content
        What it holds; escaped unless it is `Html`.
    attributes
        By name; their values are escaped.

    Returns
    -------
    Html
        The element.
    """
    words = "".join(f' {key}="{html.escape(_CONTROL.sub("", str(v)))}"' for key, v in (attributes or {}).items())
    return Html(f"<{name}{words}>{''.join(map(escape, content))}</{name}>")


def paragraph(*content: object) -> Html:
    """Make a paragraph."""
    return tag("p", *content)


def note(text: object, tone: Tone = "plain") -> Html:
    """Make a remark that stands out; "warn" for what the reader should look at."""
    return tag("p", text, attributes={"class": f"note {tone}"})


def listed(items: Sequence[object], tone: Tone = "plain") -> Html:
    """Make a list of remarks."""
    return tag("ul", *(tag("li", item) for item in items), attributes={"class": f"note {tone}"})


def code(text: str) -> Html:
    """Make a block of code."""
    return tag("pre", tag("code", text), attributes={"tabindex": 0})


def details(summary: object, *content: Html) -> Html:
    """Make a part that opens on a click."""
    return tag("details", tag("summary", summary), *content)


def cards(entries: Sequence[tuple[str, str, object]]) -> Html:
    """Make a row of figures.

    Parameters
    ----------
    entries
        Name, figure and remark of each.

    Returns
    -------
    Html
        The row; the first figure is the largest.
    """
    items = [
        tag("div", tag("dt", _breakable(name)), tag("dd", figure), tag("dd", remark, attributes={"class": "remark"}))
        for name, figure, remark in entries
    ]
    return tag("dl", *items, attributes={"class": "cards"})


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, label: str) -> Html:
    """Make a table; numbers stand to the right.

    Parameters
    ----------
    header
        Names of the columns; no line of them where all are empty.
    rows
        The cells; floats are written by `number`.
    label
        What the table shows, for those who cannot see it.

    Returns
    -------
    Html
        The table, in a frame that scrolls where the screen is narrow.
    """
    columns = [[row[j] for row in rows] for j in range(len(header))]
    numeric = [any(str(v) for v in column) and all(_is_number(v) for v in column) for column in columns]

    def cell(name: str, value: object, j: int) -> Html:
        shown = number(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        shown = _breakable(value) if name == "th" else shown
        kind = "n" if numeric[j] else "long" if len(str(shown)) > LONG else ""
        attributes = ({"scope": "col"} if name == "th" else {}) | ({"class": kind} if kind else {})
        return tag(name, shown, attributes=attributes)

    head = tag("thead", tag("tr", *(cell("th", name, j) for j, name in enumerate(header)))) if any(header) else ""
    body = tag("tbody", *(tag("tr", *(cell("td", value, j) for j, value in enumerate(row))) for row in rows))
    frame = {"class": "scroll", "tabindex": 0, "role": "region", "aria-label": label}
    return tag("div", tag("table", head, body), attributes=frame)


def _breakable(name: object) -> Html:
    """Let a long name take several lines, at its underscores."""
    return Html(escape(name).replace("_", "_<wbr>"))


def _is_number(value: object) -> bool:
    """Whether a cell holds a number, written or not, or nothing."""
    return isinstance(value, int | float) or re.fullmatch(r"(-?[\d,]+(\.\d+)?%?)?", str(value)) is not None


def bars(entries: Sequence[tuple[str, float, str]], *, label: str) -> Html:
    """Make horizontal bars with their names, which may be long.

    Parameters
    ----------
    entries
        Name, length and the text beside it; a length below zero has no bar.
    label
        What they show.

    Returns
    -------
    Html
        A list of bars; the longest takes the whole width.
    """
    longest = max((length for _, length, _ in entries), default=0.0) or 1.0
    rows = []
    for name, length, shown in entries:
        share = 100 * max(length, 0.0) / longest if longest > 0 else 0.0
        bar = tag("i", attributes={"style": f"width:{share:.1f}%"})
        rows.append(tag("li", tag("b", name), tag("span", bar, attributes={"class": "bar"}), tag("em", shown)))
    return tag("ul", *rows, attributes={"class": "barlist", "aria-label": label})


def heat(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[tuple[float, str]]], *, label: str
) -> Html:
    """Make a table whose cells are shaded.

    Parameters
    ----------
    rows, columns
        Names.
    cells
        For each row its cells: shade from 0 to 1, and text.
    label
        What it shows.

    Returns
    -------
    Html
        The table, in a frame that scrolls.
    """
    upright = {"class": "upright"} if max(map(len, columns), default=0) > MOST_LEVEL else {}
    heads = [tag("th", tag("span", c), attributes={"scope": "col", "title": c, **upright}) for c in columns]
    head = tag("tr", tag("td"), *heads)
    body = []
    for name, line in zip(rows, cells, strict=True):
        shaded = [
            tag("td", text, attributes={"style": f"--v:{round(100 * shade)}%", "class": _tone(shade)})
            for shade, text in line
        ]
        body.append(tag("tr", tag("th", name, attributes={"scope": "row", "title": name}), *shaded))
    grid = tag("table", tag("thead", head), tag("tbody", *body), attributes={"class": "heat"})
    return tag("div", grid, attributes={"class": "scroll", "tabindex": 0, "role": "region", "aria-label": label})


def _tone(shade: float) -> str:
    return "none" if shade == 0 else "light" if shade < 0.6 else "mid" if shade < 0.75 else "full"


def figure(title: str, picture: str | Html, caption: object = "", legend: Sequence[Series] = ()) -> Html:
    """Give a picture its title, legend and caption.

    Parameters
    ----------
    title
        What it shows.
    picture
        From `windvane.draw`, or any `Html`.
    caption
        How to read it.
    legend
        The series of the picture; those with a name are listed.

    Returns
    -------
    Html
        The figure.
    """
    keys = [tag("span", one.name, attributes={"class": f"key c{one.colour}"}) for one in legend if one.name]
    between = [tag("div", *keys, attributes={"class": "legend"})] if keys else []
    below = [tag("p", caption)] if caption else []
    kind = {} if picture.startswith("<svg") else {"class": "wide"}
    return tag("figure", tag("figcaption", title), *between, Html(picture), *below, attributes=kind)


def side_by_side(*figures: Html) -> Html:
    """Put figures beside each other where there is room."""
    return tag("div", *figures, attributes={"class": "figures"})


def number(value: float, digits: int = 4) -> str:
    """Write a number for people.

    Parameters
    ----------
    value
        Any number.
    digits
        Significant ones.

    Returns
    -------
    str
        As in "0.9935", "12,346", "1.2e-07"; a dash where it is not finite.
    """
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if not -4 <= size < 9:
        return f"{value:.{digits - 1}g}"
    return f"{value:,.{max(0, digits - 1 - size)}f}"
