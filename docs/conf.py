"""Configuration of the documentation site; ``make docs`` builds it into docs/_build."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import tokenize
from collections.abc import Mapping
from io import StringIO
from typing import Any

import typer
from sphinx.application import Sphinx

from windvane.cli import app as shell
from windvane.version import VERSION

project = "windvane"
author = "the windvane developers"
project_copyright = "the windvane developers, BSD-3-Clause"
version = release = VERSION

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_design",
]
exclude_patterns = ["_build"]
default_role = "py:obj"
maximum_signature_line_length = 70
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {
    "members": True,
    "inherited-members": "BaseEstimator,ClassifierMixin,RegressorMixin,Exception,Warning,UserWarning,dict,tuple",
    "member-order": "bysource",
}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = f"windvane {VERSION}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "windvane"},
    "navbar_align": "left",
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "changelog": []}


def field_comments(cls: type) -> dict[str, str]:
    """Return the comments beside and above the fields of a dataclass, by field."""
    source = inspect.getsource(cls)
    body = ast.parse(inspect.cleandoc(source) if source[0] == " " else source).body[0]
    assert isinstance(body, ast.ClassDef)
    comments = {
        token.start[0]: (token.start[1], token.string.lstrip("# "))
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            assert node.end_lineno is not None
            lines = [comments[line][1] for line in range(node.lineno, node.end_lineno + 1) if line in comments]
            above = node.lineno - 1
            while above in comments and comments[above][0] == node.col_offset:
                lines.insert(0, comments[above][1])
                above -= 1
            found[node.target.id] = " ".join(lines)
    return found


def add_fields(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn the field comments of a dataclass into an Attributes section of its docstring."""
    if (
        what != "class"
        or not dataclasses.is_dataclass(obj)
        or re.search(r"^(Attributes|Parameters)$", "\n".join(lines), re.M)
    ):
        return
    comments = field_comments(obj)
    section = ["Attributes", "----------"]
    for field in dataclasses.fields(obj):
        kind = str(field.type).replace("NDArray[np.", "array[")
        text = re.sub(r"(?<!`)`(?!`)", "``", comments.get(field.name, ""))
        section += [f"{field.name} : {kind}", f"    {text[:1].upper()}{text[1:]}" if text else ""]
    examples = next((i for i, line in enumerate(lines) if line == "Examples"), len(lines))
    lines[examples:examples] = ["", *section, ""]


def add_values(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """List the content of a public constant."""
    if what == "data":
        pairs = obj.items() if isinstance(obj, Mapping) else [(value, None) for value in obj]
        shown = {key: f": ``{value}``" if dataclasses.is_dataclass(value) else "" for key, value in pairs}
        kind = "Mapping" if isinstance(obj, Mapping) else "Tuple"
        lines[:] = [f"{kind} with {len(shown)} entries.", "", *(f"- ``{key}``{value}" for key, value in shown.items())]


def shorten_factories(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: Any
) -> Any:
    """Write the default of a field with a factory so that it can be parsed."""
    return (signature.replace("<factory>", "..."), returns) if signature else None


def skip_member(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out scikit-learn's metadata routing, which every estimator inherits."""
    return True if re.fullmatch(r"get_metadata_routing|set_\w+_request", name) else None


def add_commands(app: Sphinx, page: str, source: list[str]) -> None:
    """Append a section for each shell command to the page of the command line."""
    if page != "reference/cli":
        return
    commands: dict[str, Any] = {}
    for name, command in typer.main.get_command(shell).commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", {})  # of a group, such as portfolio
        commands |= {f"{name} {one}": below[one] for one in below} or {name: command}
    for name, command in commands.items():
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option"]
        examples = (command.epilog or "").replace("\b\n", "").removeprefix("Examples:\n")
        usage = " ".join(one.metavar if one.required else f"[{one.metavar}]" for one in arguments)
        words = re.sub(r"--[a-z][\w-]*", r"`\g<0>`", command.help or "")
        source[0] += f"\n## windvane {name}\n\n{words}\n\n```console\nwindvane {name} {usage} [OPTIONS]\n```\n\n"
        source[0] += "| | default | |\n|---|---|---|\n"
        for one in arguments:
            source[0] += f"| `{one.metavar}` | {'required' if one.required else ''} | {one.help or ''} |\n"
        for one in options:
            flags = ", ".join(f"`{flag}`" for flag in [*one.opts, *one.secondary_opts])
            plain = one.default is None or one.default is False or one.required
            default = "required" if one.required else "" if plain else f"`{one.default}`"
            words = re.sub(r"--[a-z][\w-]*", r"`\g<0>`", one.help or "")
            source[0] += f"| {flags} | {default} | {words} |\n"
        if examples:
            source[0] += f"\n```console\n{textwrap.dedent(examples)}\n```\n"


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", add_fields, priority=400)  # before numpydoc
    app.connect("autodoc-process-docstring", add_values)
    app.connect("autodoc-process-signature", shorten_factories)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("source-read", add_commands)
