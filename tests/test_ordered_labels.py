"""Labels with an order, from fit to a saved and an exported model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from windvane import AutoClassifier, InputError, load

SETTINGS: dict[str, Any] = {"n_trials": 1, "n_jobs": 1, "random_state": 0, "verbose": 0, "policy": "cv3"}
LEVELS = ["low", "medium", "high", "very high"]


@pytest.fixture(scope="module")
def data() -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(240, 3)), columns=["a", "b", "c"])
    score = X["a"] + rng.normal(0, 1.2, len(X))
    y = pd.Series(pd.cut(score, [-9, -1.5, 0, 1.5, 9], labels=LEVELS, ordered=True), name="level")
    return X, y


@pytest.fixture(scope="module")
def model(data: Any) -> AutoClassifier:
    X, y = data
    return AutoClassifier(metric="ordinal_mae", families=["linear"], **SETTINGS).fit(X, y)


def test_classes_follow_the_order(model: AutoClassifier, data: Any) -> None:
    X, y = data
    assert list(model.classes_) == LEVELS
    assert model.predict_proba(X).shape == (len(X), 4)
    ranks = pd.Categorical(model.predict(X), LEVELS, ordered=True).codes
    assert model.score(X, y) == pytest.approx(-sk.mean_absolute_error(y.cat.codes, ranks))
    table = model.evaluate(X, y).metrics.set_index("metric")["score"]
    kappa = sk.cohen_kappa_score(y.cat.codes, ranks, labels=range(4), weights="quadratic")
    assert table["quadratic_kappa"] == pytest.approx(kappa)
    assert table["ordinal_mae"] == pytest.approx(-model.score(X, y))


def test_the_decision_is_the_median(model: AutoClassifier, data: Any) -> None:
    X, _ = data
    assert model.predictor_.ensemble.costs is not None
    median = (model.predict_proba(X).cumsum(axis=1) < 0.5).sum(axis=1)
    assert model.predict(X).tolist() == np.array(LEVELS)[median].tolist()
    assert (model.predict_proba(X).argmax(axis=1) != median).any()


def test_a_saved_model_keeps_the_order(model: AutoClassifier, data: Any, tmp_path: Path) -> None:
    X, y = data
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert list(loaded.classes_) == LEVELS
    assert loaded.predict(X).tolist() == model.predict(X).tolist()
    assert loaded.score(X, y.astype(str)) == model.score(X, y)
    assert "quadratic_kappa" in loaded.evaluate(X, y, metrics="quadratic_kappa").metrics["metric"].tolist()
    tuned = loaded.tune_threshold("quadratic_kappa", X=X, y=y)
    assert tuned.score >= tuned.default_score


def test_an_exported_model_decides_in_the_same_way(model: AutoClassifier, data: Any, tmp_path: Path) -> None:
    X, _ = data
    model.export(tmp_path / "exported")
    X.to_csv(tmp_path / "rows.csv", index=False)
    command = [sys.executable, "exported/predictor.py", "rows.csv"]
    found = subprocess.run(command, check=True, capture_output=True, cwd=tmp_path, text=True).stdout
    assert found.splitlines()[1:] == model.predict(X).tolist()
    with pytest.raises(InputError, match=r"costs of errors; classes in an order that is not the sorted one"):
        model.to_sklearn()


def test_an_onnx_file_decides_in_the_same_way(model: AutoClassifier, data: Any, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    X, _ = data
    session = runtime.InferenceSession(str(model.to_onnx(tmp_path / "model.onnx")))
    (found,) = session.run(["label"], {name: X[[name]].to_numpy() for name in X})
    assert np.ravel(found).tolist() == model.predict(X).tolist()


def test_the_order_is_part_of_the_data(data: Any, tmp_path: Path) -> None:
    X, y = data
    y = y.cat.rename_categories(["a", "b", "c", "d"])
    settings = {**SETTINGS, "families": ["linear"], "run_dir": tmp_path / "run"}
    AutoClassifier(metric="quadratic_kappa", **settings).fit(X, y)
    with pytest.raises(InputError, match="needs labels with an order"):
        AutoClassifier(metric="quadratic_kappa", **settings).fit(X, y.astype(str))
