"""The file of finished cells: one JSON line each, append-only, safe against kills; and the matrix made of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from windvane.search.strategy.halving import make_rungs

MIN_STEP = 0.25  # CPU seconds between two checkpoints that are measured; a real run joins such steps too
RUNGS = tuple(rung.iteration_fraction for rung in make_rungs(0, halving=True, initial_sample_size=None))


@dataclass
class Cell:
    """One configuration evaluated on one table."""

    table: str
    kind: str
    rows: int
    columns: int
    classes: int
    minority_share: float
    policy: str
    seed: int
    family: str
    config: dict[str, Any]
    status: str  # done, stopped (by its limit), failed, crashed, unsupported; unreadable: the whole table, no entry
    error: str | None
    constant: dict[str, float]  # test loss of a constant prediction, by metric
    # iterations (the best of each fold), fraction (trained, of all iterations), cpu, cpu_first,
    # losses {metric: valid, test, and both of fold 0}
    checkpoints: list[dict[str, Any]]

    @classmethod
    def unreadable(cls, table: str, policy: str, seed: int, exit_code: int) -> Cell:
        """Return the record of a table whose process ended before its first cell."""
        error = f"the process ended with exit code {exit_code} while it read and divided the table"
        return cls(table, "", 0, 0, 0, 0.0, policy, seed, "", {}, "unreadable", error, {}, [])


def cell_id(table: str, family: str, config: Mapping[str, Any]) -> str:
    """Return a short name of a cell that is the same in every process."""
    text = json.dumps([table, family, dict(config)], sort_keys=True)
    return f"{family}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def ends_rung(before: float, fraction: float) -> bool:
    """Whether successive halving may end a trial at a checkpoint, by the fractions that it and the one before have."""
    return any(before < rung <= fraction for rung in RUNGS)


def read_cells(path: Path) -> list[Cell]:
    """Read the finished cells; a line torn by a kill is skipped."""
    cells: list[Cell] = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                cells.append(Cell(**json.loads(text)))
            except (ValueError, TypeError):
                continue
    return cells


def append_cell(path: Path, cell: Cell) -> None:
    """Add a finished cell in one synced write, on its own line whatever stands before it."""
    with path.open("ab+") as file:
        torn = file.seek(0, os.SEEK_END) > 0
        if torn:
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        file.write(b"\n" * torn + json.dumps(asdict(cell)).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
