"""The wheel and the source archive hold what is needed to install and use windvane."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import windvane

ROOT = Path(__file__).resolve().parents[1]
DATA_FILES = ("py.typed", ".css", ".js", ".json")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both from the files that git tracks, in a separate folder."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    archive = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in archive.decode().split("\0"):
        if name.startswith(("windvane/", "pyproject.toml", "README.md", "LICENSE")) and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    for kind in ("sdist", "wheel"):
        script = f"from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})"
        subprocess.run([sys.executable, "-c", script], cwd=source, capture_output=True, check=True)
    return out


def test_the_wheel_holds_every_module_and_data_file(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = {name for name in wheel.namelist() if name.startswith("windvane/")}
    package = ROOT / "windvane"
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in package.rglob("*")
        if path.suffix == ".py" or path.name.endswith(DATA_FILES)
    }
    assert names == wanted


def test_the_source_archive_builds(built: Path) -> None:
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "windvane/__init__.py", "windvane/py.typed"} <= names


def test_the_wheel_works_in_a_clean_environment(built: Path, tmp_path: Path) -> None:
    """Installed without this checkout on the path; the dependencies are those of this environment."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check"]
    target = tmp_path / "site"
    subprocess.run([*pip, "--target", str(target), str(next(built.glob("*.whl")))], check=True, capture_output=True)
    script = f"""
import sys; sys.path.insert(0, {str(target)!r})
import windvane, numpy as np
assert windvane.__file__.startswith({str(target)!r}), windvane.__file__
X = np.random.default_rng(0).normal(size=(80, 3))
model = windvane.AutoClassifier(20, n_trials=1, n_jobs=1, random_state=0, verbose=0).fit(X, X[:, 0] > 0)
print(model.predict(X[:2]).shape)
"""
    environment = {"PYTHONPATH": str(target), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(2,)"


def test_public_names_are_found_when_they_are_used() -> None:
    code = (
        "import sys, windvane; before = 'pandas' in sys.modules; "
        "assert set(windvane.__all__) <= set(dir(windvane)); "
        "assert all(getattr(windvane, name) is not None for name in windvane.__all__); "
        "print(before, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    with pytest.raises(AttributeError, match="module 'windvane' has no attribute 'AutoClasifier'"):
        _ = windvane.AutoClasifier
