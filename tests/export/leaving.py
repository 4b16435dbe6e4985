"""Tables with every kind of column, small predictors without a search, and ways to leave them."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from windvane.data.column_types import infer_schema
from windvane.data.files import to_frame
from windvane.data.target import encode_target
from windvane.data.task import Kind, Task
from windvane.evaluation.metrics import get_metric
from windvane.export.folder import write_folder
from windvane.models import TABLE_FAMILIES
from windvane.models.base import DataSplit, TrainingContext
from windvane.persistence import Predictor, build_manifest
from windvane.runtime.columns.table import Table
from windvane.runtime.ensemble import Ensemble, Member

CLASSES: dict[Kind, list[Any]] = {"binary": ["no", "yes"], "multiclass": [3, 5, 8], "regression": []}
KINDS = list(CLASSES)
SMALL = Table(np.zeros((9, 1)), n_numbers=1, cardinalities=())
# Every family with every kind of task that it is for.
PAIRS = [
    (name, kind)
    for name, family in TABLE_FAMILIES.items()
    for kind, classes in CLASSES.items()
    if family.supports(Task(kind, SMALL.n_rows, SMALL.n_columns, len(classes)), SMALL)
]

# Runs where importing windvane is an error: folder or file, table, result.
BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "windvane":
            raise ImportError("windvane is blocked")
sys.meta_path.insert(0, Block())
import pickle
import numpy as np, pandas as pd
frame = pd.read_pickle(sys.argv[2])
if sys.argv[1].endswith(".pickle"):
    with open(sys.argv[1], "rb") as file:
        model = pickle.load(file)
    raw, labels = getattr(model, "predict_proba", model.predict)(frame), model.predict(frame)
else:
    sys.path.insert(0, sys.argv[1])
    import predictor
    labels = predictor.predict(frame)
    raw = labels if predictor.load_model().classes is None else predictor.predict_proba(frame)
assert "windvane" not in sys.modules
np.savez(sys.argv[3], raw=raw, labels=labels.astype(str) if labels.dtype == object else labels)
"""


def make_frame(n: int = 160, seed: int = 0, *, rich: bool = False) -> pd.DataFrame:
    """Make numbers, booleans, small and large categories, with missing values; where rich, also what has no number."""
    rng = np.random.default_rng(seed)
    size = rng.normal(size=n)
    frame = pd.DataFrame(
        {
            "size": np.where(rng.random(n) < 0.1, np.nan, size * 100),
            "count": rng.integers(0, 50, n),
            "flag": rng.random(n) < 0.5,
            "same": 1.0,
            "colour": rng.choice(["red ", " green", "blue", "?", "NA"], n),
            "place": pd.Categorical(rng.choice([f"p{i}" for i in range(70)], n)),
            "answer": pd.Series(rng.choice([True, False, "maybe"], n), dtype=object),
        }
    )
    frame.loc[frame.index[3::11], "colour"] = None
    if not rich:
        return frame
    start = pd.Timestamp("2024-01-31 22:15")
    words = np.array(["alpha", "beta", "gamma", "delta", "straße", "x-y", "17"])
    frame["price"] = [f"{value:.3f}" if value > -1 else "n/a" for value in size]
    frame["when"] = [start + pd.Timedelta(hours=float(h)) for h in rng.integers(0, 9000, n)]
    frame["day"] = pd.Series([f"{d:%d/%m/%Y}" for d in frame["when"]], dtype=object)
    frame["zoned"] = frame["when"].dt.tz_localize("Europe/Berlin", ambiguous="NaT", nonexistent="NaT")
    frame["took"] = pd.to_timedelta(rng.integers(0, 10_000, n), unit="s")
    frame["note"] = [" ".join(rng.choice(words, rng.integers(4, 9))) for _ in range(n)]
    for name in ("when", "day", "took", "note"):
        frame.loc[frame.index[rng.random(n) < 0.1], name] = None
    return frame


def changed(frame: pd.DataFrame) -> pd.DataFrame:
    """Make another table of the same kind: other order, one more column, values that training never saw."""
    other = frame.iloc[::-1].assign(more=1)
    other["colour"] = other["colour"].where(np.arange(len(other)) % 9 > 0, "violet")
    other.loc[other.index[5], "size"] = np.inf
    return other[sorted(other.columns)]


def make_target(frame: pd.DataFrame, kind: Kind) -> Any:
    score = np.nan_to_num(frame["size"]) / 100 + (frame["colour"] == "blue") + frame["count"] / 30
    if kind == "regression":
        return 1000 + 20 * score.to_numpy()
    k = len(CLASSES[kind])
    return np.array(CLASSES[kind], dtype=object if kind == "binary" else None)[
        np.searchsorted(np.quantile(score, np.arange(1, k) / k), score)
    ]


def families_of(kind: Kind) -> list[str]:
    return [family for family, task in PAIRS if task == kind]


def make_predictor(
    folder: Path,
    X: Any,
    y: Any,
    kind: Kind,
    members: Sequence[tuple[str, dict[str, Any]]],
    *,
    folds: int = 2,
    weight: Any = None,
    iterations: int = 8,
    log_link: bool = False,
    calibrated: bool = True,
    **ensemble: Any,
) -> Predictor:
    """Train one or two folds of each member a little and keep them as a run does.

    `calibrated`: members of classifiers have temperatures.
    """
    frame = to_frame(X)
    schema = infer_schema(frame)
    table = schema.transform(frame)
    target, classes = encode_target(y, "regression" if kind == "regression" else "classification")
    task = Task(kind, table.n_rows, table.n_columns, len(CLASSES[kind]), log_link=log_link)
    whole = DataSplit(table, target, weight)
    fold, models, folders, records = np.arange(len(target)) % 2, [], [], []
    weights = np.arange(1, len(members) + 1) / np.arange(1, len(members) + 1).sum()
    for number, (family, config) in enumerate(members):
        places = [folder / f"{number:05d}" / f"fold_{i}" for i in range(folds)]
        for i, place in enumerate(places):
            place.mkdir(parents=True)
            train, valid = (whole.take(np.flatnonzero(chosen)) for chosen in (fold != i, fold == i))
            model = TABLE_FAMILIES[family].create_model(config, train, valid, TrainingContext(task, seed=i))
            model.train_until(iterations)
            model.save(place)
        models.append([TABLE_FAMILIES[family].load(place, TrainingContext(task, 0)) for place in places])
        folders.append(places)
        temperature = (0.6, 1.4)[number % 2] if calibrated and kind != "regression" else 1.0
        records.append(Member(number, "checkpoint_0000", family, float(weights[number]), temperature=temperature))
    metric = get_metric("auto", task, classes)
    return Predictor(
        schema, classes, Ensemble(tuple(records), 0.1, **ensemble), models, task=task, metric=metric, folders=folders
    )


def ours(predictor: Predictor, X: Any) -> tuple[Any, Any]:
    """Probabilities or numbers, and labels or numbers."""
    table = predictor.schema.transform(to_frame(X))
    return predictor.predict_raw(table), predictor.predict_table(table)


def export(predictor: Predictor, folder: Path) -> None:
    """Export as an estimator does."""
    p = predictor
    manifest = build_manifest("AutoClassifier", p.task, p.schema, p.classes, p.metric, own_metric=False)
    write_folder(manifest, predictor, folder)


def program(folder: Path) -> Any:
    """Import the program of an exported folder afresh."""
    sys.path.insert(0, str(folder))
    try:
        importlib.invalidate_caches()
        return importlib.import_module("predictor")
    finally:
        while str(folder) in sys.path:
            sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] in ("predictor", "runtime")]:
            sys.modules.pop(name, None)


def elsewhere(model: Path, X: Any, work: Path) -> tuple[Any, Any]:
    """Predict in a process that cannot import windvane: with an exported folder, or a pickle."""
    pd.to_pickle(X, work / "table.pickle")
    words = [
        sys.executable,
        "-W",
        "error",
        "-c",
        BLOCKED,
        str(model),
        str(work / "table.pickle"),
        str(work / "out.npz"),
    ]
    done = subprocess.run(words, capture_output=True, text=True, cwd=work)
    assert done.returncode == 0, done.stderr
    with np.load(work / "out.npz") as found:
        return found["raw"], found["labels"]


def same(found: Any, wanted: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


def agrees(model: Any, predictor: Predictor, X: Any) -> Any:
    """Hold what has left windvane to the predictor; gives it back."""
    raw, labels = ours(predictor, X)
    tolerance = tolerance_of(predictor)
    if predictor.task.is_classification:
        same(model.predict_proba(X), raw, tolerance)
        np.testing.assert_array_equal(model.predict(X), labels)
    else:
        same(model.predict(X), labels, tolerance)
    return model


def tolerance_of(predictor: Predictor) -> float:
    """How far scikit-learn may be from families that compute in single precision."""
    return 1e-5 if any(member.family in ("network", "xgboost") for member in predictor.ensemble.members) else 1e-12
