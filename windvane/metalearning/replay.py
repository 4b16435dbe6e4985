"""Replay whole runs from the predictions that a collection kept: strategies are compared in seconds.

A replay runs entries in an order on a number of workers, each entry for as long as its checkpoints took in CPU
seconds, until the budget ends; then it builds the ensemble from what is there, as a real run does, and scores it on
test rows. Notation: v validation rows, t test rows, k classes.
"""

from __future__ import annotations

import heapq
import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.data.task import Task
from windvane.metalearning.cells import MIN_STEP, Cell, cell_id, ends_rung, read_cells
from windvane.models import TABLE_FAMILIES
from windvane.runtime.columns.table import Floats
from windvane.search.ensemble_selection import greedy_selection, max_candidates_per_family
from windvane.search.strategy.portfolio import PortfolioEntry

AUTO = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}
Stack = NDArray[np.floating[Any]]
Select = Callable[[Stack, NDArray[Any], str], Floats]  # (m, v[, k]) predictions, target, metric -> weights (m,)


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
    cost: float  # CPU seconds until it is done or has failed
    fraction: Floats | None = None  # of all iterations, that each checkpoint was trained for; None: not recorded


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
            tables[cell.table] = TableReplay(
                *(cell.table, cell.kind, cell.rows, cell.columns, cell.classes, metric),
                *(valid[kept_rows(len(valid), max_rows)], test[kept_rows(len(test), max_rows)], cell.constant[metric]),
            )
        curve = _read_curve(cell, folder, metric, max_rows)
        if curve is not None:
            tables[cell.table].curves[entry_id(cell.family, cell.config)] = curve
    return [_standardized(table) for table in tables.values()]


def _standardized(table: TableReplay) -> TableReplay:
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
    cpu = np.array([point["cpu"] for point in cell.checkpoints])
    return LearningCurve(
        family=cell.family,
        cpu=cpu,
        valid_loss=losses[:, 0],
        test_loss=losses[:, 1],
        valid=tuple(prediction[rows].astype(np.float32) for prediction in valid),
        test=tuple(prediction[test_rows].astype(np.float32) for prediction in test),
        done=cell.status == "done",
        cost=float(cpu[-1]),
        fraction=_fractions(cell),
    )


def _fractions(cell: Cell) -> Floats:
    """Return how far each checkpoint was trained; where a file does not say so, its best iteration bounds it."""
    task = Task(cell.kind, cell.rows, cell.columns, cell.classes)  # type: ignore[arg-type]
    steps = TABLE_FAMILIES[cell.family].checkpoint_iterations(cell.config, task)
    bounds = [steps[min(bisect_left(steps, max(p["iterations"])), len(steps) - 1)] for p in cell.checkpoints]
    known = [p.get("fraction", bound / steps[-1]) for p, bound in zip(cell.checkpoints, bounds, strict=True)]
    return np.maximum.accumulate(np.array(known, dtype=np.float64))


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


def with_metric(table: TableReplay, metric: str) -> TableReplay:
    """Return a table as it is for another metric, its losses computed from the kept rows.

    Predictions of two classes get a column for each. Raises ValueError if probabilities of several classes were not
    kept.
    """

    def expand(predictions: Sequence[Stack]) -> Stack:
        stack = np.stack(predictions)  # (p, v) or (p, v, k)
        if table.kind == "multiclass" and stack.ndim == 2:
            raise ValueError(f"the kept predictions of {table.name} are for the {table.metric} alone")
        return np.stack([1 - stack, stack], axis=-1) if table.kind == "binary" and stack.ndim == 2 else stack

    curves = {}
    for entry, curve in table.curves.items():
        valid, test = expand(curve.valid), expand(curve.test)
        losses = losses_of(valid, table.target, metric), losses_of(test, table.test_target, metric)
        curves[entry] = replace(curve, valid_loss=losses[0], test_loss=losses[1], valid=tuple(valid), test=tuple(test))
    n = len(table.test_target)
    constant = np.full((1, n), table.target.mean())
    if table.classes:
        shares = np.bincount(table.target, minlength=table.classes) / len(table.target)
        constant = np.broadcast_to(shares, (1, n, table.classes))
    return replace(
        table, metric=metric, constant=float(losses_of(constant, table.test_target, metric)[0]), curves=curves
    )


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


def blend_run(
    reached: Sequence[tuple[str, int]], table: TableReplay, select: Select = greedy
) -> tuple[Stack, Stack] | None:
    """Return the validation and test predictions of the ensemble of some checkpoints; None without any."""
    ranked = sorted(reached, key=lambda pair: table.curves[pair[0]].valid_loss[pair[1]])
    cap, seen, chosen = max_candidates_per_family(table.rows), dict[str, int](), []
    for entry, last in ranked:
        family = table.curves[entry].family
        seen[family] = seen.get(family, 0) + 1
        if seen[family] <= cap and np.isfinite(table.curves[entry].valid_loss[last]):
            chosen.append((entry, last))
    if not chosen:
        return None
    valid = np.stack([table.curves[entry].valid[last] for entry, last in chosen])
    test = np.stack([table.curves[entry].test[last] for entry, last in chosen])
    weights = select(valid, table.target, table.metric)
    return np.tensordot(weights, valid, axes=1), np.tensordot(weights, test, axes=1)


def score_run(reached: Sequence[tuple[str, int]], table: TableReplay, select: Select = greedy) -> float:
    """Return the test loss of the ensemble of some checkpoints; of a constant prediction without any."""
    blends = blend_run(reached, table, select)
    if blends is None:
        return table.constant
    return float(losses_of(blends[1][None], table.test_target, table.metric)[0])


def write_matrix(
    tables: Sequence[TableReplay],
    entries: Mapping[str, PortfolioEntry],
    path: Path,
    *,
    min_step: float = MIN_STEP,
    all_classes: bool = False,
) -> None:
    """Write replays small enough to be kept with the project: one Parquet row for each table, entry and checkpoint.

    Predictions are reduced to what the losses look at (the probability of the positive or of the true class, as one
    byte of its logit; standardized values as float16); with `all_classes`, of several classes each has its byte. A
    checkpoint less than `min_step` CPU seconds before the next one is left out, as a real run joins such steps, unless
    a rung of successive halving ends there.
    """
    rows = []
    for table in tables:
        facts = {"table": table.name, "kind": table.kind, "rows": table.rows, "columns": table.columns}
        facts |= {"classes": table.classes, "constant": table.constant, "metric": table.metric}
        targets = [t.astype(np.float16 if table.kind == "regression" else np.uint8) for t in _targets(table)]
        head = {"family": "", "config": "", "cpu": 0.0, "done": True, "valid_loss": 0.0, "test_loss": 0.0}
        rows.append({**facts, **head, "valid": targets[0].tobytes(), "test": targets[1].tobytes()})
        for entry, curve in table.curves.items():
            config = json.dumps(dict(entries[entry].config), sort_keys=True)
            for i, cpu in enumerate(curve.cpu):
                is_last = i + 1 == len(curve.cpu)
                if not is_last and curve.cpu[i + 1] - cpu < min_step and not _ends_rung(curve, i):
                    continue
                parts = [
                    _to_bytes(one, target, table.kind, all_classes)
                    for one, target in zip((curve.valid[i], curve.test[i]), _targets(table), strict=True)
                ]
                cell = {"family": curve.family, "config": config, "cpu": float(cpu), "done": curve.done}
                cell |= {"fraction": np.nan if curve.fraction is None else float(curve.fraction[i])}
                cell |= {"valid_loss": float(curve.valid_loss[i]), "test_loss": float(curve.test_loss[i])}
                rows.append({**facts, **cell, "valid": parts[0], "test": parts[1]})
    pd.DataFrame(rows).to_parquet(path, compression="zstd")


def read_matrix(path: Path) -> tuple[list[TableReplay], dict[str, PortfolioEntry]]:
    """Read what `write_matrix` wrote: replays and the entries by their id."""
    frame = pd.read_parquet(path)
    if "fraction" not in frame:
        frame["fraction"] = np.nan
    tables, entries = [], dict[str, PortfolioEntry]()
    for name, group in frame.groupby("table", sort=False):
        head = group.iloc[0]
        kind = str(head["kind"])
        target_type = np.float16 if kind == "regression" else np.uint8
        targets = [np.frombuffer(head[part], target_type) for part in ("valid", "test")]
        targets = [t.astype(np.float64 if kind == "regression" else np.int64) for t in targets]
        facts = (str(name), kind, int(head["rows"]), int(head["columns"]), int(head["classes"]), str(head["metric"]))
        table = TableReplay(*facts, targets[0], targets[1], float(head["constant"]))
        for (family, config), cells in group.iloc[1:].groupby(["family", "config"], sort=False):
            entry = PortfolioEntry(str(family), json.loads(str(config)))
            entries[entry_id(entry.family, entry.config)] = entry
            valid, test = (
                tuple(_from_bytes(content, kind, len(target)) for content in cells[part])
                for part, target in zip(("valid", "test"), targets, strict=True)
            )
            cpu, fraction = cells["cpu"].to_numpy(), cells["fraction"].to_numpy()
            table.curves[entry_id(entry.family, entry.config)] = LearningCurve(
                *(entry.family, cpu, cells["valid_loss"].to_numpy(), cells["test_loss"].to_numpy()),
                *(valid, test, bool(cells["done"].all()), float(cpu[-1])),
                None if np.isnan(fraction).any() else fraction,
            )
        tables.append(_standardized(table))
    return tables, entries


def _ends_rung(curve: LearningCurve, i: int) -> bool:
    known = curve.fraction
    return known is not None and ends_rung(float(known[i - 1]) if i else 0.0, float(known[i]))


_LOGIT_STEP = 0.1  # a byte holds logits from -12.7 to 12.7


def _targets(table: TableReplay) -> tuple[NDArray[Any], NDArray[Any]]:
    return table.target, table.test_target


def _to_bytes(prediction: Stack, target: NDArray[Any], kind: str, all_classes: bool) -> bytes:
    if kind == "regression":
        return prediction.astype(np.float16).tobytes()
    if prediction.ndim == 2 and kind == "binary":
        prediction = prediction[:, 1]
    elif prediction.ndim == 2 and not all_classes:
        prediction = prediction[np.arange(len(target)), target]
    p = np.clip(prediction.astype(np.float64), 1e-6, 1 - 1e-6)
    return np.clip(np.rint(np.log(p / (1 - p)) / _LOGIT_STEP), -127, 127).astype(np.int8).tobytes()


def _from_bytes(content: bytes, kind: str, n_rows: int) -> Stack:
    if kind == "regression":
        return np.frombuffer(content, np.float16).astype(np.float32)
    p = 1 / (1 + np.exp(-_LOGIT_STEP * np.frombuffer(content, np.int8).astype(np.float32)))
    if len(p) == n_rows:
        return np.asarray(p)
    p = p.reshape(n_rows, -1)
    return np.asarray(p / p.sum(axis=1, keepdims=True))
