"""Replay whole runs from the predictions that a collection kept: strategies are compared in seconds.

A replay runs entries in an order on a number of workers, each entry for as long as its checkpoints took in CPU
seconds, until the budget ends; then it builds the ensemble from what is there, as a real run does, and scores it on
test rows. Notation: v validation rows, t test rows, k classes.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.evaluation.metrics import AUTO
from windvane.metalearning.cells import Cell, cell_id, read_cells
from windvane.runtime.columns.table import Floats
from windvane.search.ensemble_selection import first_of_families, greedy_selection

Stack = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class LearningCurve:
    """One entry on one table, checkpoint by checkpoint (p of them)."""

    family: str
    cpu: Floats  # CPU seconds until each, shape (p,)
    valid_loss: Floats  # shape (p,)
    test_loss: Floats  # shape (p,)
    valid: tuple[Stack, ...]  # predictions of the kept validation rows, each of shape (v,) or (v, k)
    test: tuple[Stack, ...]
    done: bool
    fraction: Floats | None = None  # of all iterations, that each checkpoint was trained for; None: not recorded

    @property
    def cost(self) -> float:
        """CPU seconds until it is done or has failed."""
        return float(self.cpu[-1])


@dataclass
class TableReplay:
    """What is known of one table; entries by their id."""

    name: str
    kind: str
    rows: int
    columns: int
    classes: int
    metric: str
    target: NDArray[Any]  # of the kept validation rows, shape (v,)
    test_target: NDArray[Any]
    constant: float  # test loss of a constant prediction
    curves: dict[str, LearningCurve] = field(default_factory=dict)


@dataclass(frozen=True)
class RunPlan:
    """How a run spends its time."""

    seconds: float = 60.0
    workers: int = 2
    startup: float = 2.0  # before the first trial
    overhead: float = 0.15  # of each trial
    share: float = 0.3  # of the budget that one trial may take


def entry_id(family: str, config: Mapping[str, Any]) -> str:
    """Name an entry independently of tables."""
    return cell_id("", family, config)


def read_replays(path: Path, cache: Path, max_rows: int = 1000) -> list[TableReplay]:
    """Read the tables of a collection, with at most so many rows of predictions each."""
    tables: dict[str, TableReplay] = {}
    for cell in read_cells(path):
        folder = cache / cell.table
        if cell.status == "unreadable" or not (folder / "targets.npz").exists():
            continue
        metric = AUTO[cell.kind]
        if cell.table not in tables:
            with np.load(folder / "targets.npz") as targets:
                valid, test = targets["valid"], targets["test"]
            if cell.kind != "regression":
                valid, test = valid.astype(np.int64), test.astype(np.int64)
            valid, test = valid[kept_rows(len(valid), max_rows)], test[kept_rows(len(test), max_rows)]
            tables[cell.table] = TableReplay(
                cell.table, cell.kind, cell.rows, cell.columns, cell.classes, metric, valid, test, cell.constant[metric]
            )
        curve = _read_curve(cell, folder, metric, max_rows)
        if curve is not None:
            tables[cell.table].curves[entry_id(cell.family, cell.config)] = curve
    return [standardized(table) for table in tables.values()]


def standardized(table: TableReplay) -> TableReplay:
    """Return a regression table with all losses in units of the target's standard deviation, as predictions are."""
    if table.kind != "regression":
        return table
    constant = float(np.sqrt(np.mean(np.square(table.test_target, dtype=np.float64))))  # the mean is 0 in these units
    ratio = constant / table.constant if table.constant > 0 else 1.0
    curves = {
        entry: replace(curve, valid_loss=ratio * curve.valid_loss, test_loss=ratio * curve.test_loss)
        for entry, curve in table.curves.items()
    }
    return replace(table, constant=constant, curves=curves)


def kept_rows(n_rows: int, max_rows: int) -> NDArray[np.intp]:
    """Return the positions of the rows that replays look at."""
    return np.sort(np.random.default_rng(1).permutation(n_rows)[:max_rows])


def _read_curve(cell: Cell, folder: Path, metric: str, max_rows: int) -> LearningCurve | None:
    file = folder / f"{entry_id(cell.family, cell.config)}.npz"
    if not cell.checkpoints or not file.exists():
        return None
    with np.load(file) as arrays:
        count = len(cell.checkpoints)
        valid, test = ([arrays[f"{name}_{i}"] for i in range(count)] for name in ("valid", "test"))
    rows, test_rows = kept_rows(len(valid[0]), max_rows), kept_rows(len(test[0]), max_rows)
    losses = np.array([point["losses"][metric] for point in cell.checkpoints], dtype=np.float64)  # (p, 4)
    return LearningCurve(
        family=cell.family,
        cpu=np.array([point["cpu"] for point in cell.checkpoints]),
        valid_loss=losses[:, 0],
        test_loss=losses[:, 1],
        valid=tuple(prediction[rows].astype(np.float32) for prediction in valid),
        test=tuple(prediction[test_rows].astype(np.float32) for prediction in test),
        done=cell.status == "done",
        fraction=np.array([point["fraction"] for point in cell.checkpoints]),
    )


def losses_of(stack: Stack, target: NDArray[Any], metric: str) -> Floats:
    """Return the loss of each of m predictions of shape (v,) or (v, k), shape (m,)."""
    if metric == "rmse":
        return np.sqrt(np.mean((stack - target) ** 2, axis=1, dtype=np.float64))
    if metric == "mae":
        return np.asarray(np.mean(np.abs(stack - target), axis=1, dtype=np.float64))
    if metric == "log_loss":  # of shape (m, v): the probabilities of the true class
        true = stack if stack.ndim == 2 else stack[:, np.arange(stack.shape[1]), target]  # (m, v)
        return np.asarray(-np.mean(np.log(np.clip(true, 1e-7, 1.0)), axis=1, dtype=np.float64))
    if metric == "roc_auc":
        scores, positive = stack if stack.ndim == 2 else stack[..., 1], target == 1
        pairs = max(1, int(positive.sum()) * int((~positive).sum()))
        return np.array([1 - _ordered_pairs(row[positive], row[~positive]) / pairs for row in scores])
    if metric == "accuracy":
        return np.asarray(np.mean(stack.argmax(axis=2) != target, axis=1))
    raise ValueError(metric)


def _ordered_pairs(positive: Stack, negative: Stack) -> float:
    """Count the pairs of a positive and a negative score that stand the right way round; ties count half."""
    ranked = np.sort(negative)
    below, up_to = (np.searchsorted(ranked, positive, side) for side in ("left", "right"))
    return float(below.sum() + up_to.sum()) / 2


def reduce_stack(stack: Stack, target: NDArray[Any], metric: str) -> Stack:
    """Keep what the metric looks at: the probability of the true class, or of the positive one; shape (m, v)."""
    if stack.ndim == 2:
        return stack
    if metric == "log_loss":
        return np.asarray(stack[:, np.arange(stack.shape[1]), target])
    return stack[..., 1] if metric == "roc_auc" else stack


def greedy(stack: Stack, target: NDArray[Any], metric: str, rounds: int = 25) -> Floats:
    """Return the weights that a search would choose."""
    reduced = reduce_stack(stack, target, metric).astype(np.float64)
    return greedy_selection(reduced, lambda blend: float(losses_of(blend[None], target, metric)[0]), rounds)


def run_trials(order: Sequence[str], table: TableReplay, plan: RunPlan) -> list[tuple[str, int]]:
    """Run entries in an order; return those with a checkpoint at the end, with the number of the last."""
    free = [plan.startup] * plan.workers
    heapq.heapify(free)
    limit = plan.share * plan.seconds
    reached: list[tuple[str, int]] = []
    for entry in order:
        curve = table.curves.get(entry)
        if curve is None:
            continue
        start = heapq.heappop(free)
        allowed = min(limit, plan.seconds - start - plan.overhead)
        if allowed <= 0:
            break
        last = int(np.searchsorted(curve.cpu, allowed, side="right")) - 1
        if last >= 0:
            reached.append((entry, last))
        heapq.heappush(free, start + plan.overhead + min(curve.cost, allowed))
    return reached


def candidates(reached: Sequence[tuple[str, int]], table: TableReplay) -> list[tuple[str, int]]:
    """Return the checkpoints that may enter the ensemble, best first."""

    def loss(pair: tuple[str, int]) -> float:
        return float(table.curves[pair[0]].valid_loss[pair[1]])

    ranked = sorted((pair for pair in reached if np.isfinite(loss(pair))), key=loss)
    return first_of_families(ranked, [table.curves[entry].family for entry, _ in ranked], table.rows)


def blend_run(reached: Sequence[tuple[str, int]], table: TableReplay) -> tuple[Stack, Stack] | None:
    """Return the validation and test predictions of the ensemble of some checkpoints; None without any."""
    chosen = candidates(reached, table)
    if not chosen:
        return None
    valid = np.stack([table.curves[entry].valid[last] for entry, last in chosen])
    test = np.stack([table.curves[entry].test[last] for entry, last in chosen])
    weights = greedy(valid, table.target, table.metric)
    return np.tensordot(weights, valid, axes=1), np.tensordot(weights, test, axes=1)


def score_run(reached: Sequence[tuple[str, int]], table: TableReplay) -> float:
    """Return the test loss of the ensemble of some checkpoints; of a constant prediction without any."""
    blends = blend_run(reached, table)
    if blends is None:
        return table.constant
    return float(losses_of(blends[1][None], table.test_target, table.metric)[0])
