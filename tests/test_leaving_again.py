"""A run whose best members scikit-learn cannot express: another ensemble of it leaves, and says what that costs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from windvane import AutoClassifier, load
from windvane.errors import InputError
from windvane.search.trial import Trial


def made(n: int = 300) -> tuple[pd.DataFrame, np.ndarray]:
    """Classes that follow crossed categories, at which CatBoost is good."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=n), "b": rng.choice(list("uvwxyz"), n), "c": rng.choice(list("pq"), n)})
    return X, np.where(((X["b"] < "x") == (X["c"] == "p")) | (X["a"] > 1.5), "yes", "no")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> AutoClassifier:
    X, y = made()
    found = AutoClassifier(
        120,
        n_trials=6,
        families=["catboost", "linear", "extra_trees"],
        n_jobs=1,
        verbose=0,
        random_state=0,
        policy="holdout",
        run_dir=tmp_path_factory.mktemp("leaving") / "run",
    ).fit(X, y)
    assert any(member.family == "catboost" for member in found.predictor_.ensemble.members)
    return found


def test_a_second_ensemble_leaves_and_its_score_is_stated(model: AutoClassifier) -> None:
    X, y = made()
    with pytest.warns(UserWarning, match="second ensemble") as caught:
        plain = model.to_sklearn()
    (text,) = [str(warning.message) for warning in caught]
    (scores,) = re.findall(r"rows: ROC AUC ([\d.]+) there, ([\d.]+) for the whole ensemble", text)
    stated, whole = map(float, scores)
    assert whole == pytest.approx(1 - model.predictor_.ensemble.loss, rel=1e-4) and stated <= whole
    best = max(1 - trial.loss for trial in model.trials_ if trial.family != "catboost")
    assert stated >= best - 1e-5  # the selection is never worse than its best member
    assert set(plain.predict(X)) == {"yes", "no"}
    assert (plain.predict(X) == y).mean() > 0.5


def test_without_the_run_the_loss_is_unknown(model: AutoClassifier, tmp_path: Path) -> None:
    model.save(tmp_path / "saved")
    saved = load(tmp_path / "saved")
    members = {member.family for member in model.predictor_.ensemble.members}
    if members == {"catboost"}:
        with pytest.raises(InputError, match="CatBoost with categories"):
            saved.to_sklearn()
    else:
        with pytest.warns(UserWarning, match="not known here"):
            saved.to_sklearn()


def test_nothing_else_to_leave_with(tmp_path: Path) -> None:
    X, y = made(100)
    settings = {"n_trials": 1, "n_jobs": 1, "verbose": 0, "random_state": 0, "policy": "holdout"}
    alone = AutoClassifier(120, families=["catboost"], **settings).fit(X, y)
    with pytest.raises(InputError, match="CatBoost with categories"):
        alone.to_sklearn()
    assert isinstance(alone.trials_[0], Trial)
