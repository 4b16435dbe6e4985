"""Models in scikit-learn's words; tests/export/test_leaving.py holds every family and configuration to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from leaving import make_frame, make_predictor, make_target, same

from windvane.data.task import Kind
from windvane.export.builders import BUILDERS, FoldModel
from windvane.export.encoder_pipeline import linear_classifier
from windvane.persistence import Predictor


def keep(predictor: Predictor) -> FoldModel:
    model, folder = predictor.models[0][0], predictor.folders[0][0]
    return FoldModel(model, folder, predictor.task, predictor.ensemble.members[0].family)


def make(family: str, kind: Kind, folder: Path, config: dict[str, Any] | None = None) -> FoldModel:
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


def test_a_family_of_scikit_learn_is_its_own_estimator(tmp_path: Path) -> None:
    kept = make("sgd", "regression", tmp_path)
    built, own = BUILDERS["sklearn"](kept), kept.model.estimator
    assert built is not own  # whoever sets its output does not change the model
    assert str(built) == str(own)
    same(built.coef_, own.coef_)
