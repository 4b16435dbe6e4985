"""The pages hold: links lead somewhere, `make` targets exist, code parses and imports public names, sessions run."""

from __future__ import annotations

import ast
import doctest
import re
from pathlib import Path

import pytest

import windvane

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def anchor(heading: str) -> str:
    """What a heading is linked by: lower case, no punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if link.startswith("https://"):
            continue
        path, _, section = link.partition("#")
        assert (page.parent / path).exists(), link
        headings = re.findall(r"^#+ (.+)$", (page.parent / path).read_text(encoding="utf-8"), re.M) if section else []
        assert not section or section in map(anchor, headings), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_make_targets(page: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"`make ([\w-]+)`", page.read_text(encoding="utf-8"))) <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_code(page: Path) -> None:
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        session = re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", code, re.M)
        for node in ast.walk(ast.parse("\n".join(session) if session else code)):
            if isinstance(node, ast.ImportFrom) and node.module == "windvane":
                assert {alias.name for alias in node.names} <= set(windvane.__all__)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")], ids=lambda page: page.name
)
def test_sessions(page: Path) -> None:
    """What a page shows as a session gives what it says."""
    sessions = re.findall(r"```python\n(>>> .*?)```", page.read_text(encoding="utf-8"), re.S)
    session = doctest.DocTestParser().get_doctest("\n".join(sessions), {}, page.name, str(page), 0)
    found: list[str] = []
    doctest.DocTestRunner(verbose=False).run(session, out=found.append)
    assert not found, "".join(found)


def test_continuous_integration_runs_make_test_alone() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"(make|pip|python|pytest)\b", line)] == ["make test"]
