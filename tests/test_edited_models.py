"""Saved models that somebody edited, with hashes that fit: they predict something possible, or are refused."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from windvane import AutoClassifier, AutoRegressor, load
from windvane.errors import WindvaneError
from windvane.models import DEFAULT
from windvane.models.base import Config
from windvane.runtime.predictor import load_predictor
from windvane.runtime.serialization import digest, read_sealed, write_sealed
from windvane.search.strategy.portfolio import Case, PortfolioEntry, write_portfolio

JUNK: tuple[Any, ...] = (None, True, False, -1, 0, 1, 2, 7, 0.5, 1e308, float("nan"), float("inf"), 2**70)
JUNK += ("", "x", "%", "date", "number", "category", "text", [], {}, [[]], [0], ["x"], {"a": 1})
KINDS = ("multiclass", "binary", "regression")
# What is edited are the files, not how well they predict.
QUICK: dict[str, Config] = {"catboost": {"learning_rate": 0.2, "depth": 3}, "lightgbm": {"learning_rate": 0.2}}


def make_frame(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    words = rng.choice(["wind", "vane", "sail", "keel", "mast", "hull"], (n, 4))
    return pd.DataFrame(
        {
            "number": rng.normal(size=n).round(3),
            "gaps": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)),
            "color": rng.choice(["red", "green", "blue", "pink"], n),
            "day": pd.date_range("2024-01-01", periods=n).strftime("%d.%m.%Y"),
            "price": [f"{1000 + 10 * i:,}.50 €" for i in rng.permutation(n)],
            "story": [" ".join(row) + f" number {i}" for i, row in enumerate(words)],
        }
    )


def make_target(frame: pd.DataFrame, kind: str) -> Any:
    score = frame["number"] + (frame["color"] == "red")
    if kind == "regression":
        return score.to_numpy()
    return pd.cut(score, [-9, 0, 9] if kind == "binary" else [-9, 0, 1, 9], labels=False).map("abc".__getitem__)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A saved model of one family, for each kind of target."""
    root = tmp_path_factory.mktemp("saved")
    quick = root / "quick.json"
    entries = [PortfolioEntry(family, QUICK.get(family, {})) for family in DEFAULT]
    write_portfolio(quick, [Case(tuple(entries))], made="for these tests")
    settings: dict[str, Any] = {"n_trials": 1, "n_jobs": 1, "random_state": 0, "verbose": 0, "policy": "cv3"}

    @cache
    def make(family: str, kind: str) -> Path:
        frame = make_frame(90)
        made = AutoRegressor if kind == "regression" else AutoClassifier
        model = made(families=[family], portfolio=quick, **settings)
        model.fit(frame, make_target(frame, kind))
        model.save(root / family / kind)
        return root / family / kind

    return make


def places(record: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value in a record."""
    items = record.items() if isinstance(record, dict) else enumerate(record) if isinstance(record, list) else ()
    return [way for key, value in items for way in ((*path, key), *places(value, (*path, key)))]


def edit(record: Any, way: tuple[Any, ...], change: str, junk: Any) -> Any:
    """Return a record with one value replaced, deleted, doubled, or under another name."""
    edited = copy.deepcopy(record)
    holder = edited
    for key in way[:-1]:
        holder = holder[key]
    value = holder[way[-1]]
    if change == "delete":
        del holder[way[-1]]
    elif change == "rename" and isinstance(holder, dict):
        holder[f"{way[-1]}s"] = holder.pop(way[-1])
    elif change == "more" and isinstance(value, list):
        holder[way[-1]] = [*value, *value[-1:]]
    elif change == "more" and isinstance(value, int | float):
        holder[way[-1]] = value + 1
    else:
        holder[way[-1]] = junk
    return edited


def write_with_hash(folder: Path, name: str, content: Any) -> None:
    """Write a JSON file of a saved model, and renew the hashes that cover it."""
    manifest = read_sealed(folder / "manifest.json")
    if name == "manifest.json":
        manifest = content
    else:
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
        manifest["files"][name] = digest(folder / name)
    write_sealed(folder / "manifest.json", manifest)


def json_files(folder: Path) -> dict[str, Any]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.json"))
    return {
        name: read_sealed(folder / name) if name == "manifest.json" else json.loads((folder / name).read_text())
        for name in names
    }


def edits(content: Any) -> list[tuple[Any, ...]]:
    """Places to edit: all but the list of hashes, which is renewed."""
    return [way for way in places(content) if way[0] != "files"]


def try_it(folder: Path, kind: str) -> None:
    """Load and predict: possible predictions, or an error of windvane."""
    frame = make_frame(5, seed=1)
    for opened in (lambda: load(folder, n_jobs=1), lambda: load_predictor(folder)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # such as of columns that are matched by position
            try:
                model: Any = opened()
                found = model.predict(frame) if kind == "regression" else model.predict_proba(frame)
            except WindvaneError:
                continue
        if kind == "regression":
            assert found.shape == (5,) and not np.isnan(found).any()
        else:
            assert found.shape == (5, 2 if kind == "binary" else 3) and np.isfinite(found).all()
            np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", DEFAULT)
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_an_edited_model_predicts_or_is_refused(
    family: str, kind: str, saved: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    folder = tmp_path_factory.mktemp("edited") / "model"
    shutil.copytree(saved(family, kind), folder)
    contents = json_files(folder)
    name = data.draw(st.sampled_from(sorted(contents)), label="file")
    way = data.draw(st.sampled_from(edits(contents[name])), label="place")
    change = data.draw(st.sampled_from(["replace", "replace", "delete", "rename", "more"]), label="change")
    write_with_hash(folder, name, edit(contents[name], way, change, data.draw(st.sampled_from(JUNK), label="junk")))
    try_it(folder, kind)
    shutil.rmtree(folder)
