"""Native files are right in other hands too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catboost
import lightgbm as lgb
import numpy as np
import pandas as pd
from leaving import make_frame, make_predictor, make_target

from windvane.data.encoders import Encoder
from windvane.data.store import read_arrays
from windvane.export.families import WRITERS, Kept
from windvane.export.members import OPENERS
from windvane.models.boosting_histogram import packed


def keep(family: str, folder: Path, best: int) -> tuple[Kept, dict[str, Any]]:
    X = make_frame()[["size", "count"]]
    predictor = make_predictor(
        folder / "kept", X, make_target(make_frame(), "regression"), "regression", [(family, {})]
    )
    model: Any = predictor.models[0][0]
    model.best_iteration = best
    kept = Kept(model, predictor.folders[0][0], Encoder.load(predictor.folders[0][0]), predictor.task)
    return kept, WRITERS[family](kept, folder)


def test_lightgbm_has_the_trees_that_predict_and_no_others(tmp_path: Path) -> None:
    kept, facts = keep("lightgbm", tmp_path, best=5)
    booster = lgb.Booster(model_file=tmp_path / "model.txt")
    assert (booster.num_trees(), kept.model.booster.num_trees()) == (5, 8)
    X = np.random.default_rng(0).normal(size=(9, 2))
    wanted = kept.model.booster.predict(X, num_iteration=5)
    np.testing.assert_array_equal(booster.predict(X), wanted)
    mean, spread = facts["units"]
    np.testing.assert_allclose(OPENERS["lightgbm"](tmp_path, {**facts, "n_classes": 0})(X), wanted * spread + mean)


def test_catboost_has_the_trees_that_predict_and_no_others(tmp_path: Path) -> None:
    kept, _ = keep("catboost", tmp_path, best=5)
    model = catboost.CatBoost().load_model(str(tmp_path / "model.cbm"))
    assert (model.tree_count_, kept.model.booster.tree_count_) == (5, 8)
    X = np.random.default_rng(0).normal(size=(9, 2))
    np.testing.assert_array_equal(model.predict(X), kept.model.booster.predict(X, ntree_end=5))


def test_histogram_boosting_has_the_trees_that_predict_with_sets_of_category_codes(tmp_path: Path) -> None:
    X = make_frame(800)[["size", "colour", "place", "count"]]
    y = X["colour"].map({"red": 3.0, "blue": 5.0}).astype(float).fillna(0.0) + X["place"].cat.codes % 3
    members: list[tuple[str, dict[str, Any]]] = [("hist_gradient_boosting", {})]
    predictor = make_predictor(tmp_path / "kept", X, y, "regression", members, folds=1)
    kept = Kept(predictor.models[0][0], predictor.folders[0][0], Encoder.load(predictor.folders[0][0]), predictor.task)
    model = kept.model
    model.best_iteration = 5
    facts = WRITERS["hist_gradient_boosting"](kept, tmp_path)
    arrays = read_arrays(tmp_path / "trees.npz")
    nodes = packed(model.trees[:5])["nodes"]
    assert len(arrays["sizes"]) == 5 < len(model.trees)
    split = (nodes["is_leaf"] == 0) & (nodes["is_categorical"] != 0)
    np.testing.assert_array_equal(arrays["which"] >= 0, split)
    assert len(arrays["sets"]) == split.sum() > 0
    assert set(arrays["feature"][split]) <= {2, 3}  # codes come after the two numbers
    rng = np.random.default_rng(0)
    codes = rng.integers(0, np.add(kept.encoder.cardinalities, 1), (300, 2)).astype(float)  # the last: never seen
    codes[rng.random((300, 2)) < 0.2] = np.nan
    features = np.hstack([np.where(rng.random((300, 2)) < 0.2, np.nan, rng.normal(size=(300, 2)) * 50), codes])
    wanted = model._finish(model._sum(model.levels(features), model.trees[:5]))
    found = OPENERS["hist_gradient_boosting"](tmp_path, {**facts, "n_classes": 0})(features)
    np.testing.assert_array_equal(found, wanted)


def test_a_category_may_have_as_many_levels_as_a_set_has_places(tmp_path: Path) -> None:
    n = 40 * 255
    X = pd.DataFrame({"level": pd.Categorical(np.arange(n) % 255)})
    members: list[tuple[str, dict[str, Any]]] = [("hist_gradient_boosting", {"min_samples_leaf": 1})]
    y = (np.arange(n) % 255 * 101 % 255).astype(float)
    predictor = make_predictor(tmp_path / "kept", X, y, "regression", members, folds=1)
    model, folder = predictor.models[0][0], predictor.folders[0][0]
    kept = Kept(model, folder, Encoder.load(folder), predictor.task)
    assert kept.encoder.cardinalities == (255,)
    facts = WRITERS["hist_gradient_boosting"](kept, tmp_path)
    assert len(read_arrays(tmp_path / "trees.npz")["sets"]) > 0
    predict = OPENERS["hist_gradient_boosting"](tmp_path, {**facts, "n_classes": 0})
    rows = np.append(np.arange(256.0), np.nan)[:, None]
    np.testing.assert_array_equal(predict(rows), model._finish(model._sum(model.levels(rows), model.trees)))
