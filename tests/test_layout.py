"""Layout rules of the package, checked on its source: import direction, no cycles, light imports, no pickles, names.

A rule takes the package folder and yields one message for each breach, with file and line.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "windvane"

# A folder or top file imports only from what stands before it.
ORDER = (
    *("runtime", "errors", "version", "settings", "stop_signals", "packing", "pages", "torch_utils", "data"),
    *("evaluation", "curvature", "vision", "models", "image_reader", "persistence", "search", "metalearning", "export"),
    *("progress", "inspect", "report", "automl", "integrations", "serve", "cli", "__main__"),
)
NARROWER = {
    "curvature": {"errors", "pages", "torch_utils"},
    "inspect": {"errors", "pages", "torch_utils", "data", "vision"},
}

TERMINAL = {"rich", "typer"}  # may be imported in TERMINAL_PARTS alone; the others inside functions anywhere
TERMINAL_PARTS = {"progress", "cli"}
TORCH = {"torch", "torchvision", "timm"}  # at the top in TORCH_PARTS, which others import inside functions
TORCH_PARTS = {"torch_utils", "curvature", "vision", "inspect"}
WEB = {"starlette", "uvicorn"}  # at the top in WEB_PARTS, which others import inside functions
WEB_PARTS = {"serve"}
HEAVY = {
    *("accelerate", "catboost", "dask", "datasets", "distributed", "lightgbm", "lightning", "matplotlib"),
    *(
        "mlflow",
        "onnx",
        "onnxruntime",
        "optuna",
        "PIL",
        "plotly",
        "polars",
        "pyarrow",
        "safetensors",
        "skops",
        "skrub",
        "tensorboard",
        "transformers",
        "xgboost",
    ),
    *(*TORCH, *TERMINAL, *WEB),
}

PICKLES = {"_pickle", "cloudpickle", "dill", "marshal", "pickle", "shelve"}
PICKLE_FILES = {"search/workers/messages.py"}  # what a living session lends its own workers, over a private pipe

MAX_FILES = 12  # of a folder
# How well a model predicts: on rows that a user has, and at a step of a training.
SHARED_CLASS_NAMES = {"Evaluation"}

KWARGS_FILES = {"vision/networks/vit_lite.py"}  # entry points of timm take whatever its models take

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One source file; `path` is relative to the package, as in ``models/base.py``."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @property
    def name(self) -> str:
        words = ("windvane", *self.path.removesuffix(".py").split("/"))
        return ".".join(words[:-1] if words[-1] == "__init__" else words)

    @property
    def is_init(self) -> bool:
        return self.path.endswith("__init__.py")

    @property
    def part(self) -> str:
        """The folder or top file it belongs to; the package's own ``__init__`` has an empty one."""
        return self.name.partition(".")[2].partition(".")[0]

    def at(self, node: ast.stmt | ast.expr | ast.excepthandler) -> str:
        return f"{self.path}:{node.lineno}"

    def imports(self, nodes: Iterator[ast.AST]) -> Iterator[tuple[ast.stmt, str]]:
        """Every imported name in full, as in ``windvane.data.table.Table``."""
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                here = self.name.split(".") + ["__init__"] * self.is_init
                origin = [*here[: len(here) - node.level], node.module or ""] if node.level else [node.module or ""]
                yield from ((node, ".".join([*filter(None, origin), alias.name])) for alias in node.names)


@cache
def modules(package: Path) -> list[Module]:
    paths = sorted(package.rglob("*.py"))
    return [Module(path.relative_to(package).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def when_imported(node: ast.AST) -> Iterator[ast.AST]:
    """What runs when the module is imported: everything outside functions and type checking."""
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if not isinstance(child, Function) and not typing_only:
            yield child
            yield from when_imported(child)


def import_direction(package: Path) -> Iterator[str]:
    for module in modules(package):
        if module.part and module.part not in ORDER:
            yield f"{module.path} has no place in the layout"
            continue
        for node, name in module.imports(ast.walk(module.tree)) if module.part else ():
            target = name.partition("windvane.")[2].partition(".")[0]
            if name == "windvane" or (name.startswith("windvane.") and target not in ORDER):
                if module.part != "cli":  # the shell is a user like others
                    yield f"{module.at(node)} imports from the package's __init__"
            elif name.startswith("windvane.") and target != module.part:
                allowed = NARROWER.get(module.part, ORDER[: ORDER.index(module.part)])
                if target not in allowed:
                    yield f"{module.at(node)} imports {target}, which does not stand above {module.part}"


def import_cycles(package: Path) -> Iterator[str]:
    known = {module.name for module in modules(package)}
    graph: dict[str, set[str]] = {}
    for module in modules(package):
        names = [name for _, name in module.imports(ast.walk(module.tree))] if module.part else []
        graph[module.name] = {name if name in known else name.rpartition(".")[0] for name in names} & known
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "cycle: " + " <- ".join(error.args[1])


def heavy_imports(package: Path) -> Iterator[str]:
    for module in modules(package):
        terminal, network, web = (module.part in parts for parts in (TERMINAL_PARTS, TORCH_PARTS, WEB_PARTS))
        light = (TERMINAL if terminal else set()) | (TORCH if network else set()) | (WEB if web else set())
        for node, name in module.imports(when_imported(module.tree)):
            part = name.partition("windvane.")[2].partition(".")[0]
            deep = (part in TORCH_PARTS and not network) or (part in WEB_PARTS and not web)
            if name.partition(".")[0] in HEAVY - light or deep:
                yield f"{module.at(node)} imports {name} at the top"
        for node, name in module.imports(ast.walk(module.tree)):
            if name.partition(".")[0] in TERMINAL and not terminal:
                yield f"{module.at(node)} imports {name}, which belongs to {' and '.join(sorted(TERMINAL_PARTS))}"


def kwargs_tunnels(package: Path) -> Iterator[str]:
    for module in modules(package):
        if module.path in KWARGS_FILES:
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.arguments) and node.kwarg is not None:
                yield f"{module.path}:{node.kwarg.lineno} takes **{node.kwarg.arg}"


def bare_excepts(package: Path) -> Iterator[str]:
    for module in modules(package):
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                yield f"{module.at(node)} catches without saying what"


def pickles(package: Path) -> Iterator[str]:
    for module in modules(package):
        if module.path in PICKLE_FILES:
            continue
        for node, name in module.imports(ast.walk(module.tree)):
            if name.partition(".")[0] in PICKLES or name == "joblib.load":
                yield f"{module.at(node)} imports {name}"
        for call in ast.walk(module.tree):
            if not isinstance(call, ast.Call):
                continue
            allows = any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in call.keywords)
            if allows or re.search(r"(^|\.)(read_pickle|joblib\.load)$", ast.unparse(call.func)):
                yield f"{module.at(call)} reads a pickle: {ast.unparse(call)}"


def public_names(package: Path) -> Iterator[str]:
    """``__all__`` is sorted and complete; the docstring lists its names as bullets, and the layout a line each."""
    init = next(module for module in modules(package) if not module.part)
    bound: set[str] = set()
    declared: list[str] = []
    for node in ast.walk(init.tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("windvane."):
            bound.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name not in ("__getattr__", "__dir__"):
            bound.add(node.name)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            declared = ast.literal_eval(node.value)
    if declared != sorted(declared, key=lambda name: (not name.isupper(), not name[:1].isupper(), name)):
        yield "__all__ is not sorted: constants, classes, the rest"
    for name in sorted({name for name in bound if not re.match("_(?!_)", name)}.symmetric_difference(declared)):
        yield f"{name} is not both in __all__ and bound in __init__"
    doc = ast.get_docstring(init.tree, clean=False) or ""
    bullets = re.findall(r"`(\w+)`", "".join(re.findall(r"^- ((?:`\w+`(?:, )?)+)", doc, re.MULTILINE)))
    for name in sorted(set(bullets).symmetric_difference(declared)):
        yield f"{name} is not both in __all__ and a bullet of the docstring"
    layout = re.findall(r"^ +(\w+)(?:/|\.py)  +\S", doc, re.MULTILINE)
    parts = sorted({module.part for module in modules(package)} & set(ORDER), key=ORDER.index)
    if layout != parts:
        yield f"the layout in the docstring of __init__ is {' '.join(layout)}, but must be {' '.join(parts)}"


def crowded_folders(package: Path) -> Iterator[str]:
    """A folder has at most `MAX_FILES` modules beside its ``__init__``."""
    folders = Counter(module.path.rpartition("/")[0] for module in modules(package) if not module.is_init)
    for folder, count in folders.items():
        if count > MAX_FILES:
            yield f"{folder or 'windvane'}/ has {count} modules; allowed are {MAX_FILES}"


def shared_class_names(package: Path) -> Iterator[str]:
    """Two public classes of one name are one idea."""
    found: dict[str, str] = {}
    for module in modules(package):
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                first = found.setdefault(node.name, module.at(node))
                if first != module.at(node) and node.name not in SHARED_CLASS_NAMES:
                    yield f"{module.at(node)} has the name {node.name}, as {first} has"


RULES: tuple[Callable[[Path], Iterator[str]], ...] = (
    *(import_direction, import_cycles, heavy_imports, kwargs_tunnels, bare_excepts, pickles, public_names),
    *(crowded_folders, shared_class_names),
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_package(rule: Callable[[Path], Iterator[str]]) -> None:
    breaches = list(rule(PACKAGE))
    assert not breaches, "\n".join(breaches)


def test_import_is_light() -> None:
    """Importing windvane loads none of the heavy libraries that pandas and scikit-learn do not load themselves."""
    script = "import sys, pandas, sklearn.linear_model; first = set(sys.modules); from windvane import *\n"
    script += f"print(*sorted({HEAVY} & (set(sys.modules) - first)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# The checker itself: a small sound package, then one mistake at a time.

SOUND = {
    "__init__.py": '"""A package.\n\n- `load`, `A`: opens\n\n    errors.py  wrong\n    data/      given\n"""\n'
    "from windvane.data.table import load\nfrom windvane.errors import A\n\n__all__ = ['A', 'load']\n",
    "errors.py": '"""Errors."""\nclass A(Exception): ...\nclass B(A): ...\nclass C(B): ...\n',
    "data/__init__.py": '"""Data."""\nfrom windvane.data.table import load\n',
    "data/table.py": '"""Tables."""\n'
    "from typing import TYPE_CHECKING\n\nfrom windvane.errors import A\n\nif TYPE_CHECKING:\n    import pyarrow\n\n\n"
    "def load():\n    import pyarrow\n    return A\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "windvane"
    for path, source in {**SOUND, **files}.items():
        (package / path).parent.mkdir(parents=True, exist_ok=True)
        (package / path).write_text(source, encoding="utf-8")
    return package


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sound_source_passes(rule: Callable[[Path], Iterator[str]], tmp_path: Path) -> None:
    assert list(rule(write(tmp_path, {}))) == []


BAD: list[tuple[Callable[[Path], Iterator[str]], str, str, str]] = [
    (import_direction, "errors.py", "from windvane.data.table import load", "errors.py:1 imports data"),
    (import_direction, "data/x.py", "def f():\n    from ..search import trial", "data/x.py:2 imports search"),
    (import_direction, "curvature/x.py", "import windvane.data.table", "does not stand above curvature"),
    (import_direction, "data/x.py", "from windvane import load", "x.py:1 imports from the package's __init__"),
    (import_direction, "utils.py", "", "utils.py has no place"),
    (import_cycles, "data/table.py", "def f():\n    from . import load", "windvane.data.table <- "),
    (heavy_imports, "data/x.py", "try:\n    import torch.nn\nexcept ImportError: ...", "data/x.py:2 imports torch.nn"),
    (heavy_imports, "data/x.py", "class A:\n    from lightgbm import Booster", "data/x.py:2 imports lightgbm"),
    (heavy_imports, "report/x.py", "from windvane.inspect import cka", "report/x.py:1 imports windvane.inspect.cka at"),
    (heavy_imports, "vision/x.py", "import torch\nimport optuna", "vision/x.py:2 imports optuna at the top"),
    (heavy_imports, "data/x.py", "def f():\n    import rich", "which belongs to cli and progress"),
    (kwargs_tunnels, "data/x.py", "def f(a, **settings): ...", "data/x.py:1 takes **settings"),
    (bare_excepts, "data/x.py", "try:\n    f()\nexcept:\n    pass", "data/x.py:3 catches"),
    (pickles, "data/x.py", "def f():\n    from pickle import loads", "data/x.py:2 imports pickle.loads"),
    (pickles, "data/x.py", "np.load(path, allow_pickle=True)", "data/x.py:1 reads a pickle"),
    (pickles, "data/x.py", "joblib.load(path)", "data/x.py:1 reads a pickle"),
    (public_names, "__init__.py", SOUND["__init__.py"].replace("['A', 'load']", "['load', 'A']"), "not sorted"),
    (public_names, "__init__.py", SOUND["__init__.py"].replace("['A', ", "["), "A is not both in __all__ and bound"),
    (public_names, "__init__.py", SOUND["__init__.py"].replace(", `A`", ""), "A is not both in __all__ and a bullet"),
    (public_names, "settings.py", "", "is errors data, but must be errors settings data"),
    (shared_class_names, "data/x.py", "class B: ...", "errors.py:3 has the name B, as data/x.py:1 has"),
]


def test_crowded_folders_are_found(tmp_path: Path) -> None:
    package = write(tmp_path, {f"data/x{i}.py": "" for i in range(MAX_FILES)})
    assert list(crowded_folders(package)) == ["data/ has 13 modules; allowed are 12"]


@pytest.mark.parametrize(("rule", "path", "source", "breach"), BAD)
def test_bad_source_is_found(
    rule: Callable[[Path], Iterator[str]], path: str, source: str, breach: str, tmp_path: Path
) -> None:
    assert breach in "\n".join(rule(write(tmp_path, {path: source})))
