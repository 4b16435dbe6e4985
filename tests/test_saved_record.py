"""A loaded model, run or saved, answers whatever a fitted one does, or says what would have the answer."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from windvane import AutoRegressor, ModelFileError, RunError, load
from windvane.runtime.serialization import read_sealed, write_sealed
from windvane.search.run import unseen_rows


def made(n: int = 240, seed: int = 0) -> tuple[pd.DataFrame, Any]:
    rng = np.random.default_rng(seed)
    X = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n), "c": rng.choice(list("xyz"), n)})
    return X, 30_000 * X["a"] + 5_000 * (X["c"] == "x") + 9_000 * rng.normal(size=n)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[AutoRegressor, Path]:
    """A run with test rows, and the same model saved."""
    folder = tmp_path_factory.mktemp("record")
    model = AutoRegressor(
        120,
        n_trials=3,
        n_jobs=1,
        verbose=0,
        random_state=0,
        policy="holdout",
        families=["linear", "lightgbm"],
        run_dir=folder / "run",
    )
    X_test, y_test = made(seed=1)
    model.fit(*made(), X_test=X_test, y_test=y_test)
    model.save(folder / "saved")
    model.export(folder / "exported")
    return model, folder


def loaded(fitted: tuple[AutoRegressor, Path], way: str) -> Any:
    model, folder = fitted
    return pickle.loads(pickle.dumps(model)) if way == "pickled" else load(folder / way)


@pytest.mark.parametrize("way", ["run", "saved", "exported", "pickled"])
def test_what_a_fitted_model_has(fitted: tuple[AutoRegressor, Path], way: str, tmp_path: Path) -> None:
    model, other = fitted[0], loaded(fitted, way)
    pd.testing.assert_frame_equal(other.leaderboard(), model.leaderboard())
    pd.testing.assert_frame_equal(other.performance_over_time_, model.performance_over_time_)
    assert other.policy_ == model.policy_
    assert other.test_score_ == model.test_score_
    page = other.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Test rmse" in page
    X, y = made()
    again = other.refit(X, y)
    assert again is other and other.predict(X).shape == (240,)
    assert not hasattr(other, "test_score_")


@pytest.mark.parametrize("way", ["saved", "exported", "pickled"])
def test_what_only_a_run_has(fitted: tuple[AutoRegressor, Path], way: str) -> None:
    with pytest.raises(RunError, match=r"no run to resume.*load the run directory, which has the data \(data/\)"):
        loaded(fitted, way).resume("5s")


@pytest.mark.parametrize("what", ["leaderboard", "performance_over_time_", "refit", "policy_"])
def test_a_model_without_a_record_says_so(fitted: tuple[AutoRegressor, Path], what: str, tmp_path: Path) -> None:
    shutil.copytree(fitted[1] / "saved", tmp_path / "old")
    content = read_sealed(tmp_path / "old" / "manifest.json")
    del content["run"]
    write_sealed(tmp_path / "old" / "manifest.json", content)
    model = load(tmp_path / "old")
    model.report(tmp_path / "report.html")
    with pytest.raises((RunError, AttributeError), match="load the run directory"):
        getattr(model, what)(*(made() if what == "refit" else ()))


@pytest.mark.parametrize(
    "record", [None, [], {"trials": 3}, {"trials": [{}], "curve": [], "policy": None, "test_score": None}]
)
def test_a_damaged_record(fitted: tuple[AutoRegressor, Path], record: Any, tmp_path: Path) -> None:
    shutil.copytree(fitted[1] / "saved", tmp_path / "copy")
    content = read_sealed(tmp_path / "copy" / "manifest.json")
    write_sealed(tmp_path / "copy" / "manifest.json", {**content, "run": record})
    with pytest.raises(ModelFileError, match="record of the run is damaged"):
        load(tmp_path / "copy")


def test_a_run_that_is_gone(tmp_path: Path) -> None:
    settings = {"n_trials": 1, "n_jobs": 1, "verbose": 0, "families": ["linear"], "policy": "holdout"}
    model = AutoRegressor(120, run_dir=tmp_path / "run", **settings).fit(*made(80))
    assert not hasattr(model, "test_score_")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(RunError, match="is gone"):
        model.resume("5s")


def test_a_resumed_run_scores_the_test_rows_again(fitted: tuple[AutoRegressor, Path], tmp_path: Path) -> None:
    shutil.copytree(fitted[1] / "run", tmp_path / "run")
    model = load(tmp_path / "run")
    model.set_params(verbose=0, families=["linear", "lightgbm"])
    n_before = len(model.trials_)
    model.resume("60s", n_trials=2)
    assert n_before <= len(model.trials_) <= n_before + 2
    X_test, y_test = made(seed=1)
    assert model.test_score_ == pytest.approx(model.score(X_test, y_test))
    assert load(tmp_path / "run").test_score_ == model.test_score_
    page = model.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Test rmse" in page and "240 rows" in page


def test_damaged_test_rows_score_nothing(fitted: tuple[AutoRegressor, Path], tmp_path: Path) -> None:
    model, folder = fitted
    shutil.copytree(folder / "run" / "test", tmp_path / "test")
    assert unseen_rows.read_test_score(tmp_path / "test", model.predictor_.ensemble) is not None
    kept = unseen_rows.read_test_rows(tmp_path / "test", model.predictor_)
    assert kept is not None and len(kept) == 240
    content = bytearray((tmp_path / "test" / "target.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "test" / "target.npy").write_bytes(content)
    assert unseen_rows.read_test_rows(tmp_path / "test", model.predictor_) is None
    score = json.loads((tmp_path / "test" / "score.json").read_text())
    (tmp_path / "test" / "score.json").write_text(json.dumps({**score, "score": 0.0}))
    assert unseen_rows.read_test_score(tmp_path / "test", model.predictor_.ensemble) is None
