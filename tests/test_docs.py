"""The documentation is right: links and `make` targets exist, code imports what exists, sessions and examples run."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("windvane", "windvane.data.images", "windvane.vision", "windvane.inspect", "windvane.curvature")
PAGES = sorted([*ROOT.glob("*.md"), *(page for page in (ROOT / "docs").rglob("*.md") if "_build" not in page.parts)])
SCRIPTS = sorted([*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "examples").glob("*.py")])


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


def test_map_names_what_exists() -> None:
    text = (ROOT / "docs" / "contributing" / "house.md").read_text(encoding="utf-8")
    for path in re.findall(r"`([\w/]+(?:\.py|/))`", text):
        assert (ROOT / "windvane" / path).exists() or (ROOT / path).exists(), path


def missing_names(code: str) -> list[str]:
    """What code imports from windvane, or takes from ``vision``, that does not exist."""
    missing = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "windvane":
            module = importlib.import_module(node.module or "")
            for alias in node.names:
                is_module = (
                    importlib.util.find_spec(f"{node.module}.{alias.name}") if hasattr(module, "__path__") else None
                )
                if not hasattr(module, alias.name) and is_module is None:
                    missing.append(f"{node.module}.{alias.name}")
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "vision":
            public = importlib.import_module("windvane.vision").__all__
            missing += [] if node.attr in public else [f"windvane.vision.{node.attr}"]
    return missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_code(page: Path) -> None:
    for code in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
        session = re.findall(r"^(?:>>>|\.\.\.) ?(.*)$", code, re.M)
        assert not missing_names("\n".join(session) if session else code)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.relative_to(ROOT).as_posix())
def test_scripts_import_what_exists(script: Path) -> None:
    assert not missing_names(script.read_text(encoding="utf-8"))


@pytest.mark.parametrize("package", PACKAGES)
def test_reference_lists_every_public_name(package: str) -> None:
    listed = set()
    for page in (ROOT / "docs" / "reference").glob("*.rst"):
        for part in re.split(r"^\.\. currentmodule:: ", page.read_text(encoding="utf-8"), flags=re.M)[1:]:
            if part.startswith(f"{package}\n"):
                listed |= set(re.findall(r"^   (\w+)$", part, re.M))
    assert listed == set(importlib.import_module(package).__all__) - {"__version__"}


def test_names_in_the_reference_exist() -> None:
    for page in (ROOT / "docs" / "reference").glob("*.rst"):
        module = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if found := re.fullmatch(r"\.\. currentmodule:: (\S+)", line):
                module = found[1]
            elif module and re.fullmatch(r"   [A-Za-z_]\w*", line):
                assert hasattr(importlib.import_module(module), line.strip()), f"{page.name}: {module}.{line.strip()}"


@pytest.mark.parametrize("package", PACKAGES)
def test_examples_of_public_names(package: str) -> None:
    """The examples in docstrings return what they show."""
    module = importlib.import_module(package)
    found: list[str] = []
    for name in module.__all__:
        if isinstance(documented := getattr(module, name), type) or callable(documented):
            for example in doctest.DocTestFinder(recurse=False).find(documented, name, globs={**vars(module)}):
                doctest.DocTestRunner(verbose=False).run(example, out=found.append)
    assert not found, "".join(found)


SHORTER = {
    'time_budget="1m"': "time_budget=8",
    "time_budget=600": "epochs=1",
    "time_budget=300": "time_budget=20",
    "pretrained=True": "pretrained=False",
}


def write_images(folder: Path, n: int) -> None:
    from PIL import Image

    folder.mkdir(parents=True)
    for i in range(n):
        Image.effect_noise((32, 32), 20 + i).save(folder / f"{i}.png")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["tables", "images", "inside"])
def test_getting_started_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of each page runs from top to bottom, in less time and with random weights."""
    import torch

    monkeypatch.chdir(tmp_path)
    for folder in ("flowers/rose", "flowers/tulip", "new_images"):
        write_images(tmp_path / folder, 30)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 4))
    given = {
        "images": torch.rand(4, 3, 224, 224),
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "loader": [(torch.rand(8, 3, 8, 8), torch.arange(8) % 4)] * 2,
    }
    text = (ROOT / "docs" / "start" / f"{page}.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", text, re.S):
        for long, short in SHORTER.items():
            code = code.replace(long, short)
        exec(code, given)


@pytest.mark.slow
def test_site_builds_without_warnings(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", "docs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


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
