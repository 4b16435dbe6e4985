"""What the drivers of all systems share: reading the task, timing, writing the outcome.

A driver is started as ``python peer_SYSTEM.py FOLDER`` with the python of that system's
environment. The folder holds the split that ``compare.py`` wrote (``task.json``,
``train.parquet``, ``test.parquet``, ``y_train.npy``); the driver leaves ``outcome.json`` and
``prediction.npy`` there. It never sees the labels of the test part. The file runs on every
Python from 3.9 on, because the oldest system needs that version.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

SIZES = (1, 100, 10_000)
WARM_CALLS, TIMED_CALLS, SECONDS_PER_SIZE = 3, 20, 20.0

Predict = Callable[[pd.DataFrame], np.ndarray]


@dataclass(frozen=True)
class Task:
    """One table, split, as a system receives it."""

    kind: str  # "binary", "multiclass" or "regression"
    metric: str  # "roc_auc", "log_loss" or "rmse"
    n_classes: int  # labels are the integers below it; 0 for regression
    X_train: pd.DataFrame  # categories have the pandas category type
    X_test: pd.DataFrame
    y_train: np.ndarray
    seed: int  # the system's random state, where it takes one
    budget: int  # seconds to fit
    jobs: int  # cores to use
    scratch: Path  # folder for temporary files


class Driver(Protocol):
    """What the module of one system offers."""

    packages: Sequence[str]  # beside them `prepare`, what happens once per machine and is not timed, and `facts`

    def fit(self, task: Task) -> Any:
        """Fit under the budget; this call is timed."""

    def predictor(self, model: Any, task: Task) -> Predict:
        """Return what maps rows to probabilities (columns 0..k-1) or values."""


def read_task(folder: Path) -> Task:
    """Read the task that the runner wrote."""
    spec = json.loads((folder / "task.json").read_text())
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return Task(
        X_train=pq.read_table(folder / "train.parquet").to_pandas(),
        X_test=pq.read_table(folder / "test.parquet").to_pandas(),
        y_train=np.load(folder / "y_train.npy"),
        scratch=scratch,
        **spec,
    )


def full_width(probabilities: np.ndarray, classes: Sequence[int], n_classes: int) -> np.ndarray:
    """Put the columns of `probabilities` in label order; classes that were left out get 0."""
    wide = np.zeros((len(probabilities), n_classes))
    wide[:, np.asarray(classes, dtype=int)] = np.asarray(probabilities, dtype=float)
    return wide


def sklearn_predictor(model: Any, task: Task) -> Predict:
    """Return the probabilities or values of a model that has the methods of scikit-learn."""
    if task.kind == "regression":
        return model.predict
    return lambda X: full_width(model.predict_proba(X), model.classes_, task.n_classes)


def time_prediction(predict: Predict, X: pd.DataFrame, rows: int) -> dict[str, float]:
    """Return the median seconds and the number of warm calls of `predict` on rows sampled from `X`."""
    # Warm-up and timed calls of a size stop after 20 s together, but each makes at least one.
    sample = X.iloc[np.random.default_rng(0).integers(len(X), size=rows)].reset_index(drop=True)
    stop = time.perf_counter() + SECONDS_PER_SIZE
    for _ in range(WARM_CALLS):
        predict(sample)
        if time.perf_counter() > stop:
            break
    seconds: list[float] = []
    while not seconds or (len(seconds) < TIMED_CALLS and time.perf_counter() < stop):
        start = time.perf_counter()
        predict(sample)
        seconds.append(time.perf_counter() - start)
    return {"median_s": float(np.median(seconds)), "calls": len(seconds)}


def run(driver: Driver) -> None:
    """Fit, predict the test part, time prediction; write the outcome after every step."""
    folder = Path(sys.argv[1])
    outcome: dict[str, Any] = {"versions": {name: version(name) for name in driver.packages}}

    def save() -> None:
        (folder / "outcome.json").write_text(json.dumps(outcome))

    try:
        task = read_task(folder)
        if hasattr(driver, "prepare"):
            driver.prepare(task)
        save()
        start = time.perf_counter()
        model = driver.fit(task)
        outcome["fit_s"] = time.perf_counter() - start
        if hasattr(driver, "facts"):
            outcome["facts"] = driver.facts(model, task)
        predict = driver.predictor(model, task)
        np.save(folder / "prediction.npy", np.asarray(predict(task.X_test), dtype=float))
        outcome["predict"] = {}
        save()
        for rows in SIZES:
            outcome["predict"][str(rows)] = time_prediction(predict, task.X_test, rows)
            save()
    except Exception:  # a failed system is a result, and the runner records it
        outcome["error"] = traceback.format_exc()
        save()
