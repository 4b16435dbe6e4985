"""Replays small enough to be kept with the project, and replays for another metric than the one that was collected."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from windvane.metalearning.cells import MIN_STEP, ends_rung
from windvane.metalearning.replay import LearningCurve, Stack, TableReplay, entry_id, losses_of, standardized
from windvane.search.strategy.portfolio import PortfolioEntry

_LOGIT_STEP = 0.1  # a byte holds logits from -12.7 to 12.7


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
            fraction = cells["fraction"].to_numpy()
            table.curves[entry_id(entry.family, entry.config)] = LearningCurve(
                *(entry.family, cells["cpu"].to_numpy(), cells["valid_loss"].to_numpy(), cells["test_loss"].to_numpy()),
                *(valid, test, bool(cells["done"].all()), None if np.isnan(fraction).any() else fraction),
            )
        tables.append(standardized(table))
    return tables, entries


def _ends_rung(curve: LearningCurve, i: int) -> bool:
    known = curve.fraction
    return known is not None and ends_rung(float(known[i - 1]) if i else 0.0, float(known[i]))


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
