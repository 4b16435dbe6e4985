from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from windvane import AutoClassifier, InputError, load


@pytest.fixture(scope="module")
def model() -> AutoClassifier:
    X, y = load_iris(return_X_y=True)
    return AutoClassifier(n_trials=2, n_jobs=1, random_state=0, families=["linear"], verbose=0).fit(X, y)


@pytest.mark.parametrize("name", ["leaderboard", "report", "save", "export", "to_sklearn", "explain"])
def test_a_model_that_is_not_fitted_raises(name: str, tmp_path: Path) -> None:
    words: list[Any] = [] if name in ("leaderboard", "to_sklearn") else [tmp_path / "new.html"]
    with pytest.raises(NotFittedError):
        getattr(AutoClassifier(), name)(*words)
    with pytest.raises(NotFittedError):
        _ = AutoClassifier().performance_over_time_
    assert not any(tmp_path.iterdir())


def test_the_manifest_is_that_of_the_estimator(model: AutoClassifier, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    facts = json.loads((tmp_path / "saved" / "manifest.json").read_text())
    assert (facts["estimator"], facts["metric"], facts["own_metric"]) == ("AutoClassifier", "log_loss", False)
    assert facts["task"]["n_classes"] == 3


def test_each_way_out_predicts_the_same(model: AutoClassifier, tmp_path: Path) -> None:
    X, _ = load_iris(return_X_y=True)
    wanted = model.predict_proba(X)
    model.save(tmp_path / "saved")
    np.testing.assert_array_equal(load(tmp_path / "saved").predict_proba(X), wanted)
    np.testing.assert_allclose(model.to_sklearn().predict_proba(X), wanted, rtol=0, atol=1e-12)
    assert model.report(tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_first_fit_of_a_process_can_be_deleted() -> None:
    """optuna keeps the errors of its first import, whose frames must not hold the estimator and its data."""
    script = """
import gc, weakref
from sklearn.datasets import load_iris
from windvane import AutoClassifier
X, y = load_iris(return_X_y=True)
model = AutoClassifier(n_trials=1, n_jobs=1, random_state=0, verbose=0, families=["linear"]).fit(X, y)
alive = weakref.ref(model)
del model
gc.collect()
assert alive() is None
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_predictions_are_explained_with_and_without_the_data(model: AutoClassifier, tmp_path: Path) -> None:
    X, _ = load_iris(return_X_y=True)
    found = model.explain(X[:5], label=2, time_budget=1)
    np.testing.assert_allclose(found.base + found.values.sum(axis=1), model.predict_proba(X[:5])[:, 2], atol=1e-9)
    assert list(found.values) == ["x0", "x1", "x2", "x3"]
    saved = load(model.save(tmp_path / "model") or tmp_path / "model")
    with pytest.raises(InputError, match="background is needed"):
        saved.explain(X[:5])
    again = saved.explain(X[:5], label=2, background=X, time_budget=1)
    np.testing.assert_allclose(again.prediction, found.prediction, atol=1e-9)
