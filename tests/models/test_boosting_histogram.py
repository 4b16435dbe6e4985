from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import Case, make_case
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from windvane.data.store import read_arrays, write_arrays
from windvane.data.table import Table
from windvane.errors import ModelFileError
from windvane.models import FAMILIES
from windvane.models.base import Part

FAMILY = FAMILIES["hist_gradient_boosting"]


def test_it_is_the_model_of_scikit_learn(case: Case) -> None:
    model: Any = case.start(FAMILY)
    model.grow(40)
    best = model.best_iteration
    classify = case.setting.task.is_classification
    kind = HistGradientBoostingClassifier if classify else HistGradientBoostingRegressor
    other = kind(max_iter=best, early_stopping=False, categorical_features=[4, 5], l2_regularization=1e-10)
    target = model._units.shrink(case.train.target)
    known, rows = case.train.table.matrix.copy(), case.test.table.matrix
    known[:, 3] = 0.0  # nothing but missing values, at which scikit-learn fails
    other.fit(known, target)
    expected = other.predict_proba(rows) if classify else model._units.expand(other.predict(rows))
    np.testing.assert_allclose(model.predict(case.test.table), expected, rtol=1e-9, atol=1e-12)


def test_portions_and_deadlines_change_nothing() -> None:
    case = make_case("multiclass", n=400)
    config = {"learning_rate": 0.3}
    one: Any = case.start(FAMILY, config)
    one.grow(512)
    assert one.finished and one.best_iteration < one.iterations < 512
    many: Any = case.start(FAMILY, config)
    for total in (1, 2, 5, 17, 60, 512):
        many.grow(total, until=time.monotonic() + 500)
    assert (many.iterations, many.best_iteration, many.finished) == (one.iterations, one.best_iteration, True)
    assert many.curve.losses == one.curve.losses and len(many.trees) == one.iterations
    np.testing.assert_array_equal(many.predict(case.test.table), one.predict(case.test.table))


def test_a_category_of_many_levels_becomes_target_means() -> None:
    rng = np.random.default_rng(0)
    n = 3000
    codes = rng.integers(0, 300, n).astype(float)
    effect = rng.normal(size=300)
    table = Table(np.column_stack([rng.normal(size=n), codes]), 1, (300,))
    target = effect[codes.astype(int)] + rng.normal(size=n) / 10
    case = make_case("regression")
    part = Part(table, target)
    many = replace(case, train=part, valid=part, test=part)
    model: Any = many.start(FAMILY)
    model.grow(60)
    assert len(model.levels.ranks) == 0
    assert many.loss(model.predict(table)) < 0.1


def test_every_impossible_number_in_the_trees_is_refused(tmp_path: Path) -> None:
    case = make_case("binary")
    model = case.start(FAMILY)
    model.grow(8)
    model.save(tmp_path)
    path = tmp_path / "trees.npz"
    arrays = read_arrays(path)
    inner = np.flatnonzero(arrays["nodes"]["is_leaf"] == 0)
    split = np.flatnonzero((arrays["nodes"]["is_categorical"] != 0) & (arrays["nodes"]["is_leaf"] == 0))
    assert len(split)
    for field, row, value in [
        ("left", inner[0], 10**6),
        ("right", inner[1], 0),
        ("left", inner[-1], 0),
        ("feature_idx", inner[0], 99),
        ("feature_idx", inner[0], -1),
        ("feature_idx", split[0], 3),
        ("bitset_idx", split[0], 10**6),
    ]:
        wrong = arrays["nodes"].copy()
        wrong[field][row] = value
        write_arrays(path, {**arrays, "nodes": wrong})
        with pytest.raises(ModelFileError):
            FAMILY.load(tmp_path, case.setting)
    for name in ("sizes", "bits", "per_round", "raw", "binned", "baseline"):
        write_arrays(path, {**arrays, name: np.concatenate([arrays[name], arrays[name]])[: len(arrays[name]) + 1]})
        with pytest.raises(ModelFileError):
            FAMILY.load(tmp_path, case.setting)
    write_arrays(path, arrays)
    FAMILY.load(tmp_path, case.setting)
