"""Evaluate many configurations on many tables: the losses that a portfolio and a policy are learned from.

A cell is one configuration on one table. Its models are trained checkpoint by checkpoint on all folds, and after each
the validation and test loss in every metric of the task are measured, for all folds together and, as a hold-out, for
the first fold alone. Costs are CPU seconds of the process, so that other work on the machine does not distort them. A
finished cell is one line of a file at once: a collection that was killed continues where it was.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from windvane.data.files import read_frame, to_frame
from windvane.data.target import TaskType, encode_target
from windvane.evaluation.baseline import constant_prediction
from windvane.evaluation.metrics import Metric, get_metric
from windvane.metalearning.cells import MIN_STEP, Cell, append_cell, cell_id, ends_rung, read_cells
from windvane.metalearning.replay import entry_id
from windvane.models import TABLE_FAMILIES
from windvane.models.base import Family, TrainingContext
from windvane.runtime.columns.table import Floats, Table
from windvane.search.problem import PreparedProblem
from windvane.search.strategy.portfolio import PortfolioEntry, read_cases
from windvane.search.table_problem import TableOptions, prepare_table_problem
from windvane.search.trial import derive_seed
from windvane.settings import Settings

METRICS = {
    "binary": ("roc_auc", "log_loss", "accuracy", "balanced_accuracy"),
    "multiclass": ("log_loss", "roc_auc", "accuracy", "balanced_accuracy"),
    "regression": ("rmse", "mae"),
}
# Configurations beside the defaults: what practitioners and tuned portfolios use, and quick ones for large tables.
GUESSES, LARGE = (case.entries for case in read_cases(Path(__file__).with_name("guesses.json")))
SEED = 0  # of samples of rows, of folds and of models
MIN_CLASS_ROWS = 8  # rows of rarer classes are left out: every fold and the test rows need some
MAX_TEST_ROWS = 5_000
MAX_KEPT_ROWS = 2_000  # of predictions that are kept for replays, validation and test each


@dataclass(frozen=True)
class SourceTable:
    """A table file to learn from."""

    name: str
    path: Path
    target: str
    goal: TaskType
    max_rows: int | None = None  # more are sampled down to this

    def read(self) -> tuple[pd.DataFrame, Any, pd.DataFrame, Any]:
        """Return training columns and target, test columns and target; a quarter of the rows are test rows."""
        frame = read_frame(self.path)
        if self.max_rows is not None and len(frame) > self.max_rows:
            frame = frame.sample(self.max_rows, random_state=SEED)
        y = frame[self.target]
        frame, y = frame[y.notna()], y[y.notna()]
        if self.goal == "classification":
            common = y.isin(y.value_counts().loc[lambda counts: counts >= MIN_CLASS_ROWS].index)
            frame, y = frame[common], y[common]
        X = frame.drop(columns=[self.target])
        strata = y if self.goal == "classification" else None
        X, X_test, y, y_test = train_test_split(X, y, test_size=0.25, random_state=SEED, stratify=strata)
        return X, y, X_test[:MAX_TEST_ROWS], y_test[:MAX_TEST_ROWS]


@dataclass(frozen=True)
class CollectSettings:
    """How cells are evaluated."""

    policy: str = "cv5"
    cpu_seconds: float = 60.0  # after which a cell is trained no further
    cache: Path | None = None  # folder for predictions of every checkpoint; None keeps none


def collect(
    tables: Sequence[SourceTable],
    entries: Sequence[PortfolioEntry],
    settings: CollectSettings,
    path: Path,
    *,
    workers: int = 1,
    deadline: float = math.inf,
    quiet: bool = False,
) -> int:
    """Evaluate the cells that a file lacks, table by table in separate processes; return how many were added.

    No cell begins after `deadline`, a `time.monotonic` instant. A cell that kills its process is recorded as crashed,
    and a table whose process dies before its first cell as unreadable.
    """
    before = len(read_cells(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = {cell_id(table.name, entry.family, entry.config) for table in tables for entry in entries}
    total, started = len(wanted), time.monotonic()
    waiting = list(tables)
    running: dict[SourceTable, Any] = {}
    context = multiprocessing.get_context("spawn")
    wall_deadline = time.time() + (deadline - time.monotonic())  # other processes have another monotonic clock
    while running or (waiting and time.monotonic() < deadline):
        while len(running) < workers and waiting and time.monotonic() < deadline:
            table = waiting.pop(0)
            process = context.Process(target=_collect_table, args=(table, entries, settings, path, wall_deadline))
            process.start()
            running[table] = process
        for table, process in list(running.items()):
            process.join(timeout=1.0 / len(running))
            if process.exitcode is None:
                continue
            del running[table]
            begun = _begun_file(path, table)
            if process.exitcode != 0 and begun.exists():
                append_cell(path, Cell(**json.loads(begun.read_text())))
                begun.unlink()
                waiting.insert(0, table)
            elif process.exitcode != 0:
                append_cell(path, Cell.unreadable(table.name, settings.policy, SEED, process.exitcode))
            if not quiet:
                cells = read_cells(path)
                done = len(wanted & {cell_id(cell.table, cell.family, cell.config) for cell in cells})
                left = (total - done) * (time.monotonic() - started) / max(1, len(cells) - before)
                text = f"{table.name}: {done} of {total} cells, about {left / 60:.0f} min left"
                print(text, file=sys.stderr, flush=True)
    return len(read_cells(path)) - before


def _collect_table(
    source: SourceTable, entries: Sequence[PortfolioEntry], settings: CollectSettings, path: Path, wall_deadline: float
) -> None:
    finished = {cell_id(cell.table, cell.family, cell.config) for cell in read_cells(path)}
    missing = [e for e in entries if cell_id(source.name, e.family, e.config) not in finished]
    if not missing:
        return
    from threadpoolctl import threadpool_limits

    evaluator = _Evaluator.prepare(source, settings)
    begun = _begun_file(path, source)
    for entry in missing:
        if time.time() >= wall_deadline:
            return
        begun.write_text(json.dumps(asdict(evaluator.cell(entry, "crashed", "the process died"))))
        with threadpool_limits(1):  # costs are those of one thread; a library may have been loaded by the cell before
            cell = evaluator.evaluate(entry)
        append_cell(path, cell)
        begun.unlink()


def _begun_file(path: Path, table: SourceTable) -> Path:
    return path.with_name(f".{path.stem}.{table.name}.begun")


@dataclass
class _Evaluator:
    """One table with its folds and test rows."""

    source: SourceTable
    settings: CollectSettings
    prepared: PreparedProblem
    test: Table
    test_target: NDArray[Any]
    metrics: dict[str, Metric]
    constant: dict[str, float]  # test loss of the constant prediction, by metric

    @classmethod
    def prepare(cls, source: SourceTable, settings: CollectSettings) -> _Evaluator:
        X, y, X_test, y_test = source.read()
        run = Settings(
            time_budget=60.0,
            n_jobs=1,
            memory_limit=4000.0,
            policy=settings.policy,
            ensemble_size=1,
            n_trials=None,
            run_dir=None,
            seed=SEED,
            verbose=0,
            keep_data=False,
        )
        prepared = prepare_table_problem(X, y, source.goal, TableOptions(), run, TABLE_FAMILIES, owner="the collection")
        test = prepared.schema.transform(to_frame(X_test))
        target, _ = encode_target(y_test, source.goal, prepared.classes)
        task = prepared.problem.task
        metrics = {name: get_metric(name, task) for name in METRICS[task.kind]}
        constant = constant_prediction(prepared.problem.target, task.n_classes, metrics[METRICS[task.kind][0]])
        constant = np.broadcast_to(constant, (len(target), *constant.shape))  # (n, k) or (n,)
        losses = {name: metric.loss(target, constant) for name, metric in metrics.items()}
        evaluator = cls(source, settings, prepared, test, target, metrics, losses)
        evaluator._write_targets()
        return evaluator

    def cell(self, entry: PortfolioEntry, status: str, error: str | None = None) -> Cell:
        """Return the record of an entry, without checkpoints yet."""
        problem = self.prepared.problem
        classes = problem.task.n_classes
        return Cell(
            table=self.source.name,
            kind=problem.task.kind,
            rows=problem.task.n_rows,
            columns=problem.task.n_columns,
            classes=classes,
            minority_share=float(np.bincount(problem.target).min() / len(problem.target)) if classes else 0.0,
            policy=self.prepared.policy.name,
            seed=SEED,
            family=entry.family,
            config=dict(entry.config),
            status=status,
            error=error,
            constant=self.constant,
            checkpoints=[],
        )

    def evaluate(self, entry: PortfolioEntry) -> Cell:
        """Train one configuration on all folds and measure each checkpoint."""
        family = self.prepared.families.get(entry.family)
        if family is None:
            return self.cell(entry, "unsupported", f"{entry.family} does not support this table")
        cell = self.cell(entry, "stopped")
        try:
            self._train(cell, entry, family)
        except Exception as error:  # a failure of a model is a result
            cell.status, cell.error = "failed", f"{type(error).__name__}: {error}"[:500]
        return cell

    def _train(self, cell: Cell, entry: PortfolioEntry, family: Family) -> None:
        problem, n_folds = self.prepared.problem, len(self.prepared.problem.folds)
        limit = self.settings.cpu_seconds
        used = np.zeros(n_folds)  # CPU seconds of each fold
        models: list[Any] = []
        for i, fold in enumerate(problem.folds):
            start = time.process_time()
            context = TrainingContext(problem.task, derive_seed(SEED, i))
            train, validation = problem.part(fold.train), problem.part(fold.validation)
            models.append(family.create_model(entry.config, train, validation, context))
            used[i] += time.process_time() - start
        arrays: dict[str, NDArray[np.float16]] = {}
        steps = family.checkpoint_iterations(entry.config, problem.task)
        measured = before = 0.0
        for total in steps:
            fraction = total / steps[-1]
            for i, model in enumerate(models):
                start = time.process_time()
                # The clock of the models is wall time; on a busy machine it is generous, and CPU time decides below.
                model.train_until(total, time.monotonic() + 2 * max(1.0, (limit - used.sum()) / (n_folds - i)))
                used[i] += time.process_time() - start
            if any(model.iterations == 0 for model in models):
                return
            complete = all(model.finished or model.iterations >= steps[-1] for model in models)
            is_last = complete or used.sum() >= limit
            if is_last or used.sum() - measured >= MIN_STEP or ends_rung(before, fraction):
                self._measure(cell, models, fraction, used, arrays)
                measured = used.sum()
            before = fraction
            if is_last:
                cell.status = "done" if complete else "stopped"
                break
        if self.settings.cache is not None and arrays:
            np.savez(self._folder() / f"{entry_id(cell.family, cell.config)}.npz", allow_pickle=False, **arrays)

    def _measure(
        self, cell: Cell, models: list[Any], fraction: float, used: Floats, arrays: dict[str, NDArray[np.float16]]
    ) -> None:
        problem = self.prepared.problem
        start = time.process_time()
        pairs = zip(models, problem.folds, strict=True)
        parts = [np.asarray(model.predict(problem.table.take(fold.validation))) for model, fold in pairs]
        predict_seconds = time.process_time() - start
        tests = [np.asarray(model.predict(self.test)) for model in models]
        valid, test = np.concatenate(parts), np.mean(tests, axis=0)
        target, first = problem.target[problem.validation_rows], problem.folds[0].validation
        losses = {
            name: [
                metric.loss(target, valid),
                metric.loss(self.test_target, test),
                metric.loss(problem.target[first], parts[0]),
                metric.loss(self.test_target, tests[0]),
            ]
            for name, metric in self.metrics.items()
        }
        iterations = [int(model.best_iteration) for model in models]
        number = len(cell.checkpoints)
        cell.checkpoints.append(
            {
                "iterations": iterations,
                "fraction": round(fraction, 5),
                "cpu": round(float(used.sum() + predict_seconds), 4),
                "cpu_first": round(float(used[0] + predict_seconds / len(models)), 4),
                "losses": {name: [float(f"{loss:.6g}") for loss in four] for name, four in losses.items()},
            }
        )
        for name, kept in self._kept(valid, test).items():  # as float16, which holds the digits of standardised numbers
            arrays[f"{name}_{number}"] = np.clip(kept, -6e4, 6e4).astype(np.float16)

    def _kept(self, valid: NDArray[Any], test: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return what is kept of the values of all validation and test rows; numbers are standardised."""
        rows = np.sort(np.random.default_rng(0).permutation(len(valid))[:MAX_KEPT_ROWS])
        kept = {"valid": valid[rows], "test": test[:MAX_KEPT_ROWS]}
        if self.prepared.problem.task.is_classification:
            return kept
        target = self.prepared.problem.target
        return {name: (values - target.mean()) / (target.std() or 1.0) for name, values in kept.items()}

    def _folder(self) -> Path:
        assert self.settings.cache is not None
        return self.settings.cache / self.source.name

    def _write_targets(self) -> None:
        if self.settings.cache is None:
            return
        self._folder().mkdir(parents=True, exist_ok=True)
        problem = self.prepared.problem
        valid, test = problem.target[problem.validation_rows], self.test_target
        kept = self._kept(valid.astype(np.float64), test.astype(np.float64))
        np.savez(self._folder() / "targets.npz", allow_pickle=False, **kept)
