"""Native files are right in other hands too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import catboost
import lightgbm as lgb
import numpy as np
from leaving import make_frame, make_predictor, make_target

from windvane.data.encoders import Encoder
from windvane.export.families import WRITERS, Kept
from windvane.export.members import OPENERS


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
