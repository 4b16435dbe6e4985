"""A small builder of self-contained HTML pages, used by every report.

A page is one file without scripts: it opens offline, on a phone and on a desktop, light and dark, and prints. Those of
`windvane serve` name a script and link to each other. Every value is escaped where it enters a page unless it is
`Html`, which only the functions of this file create.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from windvane.errors import InputError
from windvane.pages.svg_charts import Series
from windvane.runtime.serialization import replace_file, writing
from windvane.version import VERSION

Tone = Literal["plain", "good", "warn"]

LONGEST_HORIZONTAL_HEADING = 6  # characters; longer headings of a heatmap are written vertically
LONG_CELL = 40  # characters from which a table cell may wrap

_GENERATOR = '<meta name="generator" content="windvane'
_VOID = ("img", "input")  # elements without content and end tag
_TAG = re.compile(r"<[^>]*>")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


class Html(str):
    """Text that is HTML already; every other value is escaped where it enters a page."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """A part of a page with its own heading."""

    title: str
    content: Sequence[Html]

    @property
    def anchor(self) -> str:
        """The id that links to the section use."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")

    def to_html(self) -> Html:
        return tag("section", tag("h2", self.title), *self.content, attributes={"id": self.anchor})


@dataclass(frozen=True)
class Link:
    """An entry of the bar on top of a page."""

    title: str
    address: str
    is_here: bool = False  # whether it is the page itself

    def to_html(self) -> Html:
        here = {"aria-current": "page"} if self.is_here else {}
        return tag("a", self.title, attributes={"href": self.address, **here})


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    lead: Sequence[Html]  # between the title and the table of contents
    sections: Sequence[Section]
    foot: str = ""  # last line
    links: Sequence[Link] = ()  # to other pages, instead of the table of contents
    script: str = ""  # address of a script; empty for none
    live: str = ""  # address of the sections alone, which the script fetches every two seconds

    @property
    def main(self) -> Html:
        """The sections alone."""
        return Html("\n".join(section.to_html() for section in self.sections))

    def to_html(self) -> Html:
        links = self.links or [Link(section.title, f"#{section.anchor}") for section in self.sections]
        main = tag("main", Html(f"\n{self.main}\n"), attributes={"data-live": self.live} if self.live else {})
        script = tag("script", attributes={"src": self.script, "defer": ""}) if self.script else ""
        return Html(
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f'{_GENERATOR} {VERSION}">\n<title>{escape(self.title)}</title>\n'
            f"<style>{_style()}</style>\n{script}</head>\n<body>\n"
            f"<header>{tag('h1', self.title)}{''.join(self.lead)}</header>\n"
            + tag("nav", *(link.to_html() for link in links), attributes={"aria-label": "Contents"})
            + f"\n{main}\n<footer>{escape(self.foot)}</footer>\n</body>\n</html>\n"
        )


def write_page(page: Page, path: Path) -> Path:
    """Write a page, completely or not at all, and return its absolute path; raises as `check_path` does."""
    check_path(path)
    content = page.to_html()
    with writing(path, "An earlier page is unchanged."), replace_file(path) as part:
        part.write_text(content, encoding="utf-8")
    return path.absolute()


@cache
def _style() -> str:
    return Path(__file__).with_suffix(".css").read_text(encoding="utf-8")


def check_path(path: Path) -> None:
    """Raise InputError if `write_page` cannot write there: another suffix, no folder, or a file of others."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"path={str(path)!r} is not the name of a page. Allowed: a name that ends in .html.")
    if not path.parent.is_dir():
        raise InputError(f"path={str(path)!r} cannot be written: the folder {str(path.parent)!r} does not exist.")
    if path.is_dir():
        raise InputError(f"path={str(path)!r} is a folder. Allowed: the name of a file.")
    if path.exists() and not is_page(path):
        raise InputError(
            f"path={str(path)!r} exists, and windvane did not write it. Allowed: a new file or an earlier page."
        )


def is_page(path: Path) -> bool:
    """Whether windvane wrote a file as a page."""
    with path.open("rb") as file:
        return _GENERATOR.encode() in file.read(1000)


def escape(value: object) -> Html:
    """Any value as HTML text without control characters; `Html` is returned unchanged."""
    return value if isinstance(value, Html) else Html(html.escape(_CONTROL.sub("\ufffd", str(value))))


def tag(name: str, *content: object, attributes: Mapping[str, object] | None = None) -> Html:
    """An element; content is escaped unless it is `Html`, attribute values always are."""
    words = "".join(f' {key}="{html.escape(_CONTROL.sub("", str(v)))}"' for key, v in (attributes or {}).items())
    return Html(f"<{name}{words}>" + ("" if name in _VOID else f"{''.join(map(escape, content))}</{name}>"))


def paragraph(*content: object) -> Html:
    return tag("p", *content)


def note(text: object, tone: Tone = "plain") -> Html:
    """A highlighted remark; "warn" for what the reader should look at."""
    return tag("p", text, attributes={"class": f"note {tone}"})


def bullet_list(items: Sequence[object], tone: Tone = "plain") -> Html:
    """A highlighted list."""
    return tag("ul", *(tag("li", item) for item in items), attributes={"class": f"note {tone}"})


def code(text: str) -> Html:
    return tag("pre", tag("code", text), attributes={"tabindex": 0})


def details(summary: object, *content: Html) -> Html:
    """Content that opens on a click."""
    return tag("details", tag("summary", summary), *content)


def metric_cards(entries: Sequence[tuple[str, str, object]]) -> Html:
    """A row of figures (name, figure, remark); the first is the largest."""
    items = [
        tag("div", tag("dt", _breakable(name)), tag("dd", figure), tag("dd", remark, attributes={"class": "remark"}))
        for name, figure, remark in entries
    ]
    return tag("dl", *items, attributes={"class": "cards"})


def table(header: Sequence[str], rows: Sequence[Sequence[object]], *, label: str) -> Html:
    """A scrollable table; numbers are aligned right. The header row is omitted if all names are empty."""
    columns = [[row[j] for row in rows] for j in range(len(header))]
    numeric = [any(str(v) for v in column) and all(_is_number(v) for v in column) for column in columns]

    def heading(name: str, is_numeric: bool) -> Html:
        return tag("th", _breakable(name), attributes={"scope": "col"} | ({"class": "n"} if is_numeric else {}))

    def cell(value: object, is_numeric: bool) -> Html:
        shown = number(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        is_long = len(_TAG.sub("", str(shown))) > LONG_CELL
        kind = "n" if is_numeric else "long" if is_long else ""
        return tag("td", shown, attributes={"class": kind} if kind else {})

    head = tag("thead", tag("tr", *map(heading, header, numeric))) if any(header) else ""
    body = tag("tbody", *(tag("tr", *map(cell, row, numeric)) for row in rows))
    return _scrollable(tag("table", head, body), label)


def _scrollable(content: Html, label: str) -> Html:
    return tag("div", content, attributes={"class": "scroll", "tabindex": 0, "role": "region", "aria-label": label})


def _breakable(name: object) -> Html:
    """Let a long name wrap at its underscores."""
    return Html(escape(name).replace("_", "_<wbr>"))


def _is_number(value: object) -> bool:
    """Whether a cell holds a number, formatted or not, or is empty."""
    return isinstance(value, int | float) or re.fullmatch(r"(-?[\d,]+(\.\d+)?%?)?", str(value)) is not None


def bars(entries: Sequence[tuple[str, float, str]], *, label: str, full: float | None = None) -> Html:
    """Horizontal bars (name, length, text beside it); one of the length `full`, or the longest, fills the width."""
    full = full or max((length for _, length, _ in entries), default=0.0) or 1.0
    rows = []
    for name, length, shown in entries:
        share = 100 * max(length, 0.0) / full if full > 0 else 0.0
        bar = tag("i", attributes={"style": f"width:{share:.1f}%"})
        rows.append(tag("li", tag("b", name), tag("span", bar, attributes={"class": "bar"}), tag("em", shown)))
    return tag("ul", *rows, attributes={"class": "barlist", "aria-label": label})


def class_bars(counts: Sequence[int], names: Sequence[str], title: str, most: int = 15) -> Html:
    """Bars of the sizes of classes, the largest `most` first."""
    total = sum(counts)
    order = sorted(range(len(counts)), key=lambda i: -counts[i])
    entries = [(names[i], float(counts[i]), f"{counts[i]:,} · {counts[i] / total:.1%}") for i in order[:most]]
    if len(order) > most:
        rest = sum(counts[i] for i in order[most:])
        entries.append((f"{len(order) - most} more", -1.0, f"{rest:,} · {rest / total:.1%}"))
    return figure(title, bars(entries, label=title))


def heatmap(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[tuple[float, str]]], *, label: str
) -> Html:
    """A scrollable table with shaded cells, each a pair (shade from 0 to 1, text)."""
    upright = {"class": "upright"} if max(map(len, columns), default=0) > LONGEST_HORIZONTAL_HEADING else {}
    heads = [tag("th", tag("span", c), attributes={"scope": "col", "title": c, **upright}) for c in columns]
    head = tag("tr", tag("td"), *heads)
    body = []
    for name, line in zip(rows, cells, strict=True):
        shaded = [
            tag("td", text, attributes={"style": f"--v:{round(100 * shade)}%", "class": _tone(shade)})
            for shade, text in line
        ]
        body.append(tag("tr", tag("th", name, attributes={"scope": "row", "title": name}), *shaded))
    return _scrollable(tag("table", tag("thead", head), tag("tbody", *body), attributes={"class": "heat"}), label)


def _tone(shade: float) -> str:
    return "none" if shade == 0 else "light" if shade < 0.6 else "mid" if shade < 0.75 else "full"


def figure(title: str, picture: str | Html, caption: object = "", legend: Sequence[Series] = ()) -> Html:
    """A picture, from `svg_charts` or any `Html`, with title, caption and a legend of its named series."""
    keys = [tag("span", one.name, attributes={"class": f"key c{one.color}"}) for one in legend if one.name]
    between = [tag("div", *keys, attributes={"class": "legend"})] if keys else []
    below = [tag("p", caption)] if caption else []
    kind = {} if picture.startswith("<svg") else {"class": "wide"}
    return tag("figure", tag("figcaption", title), *between, Html(picture), *below, attributes=kind)


def side_by_side(*figures: Html) -> Html:
    """Figures beside each other where there is room."""
    return tag("div", *figures, attributes={"class": "figures"})


def number(value: float, digits: int = 4) -> str:
    """A number for people, as in "0.9935", "12,346", "1.2e-07"; a dash if it is not finite."""
    if not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if not -4 <= size < 9:
        return f"{value:.{digits - 1}g}"
    return f"{value:,.{max(0, digits - 1 - size)}f}"
