"""A program made of functions of windvane: copied with all that they need, so that it needs windvane no more."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Module:
    """What a source file defines and imports at its top level.

    Attributes
    ----------
    doc
        Its docstring.
    lines
        Its lines.
    definitions
        Name -> function, class or assignment.
    imports
        Name -> module and the name there; an empty one where the module itself is meant.
    """

    doc: str
    lines: list[str]
    definitions: dict[str, ast.stmt]
    imports: dict[str, tuple[str, str]]


@cache
def parse(name: str) -> Module:
    """Read a module of windvane without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source of {name}")
    source = Path(spec.origin).read_text(encoding="utf-8")
    tree = ast.parse(source)
    module = Module(ast.get_docstring(tree, clean=False) or "", source.splitlines(), {}, {})
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            module.definitions[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            module.definitions[node.targets[0].id] = node
        elif isinstance(node, ast.Import):
            module.imports.update(
                {alias.asname or alias.name.partition(".")[0]: (alias.name, "") for alias in node.names}
            )
        elif isinstance(node, ast.ImportFrom):
            package = [name.rsplit(".", node.level)[0]] if node.level else []
            origin = ".".join([*package, *filter(None, [node.module])])
            module.imports.update({alias.asname or alias.name: (origin, alias.name) for alias in node.names})
    return module


def compose(
    name: str,
    roots: Iterable[str],
    chosen: Mapping[str, Collection[str]] | None = None,
    beside: Mapping[str, str] | None = None,
    own: str = "windvane",
) -> str:
    """Copy definitions of a module, and of what they need in windvane, into one source.

    Definitions are found by name: one that is assigned as part of a tuple, or inside a block, is not.
    """
    copy = _Copy(own, chosen or {}, beside or {})
    for root in roots:
        copy.take(name, root)
    blocks = ["from __future__ import annotations\n", *_import_lines(copy.imports, set(copy.beside.values()))]
    for i, (text, spaced) in enumerate(copy.parts):
        gap = "\n\n" if spaced or (i and copy.parts[i - 1][1]) else "\n" if i == 0 else ""
        blocks.append(gap + text)
    return "\n".join(blocks) + "\n"


def packages(sources: Iterable[str]) -> set[str]:
    """Name the packages that sources import, those of Python itself left out."""
    found: set[str] = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found - set(sys.stdlib_module_names)


@dataclass
class _Copy:
    """What was copied so far.

    Attributes
    ----------
    parts
        Texts, each after what it needs, and whether it is a function or class.
    imports
        Module, name there ("" for the module itself), and the name that it gets.
    """

    own: str
    chosen: Mapping[str, Collection[str]]
    beside: Mapping[str, str]
    parts: list[tuple[str, bool]] = field(default_factory=list)
    imports: set[tuple[str, str, str]] = field(default_factory=set)
    _seen: dict[str, str] = field(default_factory=dict)

    def take(self, name: str, wanted: str) -> None:
        """Copy one definition after what it needs; a name that is neither defined nor imported there is Python's."""
        module = parse(name)
        if wanted in module.imports:
            origin, original = module.imports[wanted]
            if origin in self.beside:
                self.imports.add((self.beside[origin], original, wanted))
            elif origin.partition(".")[0] == self.own:
                self.take(origin, original)
            else:
                self.imports.add((origin, original, wanted))
        elif wanted in module.definitions and wanted not in self._seen:
            self._seen[wanted] = name
            node, text = self._text(module, wanted)
            for needed in _names(node):
                self.take(name, needed)
            self.parts.append((text, isinstance(node, ast.FunctionDef | ast.ClassDef)))
        elif self._seen.get(wanted, name) != name:
            raise RuntimeError(f"{wanted} is defined in {name} and in {self._seen[wanted]}")

    def _text(self, module: Module, wanted: str) -> tuple[ast.stmt, str]:
        node = module.definitions[wanted]
        if wanted in self.chosen and isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            pairs = zip(node.value.keys, node.value.values, strict=True)
            kept = [
                (key.value, value)
                for key, value in pairs
                if isinstance(key, ast.Constant) and isinstance(key.value, str) and key.value in self.chosen[wanted]
            ]
            lines = [f'    "{key}": {ast.unparse(value)},' for key, value in kept]
            text = "\n".join([f"{wanted} = {{", *lines, "}"])
            return ast.parse(text).body[0], text
        return node, "\n".join(_lines(module.lines, node))


def _names(node: ast.AST) -> list[str]:
    """Give the names that a definition uses, in order of appearance."""
    return list(dict.fromkeys(part.id for part in ast.walk(node) if isinstance(part, ast.Name)))


def _lines(lines: Sequence[str], node: ast.stmt) -> list[str]:
    """Cut out a definition with its decorators and the comment above it; of its docstring the first line stays."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
    start = min([node.lineno, *(decorator.lineno for decorator in decorators)]) - 1
    while start and lines[start - 1].startswith("#"):
        start -= 1
    end = node.end_lineno or node.lineno
    if not isinstance(node, ast.FunctionDef | ast.ClassDef) or ast.get_docstring(node) is None:
        return list(lines[start:end])
    doc = node.body[0]
    first, last = doc.lineno - 1, doc.end_lineno or doc.lineno
    opening = lines[first] if last == first + 1 else lines[first] + '"""'
    return [*lines[start:first], opening, *lines[last:end]]


def _import_lines(imports: Iterable[tuple[str, str, str]], beside: Collection[str]) -> list[str]:
    """Write imports: those of Python, of libraries, and of files beside, a paragraph each."""
    whole: list[tuple[str, str]] = []
    parts: dict[str, list[str]] = {}
    for module, name, given in sorted(imports):
        if name:
            parts.setdefault(module, []).append(name if name == given else f"{name} as {given}")
        else:
            whole.append(
                (module, f"import {module}" if module.partition(".")[0] == given else f"import {module} as {given}")
            )
    split = [(module, f"from {module} import {', '.join(names)}") for module, names in parts.items()]
    groups: tuple[list[str], list[str], list[str]] = ([], [], [])
    for module, line in whole + split:
        package = module.partition(".")[0]
        groups[0 if package in sys.stdlib_module_names else 2 if module in beside else 1].append(line)
    return [line for group in groups if group for line in (*group, "")][:-1]
