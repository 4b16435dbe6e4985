"""Models in scikit-learn's words; tests/export/test_leaving.py holds every family and configuration to them."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from leaving import make_frame, make_predictor, make_target, part, same
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.neighbors import KNeighborsClassifier

from windvane.data.encoders import Encoder
from windvane.data.task import Kind
from windvane.export.builders import BUILDERS, has_even_weights, linear_classifier
from windvane.export.families import Kept
from windvane.models import FAMILIES
from windvane.models.base import Setting
from windvane.predictor import Predictor


def keep(predictor: Predictor) -> Kept:
    model, folder = predictor.models[0][0], predictor.folders[0][0]
    return Kept(model, folder, Encoder.load(folder), predictor.task)


def make(family: str, kind: Kind, folder: Path, config: dict[str, Any] | None = None) -> Kept:
    X = make_frame()[["size", "count", "flag"]]
    y = make_target(make_frame(), kind)
    return keep(make_predictor(folder, X, y, kind, [(family, config or {})], folds=1))


def test_linear_classifier_is_as_if_fitted() -> None:
    rng = np.random.default_rng(0)
    coefficients, intercept, X = rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=(5, 2))
    model = linear_classifier(coefficients, intercept, np.array(["a", "b", "c"]))
    powers = np.exp(X @ coefficients.T + intercept)
    same(model.predict_proba(X), powers / powers.sum(axis=1, keepdims=True))
    assert set(model.predict(X)) <= {"a", "b", "c"}


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_neighbours_are_those_of_scikit_learn_with_one_more(kind: Kind, tmp_path: Path) -> None:
    kept = make("neighbours", kind, tmp_path, {"n_neighbours": 7, "weights": "uniform"})
    model = BUILDERS["neighbours"](kept)
    rows, target = kept.model.rows, kept.model.target
    other = KNeighborsClassifier(7).fit(rows, target).predict_proba(rows[:20])
    prior = np.bincount(target) / len(target)
    same(model.predict_proba(rows[:20]), (7 * other + prior) / 8)


def test_neighbours_by_distance_can_be_pickled(tmp_path: Path) -> None:
    kept = make("neighbours", "regression", tmp_path)
    model = BUILDERS["neighbours"](kept)
    rows = kept.model.rows[:20]
    same(pickle.loads(pickle.dumps(model)).predict(rows), model.predict(rows))
    assert callable(model.weights) and b"windvane" not in pickle.dumps(model)


def test_even_weights() -> None:
    def even(target: list[float], weight: list[float], classes: tuple[int, ...]) -> bool:
        return has_even_weights(SimpleNamespace(target=np.array(target), weight=np.array(weight), classes=classes))

    assert even([0, 1, 1], [2.0, 3.0, 3.0], (0, 1))
    assert not even([0, 1, 1], [2.0, 3.0, 2.0], (0, 1))
    assert not even([0, 1, 1], [0.0, 3.0, 3.0], (0, 1))
    assert even([0.1, 1.5, 1.0], [2.0, 2.0, 2.0], ())
    assert not even([0.1, 0.1, 1.0], [3.0, 3.0, 2.0], ())


def test_histogram_boosting_knows_a_category_of_which_training_saw_nothing(tmp_path: Path) -> None:
    X = pd.DataFrame({"a": np.arange(80.0), "b": pd.Categorical(["x", "y"] * 40), "c": ["u", "v", "w", "x"] * 20})
    predictor = make_predictor(tmp_path, X, X["a"] % 4, "regression", [("hist_gradient_boosting", {})], folds=1)
    kept = keep(predictor)
    table = predictor.schema.encode(X)
    wanted = kept.model.predict(table)
    model = BUILDERS["hist_gradient_boosting"](kept)
    assert isinstance(model, HistGradientBoostingRegressor)
    assert (model.n_iter_, model.n_features_in_) == (kept.model.best_iteration, 3)
    mean, spread = kept.units
    same(model.predict(table.matrix) * spread + mean, wanted)
    # Where the training part has no value of a category at all.
    empty = part(table, X["a"].to_numpy() % 4, np.arange(80), None)
    empty.table.matrix[:, 1] = np.nan
    family = FAMILIES["hist_gradient_boosting"]
    again: Any = family.start({}, empty, empty, Setting(predictor.task, 0))
    again.grow(8)
    again.save(tmp_path)
    kept = Kept(again, tmp_path, Encoder.load(tmp_path), predictor.task)
    mean, spread = kept.units
    found = BUILDERS["hist_gradient_boosting"](kept).predict(table.matrix)
    same(found * spread + mean, again.predict(table))


def test_determinants_far_apart_do_not_overflow() -> None:
    means, maps = np.zeros((2, 3)), np.stack([np.eye(3) * 1e-200, np.eye(3) * 1e150])
    offsets = np.array([-1400.0, 1000.0])
    model = SimpleNamespace(linear=False, sharpness=0.5, means=means, maps=maps, offsets=offsets, classes=np.arange(2))
    found = BUILDERS["discriminant"](SimpleNamespace(model=model, task=None))  # type: ignore[arg-type]
    assert isinstance(found, QuadraticDiscriminantAnalysis)
    scores = found.decision_function(np.zeros((1, 3)))
    np.testing.assert_allclose(scores, [0.5 * 2400.0])
