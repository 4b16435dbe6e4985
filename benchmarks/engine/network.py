"""The family "network" against "mlp" at equal CPU seconds, on tables that no other benchmark uses.

Claim: see docs/decisions.md; "table" prints log loss or root mean squared error of "network" divided by that of "mlp",
at the same CPU seconds for all folds together (fits alone, one thread; encoding counts, prediction does not).
Hardware: any; CPU seconds are counted. Repeats: 1; five folds of three quarters of each table, the rest is for test.
Commands:
    python -m benchmarks.engine.network run mlp network
    python -m benchmarks.engine.network run --folds 2 --tables vowel 'network {"width": 256}'
    python -m benchmarks.engine.network table
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from benchmarks.data import check_not_reserved, read_table
from benchmarks.markdown import table_lines
from benchmarks.result_table import results_of
from windvane.data.column_types import infer_schema
from windvane.data.target import encode_target
from windvane.data.task import Task
from windvane.models import FAMILIES
from windvane.models.base import DataSplit, TrainingContext

RESULTS = results_of(__file__, ("table", "folds", "entry"))
NAMES = (
    *("arrhythmia", "cnae9", "coil20_images", "credit_approval", "har_dumbbell", "leaf_flavia", "lending_club"),
    *("madelon", "texture", "vowel", "airfare", "bank32nh", "fifa_value", "life_expectancy", "puma32H", "stock"),
)
check_not_reserved(NAMES)
BUDGETS = (1, 2, 5)  # CPU seconds of all folds
FOLDS = 2  # of the five, in the results
# Configurations of the network that ran on some tables, beside its defaults: tables -> configurations.
MISH, WITH_DROPOUT = '{"activation": "mish"}', '{"activation": "mish", "dropout": 0.15'
VARIED = {
    ("arrhythmia", "cnae9", "credit_approval", "leaf_flavia", "lending_club", "vowel"): (
        *('{"dropout": 0.0}', '{"embedding": "none"}', '{"learning_rate": 0.015}', MISH),
        *('{"width": 256}', '{"scale": "quantile"}'),
    ),
    ("airfare", "puma32H", "stock"): (
        *(MISH, WITH_DROPOUT + "}", WITH_DROPOUT + ', "embedding": "none"}', WITH_DROPOUT + ', "width": 256}'),
        *(WITH_DROPOUT + ', "scale": "quantile"}', WITH_DROPOUT + ', "learning_rate": 0.03}'),
    ),
    ("life_expectancy",): (MISH, WITH_DROPOUT + "}"),
    ("bank32nh",): (MISH,),
}


def plan() -> list[tuple[Any, ...]]:
    varied = [(table, FOLDS, f"network {one}") for tables, ones in VARIED.items() for table in tables for one in ones]
    return [*product(NAMES, (FOLDS,), ("mlp", "network")), *varied]


def load(name: str) -> tuple[Task, DataSplit, DataSplit]:
    """Read a table; three quarters to learn from and a quarter to test."""
    X, y, index = read_table(name)
    classes = index["task"] != "regression"
    rows, test = train_test_split(np.arange(len(y)), test_size=0.25, random_state=0, stratify=y if classes else None)
    schema = infer_schema(X.iloc[rows])
    table = schema.transform(X)
    target, labels = encode_target(y, "classification" if classes else "regression")
    task = Task(index["task"], len(rows), table.n_columns, len(labels) if labels is not None else 0)
    learn, held_out = (DataSplit(table.take(chosen), target[chosen]) for chosen in (rows, test))
    return task, learn, held_out


def find_loss(found: Any, target: Any, task: Task) -> float:
    """Log loss, or root mean squared error in units of the target's standard deviation."""
    if task.is_classification:
        return float(-np.mean(np.log(np.maximum(found[np.arange(len(target)), target], 1e-15))))
    return float(np.sqrt(np.mean((found - target) ** 2)) / np.std(target))


def measure(name: str, n_folds: int, entry: str, most: float) -> dict[str, Any]:
    """Grow some of five folds step by step: CPU seconds, out-of-fold loss and test loss after each."""
    family, _, words = entry.partition(" ")
    config = json.loads(words or "{}")
    task, learn, held_out = load(name)
    kind = StratifiedKFold if task.is_classification else KFold
    folds = list(kind(5, shuffle=True, random_state=0).split(learn.target, learn.target))[:n_folds]
    seconds, models, curve = 0.0, [], []
    for i, (train, valid) in enumerate(folds):
        parts = [learn.take(rows) for rows in (train, valid)]
        begin = time.process_time()
        models.append(
            (FAMILIES[family].create_model(config, parts[0], parts[1], TrainingContext(task, i, 1, 5)), parts[1])
        )
        seconds += time.process_time() - begin
    for step in FAMILIES[family].checkpoint_iterations(config, task):
        begin = time.process_time()
        for model, _ in models:
            model.train_until(step)
        seconds += time.process_time() - begin
        valid = [find_loss(model.predict(part.table), part.target, task) for model, part in models]
        test = np.mean([model.predict(held_out.table) for model, _ in models], axis=0)
        curve.append(
            {"step": step, "cpu": seconds, "valid": np.mean(valid), "test": find_loss(test, held_out.target, task)}
        )
        curve[-1]["best"] = float(np.mean([model.best_iteration for model, _ in models]))
        if seconds > most or all(model.finished for model, _ in models):
            break
    return {"table": name, "folds": n_folds, "entry": entry, "curve": curve}


def at(curve: list[dict[str, float]], budget: float, key: str) -> float:
    """Return the value at the last step within a budget."""
    within = [point[key] for point in curve if point["cpu"] <= budget]
    return within[-1] if within else np.nan


def table(n_folds: int, key: str, reference: str) -> None:
    """Print ratios of losses as markdown, a line for each table, and their geometric means."""
    rows = []
    for name in NAMES:
        known = {
            row["entry"]: row["curve"] for row in RESULTS.rows() if (row["table"], row["folds"]) == (name, n_folds)
        }
        for entry in known:
            if entry != reference and reference in known:
                ratios = [at(known[entry], b, key) / at(known[reference], b, key) for b in (*BUDGETS, np.inf)]
                seconds = [known[chosen][-1]["cpu"] for chosen in (reference, entry)]
                rows.append([entry, name, at(known[reference], np.inf, key), *ratios, *seconds])
    columns = ["entry", "table", reference, *(f"{b} s" for b in BUDGETS), "end", "cpu of reference", "cpu"]
    found = pd.DataFrame(rows, columns=columns).round(3)
    print(*table_lines(found.columns, found.to_numpy().tolist()), "", sep="\n")
    compared = found.set_index("entry")[[*(f"{b} s" for b in BUDGETS), "end"]]
    means = np.exp(compared.map(np.log).groupby(level=0).mean()).round(3)
    better, worse = ((compared < 0.995).groupby(level=0).sum(), (compared > 1.005).groupby(level=0).sum())
    texts: Any = means.astype(str) + " (" + better.astype(str) + " : " + worse.astype(str) + ")"
    texts = texts.reset_index()
    print(*table_lines(texts.columns, texts.to_numpy().tolist()), "", sep="\n")


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("entries", nargs="*", default=["mlp", "network"], help="family, then its configuration as JSON")
    parser.add_argument("--tables", nargs="+", default=list(NAMES))
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--most", type=float, default=30.0, help="CPU seconds after which no further step begins")
    parser.add_argument("--key", choices=["valid", "test"], default="test")
    parser.add_argument("--reference", default="mlp")
    given = parser.parse_args(words)
    if given.command == "run":
        RESULTS.fill(product(given.tables, (given.folds,), given.entries), partial(measure, most=given.most))
    else:
        table(given.folds, given.key, given.reference)


if __name__ == "__main__":
    main()
