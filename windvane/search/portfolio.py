"""Which configurations are tried first: read from a small file that ships with the package, cheap ones first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from windvane.data.task import Task
from windvane.models.base import Config, Family


@dataclass(frozen=True)
class Entry:
    """One configuration of a portfolio."""

    family: str
    config: Config


def read_portfolio(task: Task, families: Mapping[str, Family]) -> list[Entry]:
    """Read the portfolio of a task kind, for the families of a run.

    Parameters
    ----------
    task
        Classification and regression have a file each.
    families
        Others are left out; a family that the portfolio does not know (a user's own) comes with its defaults.

    Returns
    -------
    list of Entry
        In the order in which they are to be tried.
    """
    name = "classification" if task.is_classification else "regression"
    text = (files("windvane.search") / "learned" / f"portfolio_{name}.json").read_text(encoding="utf-8")
    entries = [Entry(entry["family"], entry["config"]) for entry in json.loads(text)["entries"]]
    known = {entry.family for entry in entries}
    own = [Entry(family, {}) for family in families if family not in known]
    # A user who brings a family wants to see it tried.
    return own + [entry for entry in entries if entry.family in families]
