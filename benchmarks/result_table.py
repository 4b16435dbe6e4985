"""Tables of results in JSON lines: a line a run, nested fields under names joined by dots, sorted by key.

A run is named by the fields of the key; adding it again replaces its line. Tables are replaced as a whole under a lock
of their folder, so that a reader sees no half of a line and two programs that write at once lose none.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

Row = dict[str, Any]
FOLDER = "WINDVANE_RESULTS"  # environment variable: a folder for the results of runs that are repeated


def flatten(record: Mapping[str, Any], prefix: str = "") -> Row:
    """Join the names of nested fields by dots."""
    row: Row = {}
    for name, value in record.items():
        row |= flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return row


def nest(row: Mapping[str, Any]) -> Row:
    """Undo `flatten`."""
    record: Row = {}
    for name, value in row.items():
        *outer, last = name.split(".")
        inner = record
        for part in outer:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return record


@dataclass(frozen=True)
class ResultTable:
    """The results of one experiment.

    `settings` are the constants of the script that its results depend on. They are written into every row, so that
    rows of other settings can be told apart later.
    """

    path: Path
    key: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        """The file that is read and written: `path`, or one of its name in the folder of the environment variable."""
        return Path(folder) / self.path.name if (folder := os.environ.get(FOLDER)) else self.path

    def rows(self) -> list[Row]:
        """Read all rows, in the order of their keys."""
        if not self.file.exists():
            return []
        status = self.file.stat()
        return [dict(row) for row in _read(self.file, status.st_mtime_ns, status.st_ino)]

    def frame(self) -> pd.DataFrame:
        """Read all rows as a data frame."""
        return pd.DataFrame(self.rows())

    def find(self, *key: Any) -> Row | None:
        """Read the row of a run, if it is there."""
        return next((row for row in self.rows() if self.key_of(row) == key), None)

    def key_of(self, row: Mapping[str, Any]) -> tuple[Any, ...]:
        """Return the values that name a run."""
        return tuple(row[name] for name in self.key)

    def put(self, *records: Mapping[str, Any]) -> None:
        """Add runs; those that are there are replaced."""
        added = [flatten({**record, "settings": self.settings}) for record in records]
        with self._locked():
            rows = {self.key_of(row): row for row in [*self.rows(), *added]}
            lines = [json.dumps(rows[key], ensure_ascii=False) for key in sorted(rows, key=_comparable)]
            part = self.file.with_suffix(".part")
            part.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            os.replace(part, self.file)

    def fill(self, plan: Iterable[tuple[Any, ...]], measure: Callable[..., Row]) -> None:
        """Measure the runs of the plan that are missing; `measure` takes the fields of the key."""
        for key in plan:
            if self.find(*key) is None:
                self.put(measure(*key))
                print(*key, flush=True)

    def differences(self, plan: Iterable[tuple[Any, ...]]) -> list[str]:
        """Name runs of the plan that are missing, runs that no plan has, and rows of other settings."""
        rows, planned = {self.key_of(row): row for row in self.rows()}, list(plan)
        found = [f"{self.path.name}: no result of {key}" for key in planned if key not in rows]
        found += [f"{self.path.name}: {key} is in no plan" for key in rows if key not in planned]
        settings = json.loads(json.dumps(flatten({"settings": self.settings})))
        for key, row in rows.items():
            then = {name: value for name, value in row.items() if name.startswith("settings.")}
            if then != settings:
                found.append(f"{self.path.name}: {key} was made with {then}, the plan is {settings}")
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def results_of(script: str, key: tuple[str, ...], settings: Mapping[str, Any] | None = None) -> ResultTable:
    """Return the table of the results of a script, which lies beside it under its name."""
    return ResultTable(Path(script).with_suffix(".jsonl"), key, settings or {})


@lru_cache(maxsize=32)
def _read(path: Path, mtime: int, inode: int) -> tuple[Row, ...]:
    """Read the rows of a file in one state: a table is replaced by a new file, never changed in place."""
    return tuple(json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())


def _comparable(key: tuple[Any, ...]) -> list[tuple[bool, Any]]:
    """Sort None before values."""
    return [(value is not None, value) for value in key]
