"""The file of finished cells, and the matrix that they make.

A cell is one configuration evaluated on one table. The file holds one JSON line for each: the facts of the table, the
configuration, how it ended, and for every rung that it reached the share of its iterations, validation loss, test loss
and seconds so far.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from windvane.errors import InputError
from windvane.meta.portfolio import Outcomes, normalise
from windvane.search.halving import make_rungs
from windvane.search.portfolio import Entry

SHARES = tuple(rung.share for rung in make_rungs(1, halving=True, first_rows=None))

Line = dict[str, Any]


def read_lines(path: Path) -> list[Line]:
    """Read the finished cells; a line torn by a kill is skipped.

    Parameters
    ----------
    path
        The file; need not exist.

    Returns
    -------
    list of dict
        In the order of writing.
    """
    lines: list[Line] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict):
                lines.append(line)
    return lines


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a finished cell, in one write, on a line of its own whatever stands before it.

    Parameters
    ----------
    path
        The file; made where it is missing.
    line
        JSON values.
    """
    with path.open("ab+") as file:
        torn = file.seek(0, os.SEEK_END) > 0
        if torn:
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        file.write(b"\n" * torn + json.dumps(line).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def key(table: str, family: str, config: Mapping[str, Any]) -> str:
    """Name a cell."""
    return json.dumps([table, family, dict(config)], sort_keys=True)


def to_outcomes(lines: Sequence[Line]) -> tuple[Outcomes, list[Entry], list[str]]:
    """Make the matrix of the tables on which every configuration of the file was evaluated.

    A configuration that ended before its last rung keeps its last state; one that does not grow has its only state at
    every point; one without a state has failed, after the seconds that it took. Losses above those of a constant
    prediction are not told apart.

    Parameters
    ----------
    lines
        Of one task kind, from `read_lines`.

    Returns
    -------
    outcomes
        Of c configurations and t tables.
    entries
        The c configurations.
    tables
        The t names.

    Raises
    ------
    InputError
        Where there is no such table.
    """
    entries = {key("", line["family"], line["config"]): Entry(line["family"], line["config"]) for line in lines}
    cells = {(line["table"], key("", line["family"], line["config"])): line for line in lines}
    tables = [
        table
        for table in dict.fromkeys(line["table"] for line in lines)
        if all((table, one) in cells for one in entries)
    ]
    if not tables:
        raise InputError("lines has no table with a cell for every configuration; collect more of them first.")
    curves = np.array([[_curve(cells[table, one]) for table in tables] for one in entries])  # (c, t, p, 3)
    worst = np.array([cells[table, next(iter(entries))]["constant"] for table in tables])
    test = normalise(curves[..., 1], worst)
    return Outcomes(SHARES, curves[..., 0], test, curves[..., 2]), list(entries.values()), tables


def _curve(line: Line) -> list[list[float]]:
    """Give validation loss, test loss and seconds at each of `SHARES`."""
    points = line["points"]
    if not points:
        return [[math.inf, math.inf, line["seconds"]] for _ in SHARES]
    found = []
    for share in SHARES:
        _, valid, test, seconds = max((point for point in points if point[0] <= share), default=points[0])
        if line["status"] != "done" and share > points[-1][0]:
            seconds = max(seconds, line["seconds"])  # what it took to come no further
        found.append([valid, test, seconds])
    return found
