"""One changed file in a saved model, an export or a run: an error, or the predictions that there were before."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import windvane
from benchmarks.reliability.cases import Failure
from windvane.runtime.predictor import load_predictor
from windvane.search.run.run_directory import RunDirectory
from windvane.search.runner import open_run

FAMILIES = ("linear", "lightgbm", "extra_trees", "mlp", "network", "catboost")
JUNK: tuple[Any, ...] = (None, True, -1, 0, 1e308, float("nan"), float("inf"), "", "x", [], {}, [[]], {"a": 1}, 2**70)


@dataclass(frozen=True)
class Subject:
    """A fitted model in all forms that it is kept in."""

    root: Path  # holds the folders "model", "export" and "run"
    frame: pd.DataFrame
    expected: Any
    matrix: Any
    target: Any


@cache
def subject() -> Subject:
    """Fit once in a process."""
    rng = np.random.default_rng(0)
    n = 160
    frame = pd.DataFrame(
        {
            "number": rng.normal(size=n).round(3),
            "gaps": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)),
            "color": rng.choice(["red", "green", "bleu é", "x"], n),
            "day": pd.date_range("2024-01-01", periods=n),
        }
    )
    y = np.where(frame["number"] + (frame["color"] == "red") + rng.normal(0, 0.5, n) > 0.3, "yes", "no")
    root = Path(tempfile.mkdtemp(prefix="windvane-campaign-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    model = windvane.AutoClassifier(
        n_trials=8, n_jobs=2, random_state=0, verbose=0, families=FAMILIES, policy="cv3", run_dir=root / "run"
    ).fit(frame, y)
    model.save(root / "model")
    model.export(root / "export")
    problem = open_run(RunDirectory(root / "run"), None, None).problem
    return Subject(root, frame, model.predict_proba(frame), np.array(problem.table.matrix), np.array(problem.target))


def mutate_file(seed: int, folder: Path) -> str:
    """Change one file without its hash, then open and predict."""
    rng = np.random.default_rng([1, seed])
    form = ("model", "export", "program", "run")[seed % 4]
    copy = folder / form
    shutil.copytree(subject().root / ("export" if form == "program" else form), copy)
    files = [path for path in sorted(copy.rglob("*")) if path.is_file() and path.name != "lock"]
    path = files[rng.integers(len(files))]
    word = f"{_mutate(path, files, rng)} {path.relative_to(copy)}"
    return _open(form, copy, word)


def _open(form: str, copy: Path, word: str) -> str:
    frame = subject().frame
    if form == "program":
        found = load_predictor(copy).predict_proba(frame)
        warned = False
    else:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model: Any = windvane.load(copy, n_jobs=1)
            found = model.predict_proba(frame)
        warned = any("damaged" in str(one.message) for one in caught)
    if not np.array_equal(found, subject().expected) and not (form == "run" and warned):
        raise Failure("wrong", f"{form}, {word}: other predictions, no word")
    if form == "run":  # what resuming reads
        problem = open_run(RunDirectory(copy), None, None).problem
        same = np.array_equal(problem.table.matrix, subject().matrix, equal_nan=True)
        if not same or not np.array_equal(problem.target, subject().target):
            raise Failure("wrong", f"run, {word}: resuming would train on other data")
    return f"{form}, {word}{', with a warning' if warned else ''}"


def _mutate(path: Path, files: list[Path], rng: np.random.Generator) -> str:
    content = bytearray(path.read_bytes())
    size = len(content)
    kinds = ["flip", "flip", "flip many", "truncate", "empty", "delete", "append", "zeros", "swap"]
    kind = str(rng.choice(kinds + ["edit"] * 4 * (path.suffix in (".json", ".jsonl"))))
    if kind == "delete":
        path.unlink()
        return kind
    if kind == "edit":
        lines = path.read_text(encoding="utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text("utf-8")]
        at = int(rng.integers(len(lines)))
        edited, word = _edit_json(json.loads(lines[at]), rng)
        lines[at] = json.dumps(edited)
        path.write_text("\n".join(lines), encoding="utf-8")
        return word
    if kind in ("flip", "flip many"):
        for at in rng.integers(max(1, size), size=1 if kind == "flip" else 20)[: size or 0]:
            content[at] ^= 1 << int(rng.integers(8))
    elif kind == "truncate":
        content = content[: int(rng.integers(max(1, size)))]
    elif kind == "empty":
        content = bytearray()
    elif kind == "append":
        content += rng.bytes(int(rng.integers(1, 50)))
    elif kind == "zeros":
        at = int(rng.integers(max(1, size)))
        content[at : at + 64] = bytes(len(content[at : at + 64]))
    else:
        content = bytearray(files[rng.integers(len(files))].read_bytes())
    path.write_bytes(content)
    return kind


def _edit_json(record: Any, rng: np.random.Generator) -> tuple[Any, str]:
    """Replace or delete one value somewhere in a record."""
    places: list[tuple[Any, Any, str]] = []

    def collect(value: Any, name: str) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, inner in items:
            places.append((value, key, f"{name}.{key}"))
            collect(inner, f"{name}.{key}")

    collect(record, "")
    if not places:
        return {"x": 1}, "edit"
    holder, key, name = places[rng.integers(len(places))]
    if rng.random() < 0.25:
        del holder[key]
        return record, f"delete {name} in"
    holder[key] = JUNK[rng.integers(len(JUNK))]
    return record, f"{name}={holder[key]!r} in"
