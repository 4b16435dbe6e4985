import numpy as np
import pandas as pd
import pytest

from windvane.data.column_types import infer_schema
from windvane.data.task import Task
from windvane.evaluation.columns.time_order import random_folds_flatter
from windvane.evaluation.metrics import get_metric

N = 1200
rng = np.random.default_rng(0)
DAYS = pd.date_range("2021-01-01", periods=N)
WALK = np.cumsum(rng.normal(size=N))
FRAME = pd.DataFrame({"day": DAYS, "a": rng.normal(size=N), "b": rng.choice(["x", "y"], size=N)})


def warning(frame, target, kind="regression"):
    schema = infer_schema(frame)
    task = Task(kind, len(target), frame.shape[1], {"regression": 0, "binary": 2, "multiclass": 3}[kind])
    metric = get_metric("auto", task, None if kind == "regression" else np.arange(task.n_classes))
    return random_folds_flatter(schema, schema.transform(frame), np.asarray(target), task, metric)


def test_a_random_walk_is_told_by_its_neighbours():
    """A day is easy between its neighbours, and hard after all of them; so it is when the rows are in no order."""
    text = warning(FRAME, WALK)
    assert "'day' dates the rows" in text
    assert "on random rows, but RMSE" in text
    order = rng.permutation(N)
    assert warning(FRAME.iloc[order].reset_index(drop=True), WALK[order]) is not None


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_classes(kind):
    quantiles = [0.5] if kind == "binary" else [0.3, 0.6]
    walk = np.sin(np.arange(N) / 40) + 0.01 * WALK
    codes = np.searchsorted(np.quantile(walk, quantiles), walk)
    assert "on the latest third" in warning(FRAME, codes, kind)


@pytest.mark.parametrize(
    ("frame", "target"),
    [
        (FRAME, 3 * FRAME["a"] + rng.normal(size=N)),  # nothing depends on the time
        (FRAME.drop(columns="day"), WALK),
        (FRAME.assign(day=FRAME["day"].where(FRAME.index % 5 > 0)), WALK),  # a fifth is missing
        (FRAME.assign(day=DAYS[np.arange(N) % 10]), WALK),  # ten dates
        (FRAME[:200], WALK[:200]),
    ],
)
def test_nothing_to_say(frame, target):
    assert warning(frame, target) is None
