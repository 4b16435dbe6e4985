"""Which configurations are evaluated first: a portfolio, read from a JSON file that ships or that a user learned.

A file holds cases; the first one whose conditions hold for a run gives the order of its configurations::

    {"format": 2, "made": "how, in words",
     "cases": [{"kinds": ["binary"], "max_rows": 2000, "entries": [{"family": "lightgbm", "config": {}}, ...]},
               {"entries": [...]}]}

`windvane.metalearning.build_portfolio` chooses that order from losses on many tables.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from windvane.data.task import Task
from windvane.errors import InputError
from windvane.models.base import Config, Family
from windvane.models.search_space import validate

FORMAT = 2
LEARNED = Path(__file__).with_name("learned")  # the portfolios that ship
KINDS = ("binary", "multiclass", "regression")


@dataclass(frozen=True)
class PortfolioEntry:
    """One configuration of a portfolio."""

    family: str
    config: Config


@dataclass(frozen=True)
class Case:
    """An order of configurations, and the runs it is for."""

    entries: tuple[PortfolioEntry, ...]
    kinds: tuple[str, ...] = KINDS
    max_rows: int | None = None  # None: any number

    def holds(self, task: Task) -> bool:
        return task.kind in self.kinds and (self.max_rows is None or task.n_rows <= self.max_rows)


def read_portfolio(
    task: Task, families: Mapping[str, Family], path: Path | None = None, kind: str | None = None
) -> list[PortfolioEntry]:
    """Return the entries for a task, in the order in which they are to be evaluated.

    Families that the run lacks are left out; a family that the portfolio does not know (a user's own) comes first with
    its defaults. The order that ships has one entry more where a log link applies. `path` names a file other than the
    one that ships; InputError where it cannot be used. `kind` is that of the data, as in the name of the file that
    ships; None for tables.
    """
    task = task.of_one_target()
    kind = kind or ("classification" if task.is_classification else "regression")
    cases = read_cases(LEARNED / f"portfolio_{kind}.json" if path is None else path)
    case = next((case for case in cases if case.holds(task)), None)
    if case is None:
        raise InputError(
            f"portfolio={str(path)!r} has no case for a {task.kind} task of {task.n_rows:,} rows. "
            "Allowed: a file made by `windvane portfolio build` from tables of this kind."
        )
    entries = case.entries if path is not None else with_log_link(case.entries, task)
    known = {entry.family for one in cases for entry in one.entries}
    own = [PortfolioEntry(family, {}) for family in families if family not in known]
    chosen = [entry for entry in entries if entry.family in families]
    if path is not None:
        for entry in chosen:
            try:
                validate(entry.config, families[entry.family].search_space(task))
            except InputError as error:
                raise InputError(f"portfolio={str(path)!r}: {entry.family}: {error}") from error
    return own + chosen


def with_log_link(entries: Sequence[PortfolioEntry], task: Task) -> Sequence[PortfolioEntry]:
    """Insert LightGBM with a log link after the first LightGBM where the task permits one."""
    first = next((i for i, entry in enumerate(entries) if entry.family == "lightgbm"), None)
    if not task.log_link or first is None:
        return entries
    return *entries[: first + 1], PortfolioEntry("lightgbm", {"objective": "poisson"}), *entries[first + 1 :]


def read_cases(path: Path) -> list[Case]:
    """Read a portfolio file; InputError names what is wrong with it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"portfolio={str(path)!r} cannot be read: {error}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise InputError(
            f"portfolio={str(path)!r} has format {found!r}. Allowed: a file of format {FORMAT}, as "
            "`windvane portfolio build` of this version writes it."
        )
    try:
        return [_read_case(case) for case in content["cases"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"portfolio={str(path)!r} is not a portfolio: {error!r}.") from error


def _read_case(case: Mapping[str, Any]) -> Case:
    entries = tuple(PortfolioEntry(str(entry["family"]), dict(entry["config"])) for entry in case["entries"])
    kinds = tuple(case.get("kinds", KINDS))
    if not set(kinds) <= set(KINDS):
        raise ValueError(f"kinds {kinds} are not among {KINDS}")
    max_rows = case.get("max_rows")
    return Case(entries, kinds, None if max_rows is None else int(max_rows))


def write_portfolio(path: Path, cases: list[Case], made: str) -> None:
    """Write a portfolio, one line for each configuration."""
    blocks = []
    for case in cases:
        head: dict[str, Any] = {} if case.kinds == KINDS else {"kinds": case.kinds}
        head |= {} if case.max_rows is None else {"max_rows": case.max_rows}
        lines = ",\n".join(f"   {json.dumps({'family': e.family, 'config': dict(e.config)})}" for e in case.entries)
        conditions = "".join(f"{json.dumps(name)}: {json.dumps(value)}, " for name, value in head.items())
        blocks.append(f'  {{{conditions}"entries": [\n{lines}\n  ]}}')
    text = f'{{\n "format": {FORMAT},\n "made": {json.dumps(made)},\n "cases": [\n' + ",\n".join(blocks) + "\n ]\n}\n"
    path.write_text(text, encoding="utf-8")
