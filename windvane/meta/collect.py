"""What configurations come to on tables: every cell of the matrix is one configuration evaluated on one table.

Cells are evaluated by worker programs, as in a fit, with limits on time and memory; a configuration is grown rung by
rung, and each of its kept states is judged on rows of the table that nothing was learned from. A finished cell is a
line of a file at once: whatever ends the collection, it goes on from there.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.files import to_frame
from windvane.data.target import Goal, encode_target
from windvane.errors import RunError
from windvane.meta.cells import SHARES, Line, append_line, key, read_lines
from windvane.models.base import Setting
from windvane.runtime.table import Floats, Table
from windvane.search import channel
from windvane.search.portfolio import Entry
from windvane.search.prepare import Given, Prepared, own_parts, prepare
from windvane.search.run import RunDirectory
from windvane.search.trial import Job, Trial
from windvane.search.workers import Pool, Session
from windvane.settings import Settings

_TICK = 0.5  # seconds to wait for an event
_GRACE = 5.0  # seconds beyond its limit after which a cell is killed
_LEAST_SECONDS = 0.5  # with less time left a cell ends


@dataclass(frozen=True)
class Source:
    """A table, divided once into rows to learn from and rows to judge on."""

    name: str
    goal: Goal
    X: pd.DataFrame
    y: pd.Series[Any]
    X_test: pd.DataFrame
    y_test: pd.Series[Any]


@dataclass(frozen=True)
class Effort:
    """How cells are evaluated.

    Attributes
    ----------
    policy
        How configurations are validated, out of `windvane.settings.POLICIES`.
    seconds
        Limit on the training of one cell.
    workers, memory
        Worker programs, and the megabytes of all together.
    seed
        Of folds and models.
    keep
        Folder for the predictions of every cell's last state, from which ensembles can be studied; None keeps none.
    """

    policy: str
    seconds: float
    workers: int
    memory: float
    seed: int = 0
    keep: Path | None = None


@dataclass
class _Cell:
    """One configuration on its way up the rungs."""

    entry: Entry
    shares: Sequence[float]
    points: list[list[float]] = field(default_factory=list)  # share, validation loss, test loss, seconds
    began: float = field(default_factory=time.monotonic)
    status: str = "done"
    error: str | None = None


def choose_tables(
    index: pd.DataFrame, count: int, *, rows: tuple[int, int], cells: int, without: Iterable[str]
) -> list[str]:
    """Choose tables that differ in size, classes and kinds of columns; nothing but these numbers decides.

    Parameters
    ----------
    index
        One table a line: name, n_rows, n_features, n_categorical, n_missing, n_classes.
    count
        How many.
    rows, cells
        Fewest and most rows, and most rows x columns.
    without
        Names that must not be chosen.

    Returns
    -------
    list of str
        The table nearest the middle first, then always the one farthest from all that are chosen; so the first few
        are a good spread too.
    """
    size = index["n_rows"] * index["n_features"]
    fits = index["n_rows"].between(*rows) & (size <= cells) & ~index["name"].isin(list(without))
    left = index[fits].sort_values("name").reset_index(drop=True)
    facts = np.column_stack(
        [
            np.log(left["n_rows"]),
            np.log(left["n_features"]),
            np.log(left["n_classes"].fillna(1)),
            left["n_categorical"] / left["n_features"],
            left["n_missing"] > 0,
        ]
    ).astype(np.float64)  # (n, 5)
    spread = facts.std(axis=0)
    facts = (facts - np.median(facts, axis=0)) / np.where(spread > 0, spread, 1.0)
    distance = -np.linalg.norm(facts, axis=1)  # (n,); the first is nearest the middle
    chosen: list[int] = []
    while len(chosen) < min(count, len(left)):
        distance[chosen] = -np.inf
        chosen.append(int(np.argmax(distance)))
        away = np.linalg.norm(facts - facts[chosen[-1]], axis=1)
        distance = away if len(chosen) == 1 else np.minimum(distance, away)
    return [str(name) for name in left["name"].iloc[chosen]]


def collect(source: Source, candidates: Sequence[Entry], effort: Effort, path: Path, until: float = math.inf) -> int:
    """Evaluate the cells of one table that the file lacks.

    Parameters
    ----------
    source
        The table.
    candidates
        The configurations.
    effort
        Policy and limits.
    path
        The file of finished cells.
    until
        A `time.monotonic` instant after which no new cell is begun.

    Returns
    -------
    int
        How many cells were finished.

    Raises
    ------
    RunError
        Where workers cannot read the problem.
    """
    finished = {key(line["table"], line["family"], line["config"]) for line in read_lines(path)}
    todo = [entry for entry in candidates if key(source.name, entry.family, entry.config) not in finished]
    if not todo:
        return 0
    settings = Settings(
        time_budget=effort.seconds,
        n_jobs=effort.workers,
        memory_limit=effort.memory,
        policy=effort.policy,
        ensemble_size=1,
        n_trials=None,
        run_dir=None,
        seed=effort.seed,
        verbose=0,
        keep_data=False,
    )
    prepared = prepare(source.X, source.y, Given(source.goal), settings, "the collection")
    with tempfile.TemporaryDirectory(prefix="windvane-meta-", ignore_cleanup_errors=True) as folder:
        collector = _Collector(source, prepared, effort, RunDirectory(Path(folder)), path)
        return collector.run(todo, until)


class _Collector:
    """The cells of one table in the works."""

    def __init__(self, source: Source, prepared: Prepared, effort: Effort, directory: RunDirectory, path: Path) -> None:
        self.prepared, self.effort, self.directory, self.path = prepared, effort, directory, path
        problem = prepared.problem
        self.test: Table = prepared.schema.transform(to_frame(source.X_test))
        self.target, _ = encode_target(source.y_test, source.goal, prepared.classes)
        self.facts: Line = {
            "table": source.name,
            "kind": problem.task.kind,
            "rows": problem.task.n_rows,
            "columns": problem.task.n_columns,
            "classes": problem.task.n_classes,
            "metric": problem.metric.name,
            "constant": problem.metric.loss(self.target, self._constant()),
            "policy": prepared.policy.name,
            "seed": effort.seed,
        }
        self.cells: dict[int, _Cell] = {}
        self.finished = 0

    def _constant(self) -> Floats:
        """Predict the shares of the classes, or the mean, for every test row."""
        target, task = self.prepared.problem.target, self.prepared.problem.task
        one: NDArray[Any] = np.atleast_1d(target.mean())
        if task.is_classification:
            one = np.bincount(target, minlength=task.n_classes) / len(target)
        return (
            np.repeat(one[None], len(self.target), axis=0) if task.is_classification else np.full(len(self.target), one)
        )

    def run(self, todo: Sequence[Entry], until: float) -> int:
        problem, families = self.prepared.problem, self.prepared.families
        problem.write(self.directory.data)
        waiting = list(todo)
        pool = Pool(self.effort.workers, self.effort.memory)
        try:
            objects = channel.pack(own_parts(problem.metric, families))
            root, log = self.directory.root, self.directory.log
            pool.open(Session(root, log, self.effort.memory, objects))
            while pool.running or (waiting and time.monotonic() < until):
                while pool.idle and waiting and time.monotonic() < until:
                    self._begin(waiting.pop(0), pool)
                event = pool.wait(_TICK)
                if event is not None and event.kind == "unfit":
                    raise RunError(event.error)
                if event is not None and event.kind == "done" and event.trial is not None:
                    self._hear(event.trial, pool)
        finally:
            pool.close()
        return self.finished

    def _begin(self, entry: Entry, pool: Pool) -> None:
        task, family = self.prepared.problem.task, self.prepared.families.get(entry.family)
        if family is None:
            self._finish(_Cell(entry, (), status="unsupported", error=f"{entry.family} does not support this table"))
            return
        grows = len(family.steps(entry.config, task)) > 1
        number = len(self.cells)
        self.cells[number] = _Cell(entry, SHARES if grows else SHARES[-1:])
        self._submit(number, self.effort.seconds, pool)

    def _submit(self, number: int, seconds: float, pool: Pool) -> None:
        cell = self.cells[number]
        share = cell.shares[len(cell.points)]
        job = Job(number, cell.entry.family, dict(cell.entry.config), "portfolio", self.effort.seed, share=share)
        pool.submit(job, seconds, _GRACE)

    def _hear(self, trial: Trial, pool: Pool) -> None:
        """Judge the state that a job left, and go on to the next rung, or end the cell."""
        cell = self.cells[trial.number]
        cell.status, cell.error = trial.status, trial.error
        if trial.usable:
            try:
                blend = self._predict(trial)
                loss = self.prepared.problem.metric.loss(self.target, blend)
                cell.points.append([trial.share, trial.loss, loss, trial.cpu_seconds])
                self._keep(cell, trial, blend)
            except Exception as error:  # a model that cannot predict has failed, and must not end the collection
                cell.status, cell.error = "failed", f"{type(error).__name__}: {error}"[:500]
        left = self.effort.seconds - trial.fit_seconds - trial.predict_seconds
        if cell.status == "done" and 0 < len(cell.points) < len(cell.shares) and left > _LEAST_SECONDS:
            self._submit(trial.number, left, pool)
            return
        self.directory.drop(self.directory.trial(trial.number))
        self._finish(cell)

    def _predict(self, trial: Trial) -> Floats:
        """Predict the rows that judge, by the models of all folds."""
        problem = self.prepared.problem
        step = self.directory.step(trial.number, str(trial.step))
        family, setting = self.prepared.families[trial.family], Setting(problem.task, trial.seed)
        models = [family.load(step / f"fold_{i}", setting) for i in range(len(problem.folds))]
        return np.asarray(np.mean([model.predict(self.test) for model in models], axis=0))

    def _keep(self, cell: _Cell, trial: Trial, blend: Floats) -> None:
        """Keep what an ensemble of cells needs: predictions and targets, of validation and of the test rows."""
        if self.effort.keep is None:
            return
        problem = self.prepared.problem
        name = hashlib.sha256(key(self.facts["table"], cell.entry.family, cell.entry.config).encode()).hexdigest()[:16]
        folder = self.effort.keep / self.facts["table"]
        folder.mkdir(parents=True, exist_ok=True)
        rows = problem.valid_rows
        np.save(folder / "valid.npy", problem.target[rows])
        np.save(folder / "test.npy", self.target)
        valid = np.load(self.directory.step(trial.number, str(trial.step)) / "valid.npy")
        np.savez_compressed(folder / f"{name}.npz", valid=valid.astype(np.float32), test=blend.astype(np.float32))

    def _finish(self, cell: _Cell) -> None:
        points = [point if all(map(math.isfinite, point)) else None for point in cell.points]
        line = {
            **self.facts,
            "family": cell.entry.family,
            "config": dict(cell.entry.config),
            "status": cell.status,
            "error": cell.error,
            "seconds": round(time.monotonic() - cell.began, 3),
            "points": [[point[0], *(float(f"{x:.6g}") for x in point[1:])] for point in points if point is not None],
        }
        append_line(self.path, line)
        self.finished += 1
