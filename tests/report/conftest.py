"""Three small runs that the tests of the report read: two classes, many classes, a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from toys import HOSTILE_LABEL, HOSTILE_NAME

from windvane import AutoClassifier, AutoRegressor

SETTINGS = {"n_trials": 3, "n_jobs": 1, "random_state": 0, "verbose": 0, "policy": "cv3"}
FAMILIES = ["linear", "extra_trees", "lightgbm"]


def split(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every third row is for testing."""
    third = np.arange(len(frame)) % 3 == 0
    return frame[~third], frame[third]


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fitted classifier, and test rows; hostile names, a category, missing values."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X = X.iloc[:, :6].rename(columns={"mean radius": HOSTILE_NAME})
    rng = np.random.default_rng(0)
    X["colour"] = rng.choice(["<b>red</b>", "blue", None], len(X))
    X["constant"] = 1.0
    frame = X.assign(label=y.map({0: HOSTILE_LABEL, 1: "good"}))
    train, test = split(frame)
    folder = tmp_path_factory.mktemp("binary")
    model = AutoClassifier(families=FAMILIES, run_dir=folder / "run", **SETTINGS)
    model.fit(train.drop(columns="label"), train["label"])
    test.to_csv(folder / "test.csv", index=False)
    return model, test.drop(columns="label"), test["label"], folder


@pytest.fixture(scope="session")
def many() -> Any:
    """A fitted classifier of 20 classes without a lasting directory."""
    rng = np.random.default_rng(1)
    y = rng.integers(20, size=600)
    X = np.column_stack([y % 5, y // 5, rng.normal(size=len(y))]) + rng.normal(0, 0.3, (len(y), 3))
    model = AutoClassifier(families=["linear", "extra_trees"], **{**SETTINGS, "n_trials": 2})
    return model.fit(X[:400], [f"class {c:02d}" for c in y[:400]]), X[400:], [f"class {c:02d}" for c in y[400:]]


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A fitted regressor, and test rows."""
    X, y = load_diabetes(return_X_y=True, as_frame=True)
    train, test = split(X.assign(target=y))
    path: Path = tmp_path_factory.mktemp("regression") / "run"
    model = AutoRegressor(families=["linear", "lightgbm"], run_dir=path, **{**SETTINGS, "n_trials": 2})
    model.fit(train.drop(columns="target"), train["target"])
    return model, test.drop(columns="target"), test["target"]
