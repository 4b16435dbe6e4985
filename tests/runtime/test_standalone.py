"""A copy of the runtime works where windvane cannot be imported."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import windvane

RUNTIME = Path(windvane.__file__).parent / "runtime"
FILES = sorted(RUNTIME.rglob("*.py"))
AT_THE_TOP = {"numpy", "scipy", "pandas", *sys.stdlib_module_names}
IN_FUNCTIONS = {"PIL", "lightgbm", "catboost", "xgboost", "sklearn", "skops"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(RUNTIME).as_posix())
def test_it_imports_itself_by_relative_names_and_little_else(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        for name in names:
            assert name.partition(".")[0] in (AT_THE_TOP if id(node) in top else AT_THE_TOP | IN_FUNCTIONS), name


def test_a_copy_is_imported_alone(tmp_path: Path) -> None:
    shutil.copytree(RUNTIME, tmp_path / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    names = ", ".join(".".join(path.relative_to(RUNTIME.parent).with_suffix("").parts) for path in FILES)
    heavy = sorted(IN_FUNCTIONS | {"windvane"})
    script = f"import sys\nsys.modules['windvane'] = None\nimport {names}\n"
    script += f"assert not [name for name in {heavy} if sys.modules.get(name)]"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
