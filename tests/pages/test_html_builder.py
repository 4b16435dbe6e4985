"""Pages: well formed, escaped, self-contained; only what windvane wrote is written over."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import check_html

from windvane.errors import InputError
from windvane.pages import html_builder
from windvane.pages.html_builder import Html, Page, Section, escape, tag, write_page

HOSTILE = "<script>alert('x')</script>&\"\x00\ud800"


class Texts(HTMLParser):
    """Collects what a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.words = ""

    def handle_data(self, data: str) -> None:
        self.words += data


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"])))
def test_text_comes_out_as_it_went_in(text: str) -> None:
    reader = Texts()
    reader.feed(tag("p", text, attributes={"title": text}))
    reader.close()
    assert reader.words == text


def test_html_is_escaped_once() -> None:
    assert escape(escape("a<b")) == "a&lt;b"
    assert tag("p", Html("<b>x</b>"), "<i>") == "<p><b>x</b>&lt;i&gt;</p>"


def everything(text: str) -> list[Html]:
    """One of each kind of content, with a text in every place that takes one."""
    return [
        html_builder.paragraph(text),
        html_builder.note(text, "warn"),
        html_builder.bullet_list([text], "good"),
        html_builder.code(text),
        html_builder.details(text, html_builder.paragraph(text)),
        html_builder.metric_cards([(text, text, text)]),
        html_builder.table([text, "n"], [[text, 1.5], [text, 2]], label=text),
        html_builder.heatmap([text] * 2, [text] * 2, [[(0.0, text)] * 2] * 2, label=text),
        html_builder.bars([(text, 2.0, text), (text, -1.0, text)], label=text),
        html_builder.heatmap([text], [text], [[(0.7, text)]], label=text),
        html_builder.side_by_side(html_builder.figure(text, html_builder.paragraph("x"), text)),
    ]


def test_a_hostile_text_is_harmless_everywhere() -> None:
    html = Page(HOSTILE, everything(HOSTILE), [Section(HOSTILE, everything(HOSTILE))], HOSTILE).to_html()
    check_html(html)
    assert "<script" not in html
    assert "\x00" not in html
    html.encode("utf-8")


def test_a_page_is_self_contained_and_names_its_parts() -> None:
    html = Page("A page", [], [Section("How well?", [html_builder.paragraph("x")])], "foot").to_html()
    check_html(html)
    assert not re.search(r"(src|@import|url\()", html)
    assert re.findall(r'href="([^"]+)"', html) == ["#how-well"]
    assert '<section id="how-well">' in html
    assert '<html lang="en">' in html
    assert "width=device-width" in html


def test_numbers_stand_to_the_right() -> None:
    table = html_builder.table(["name", "value"], [["a", 0.123456], ["b1", 1234], ["c", "12%"], ["3", ""]], label="")
    assert re.findall(r'<td class="n">([^<]*)<', table) == ["0.1235", "1,234", "12%", ""]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.99352, "0.9935"),
        (12345.6, "12,346"),
        (-3.14159, "-3.142"),
        (1.2e-7, "1.2e-07"),
        (float("nan"), "-"),
        (3e12, "3e+12"),
        (1e6, "1,000,000"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert html_builder.number(value) == text or html_builder.number(value, 2) == text


def test_only_an_own_page_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert write_page(Page("one", [], []), path) == path.absolute()
    write_page(Page("two", [], []), path)
    assert "<title>two</title>" in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]
    path.write_text("<html>mine</html>")
    with pytest.raises(InputError, match=r"report\.html' exists, and windvane did not write it"):
        write_page(Page("three", [], []), path)
    assert path.read_text() == "<html>mine</html>"


@pytest.mark.parametrize(
    ("name", "message"),
    [("report.txt", "ends in .html"), ("none/report.html", "does not exist"), ("folder.html", "is a folder")],
)
def test_a_path_that_cannot_be_a_page(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match=message):
        write_page(Page("one", [], []), tmp_path / name)
