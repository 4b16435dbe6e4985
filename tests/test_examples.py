"""Every example runs as a user runs it, in a separate process, with a small budget."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


# Packages of extras that an example needs; it is skipped where they are absent.
NEEDS = {"21_serve": ("starlette", "uvicorn"), "22_mlflow": ("mlflow",)}
SEVERAL_CORES = {"07_cluster"}  # the others have one, so that a search starts one worker process


@pytest.fixture
def cores(path: Path) -> Iterator[None]:
    """The cores on which an example runs."""
    if path.stem in SEVERAL_CORES or not hasattr(os, "sched_setaffinity"):  # not on macOS and Windows
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})  # the program inherits it
    yield
    os.sched_setaffinity(0, cores)


def test_examples_are_numbered() -> None:
    assert [path.name[:3] for path in EXAMPLES] == [f"{number:02d}_" for number in range(1, len(EXAMPLES) + 1)]


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, tmp_path: Path) -> None:
    for package in NEEDS.get(path.stem, ()):
        pytest.importorskip(package, reason=f"{path.name} needs {package}")
    page = tmp_path / "report.html"  # where an example writes it when asked, as `make demo` does
    environment = os.environ | {"WINDVANE_EXAMPLE_SECONDS": "4", "WINDVANE_EXAMPLE_REPORT": str(page)}
    environment |= {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "Warning" not in done.stderr
    assert page.exists() == (f"report: {page}" in done.stdout) == path.name.startswith(("01", "13"))
    assert set(tmp_path.iterdir()) <= {page}, "an example leaves nothing behind"
