"""What a fitted model says of itself, and the decision that it keeps: in a run, saved, exported, pickled, reported."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.datasets import load_breast_cancer, load_iris

from windvane import AutoClassifier, AutoRegressor, InputError, RunError, load

SETTINGS: dict[str, Any] = {"n_trials": 3, "n_jobs": 1, "random_state": 0, "verbose": 0, "policy": "cv3"}
FAMILIES = ["linear", "extra_trees", "lightgbm"]
Data = tuple[pd.DataFrame, Any, pd.DataFrame, Any]


@pytest.fixture(scope="module")
def cancer() -> Data:
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X, y = X.iloc[:, :6].assign(site=np.array(["north", "south"])[np.arange(len(X)) % 2]), y.map({0: "ill", 1: "well"})
    third = np.arange(len(X)) % 3 == 0
    return X[~third], y[~third], X[third], y[third]


@pytest.fixture(scope="module")
def run(cancer: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two classes with test rows; the tests copy it."""
    X, y, X_test, y_test = cancer
    folder = tmp_path_factory.mktemp("decisions") / "run"
    model = AutoClassifier(metric="f1", families=FAMILIES, run_dir=folder, **SETTINGS)
    model.fit(X, y, X_test=X_test, y_test=y_test, ignore="site")
    return folder


@pytest.fixture
def model(run: Path, tmp_path: Path) -> Any:
    import shutil

    shutil.copytree(run, tmp_path / "run")
    return load(tmp_path / "run")


@pytest.fixture(scope="module")
def iris() -> tuple[Any, Any, AutoClassifier]:
    X, y = load_iris(return_X_y=True, as_frame=True)
    return X, y, AutoClassifier(families=["linear"], **{**SETTINGS, "n_trials": 1}).fit(X, y)


def test_an_evaluation_agrees_with_score(model: Any, cancer: Data) -> None:
    _, _, X, y = cancer
    found = model.evaluate(X, y, by="site", metrics=["accuracy"])
    assert found.metrics["score"].iloc[0] == pytest.approx(model.score(X, y))
    assert model.test_score_ == pytest.approx(model.score(X, y))
    assert found.metrics["score"].iloc[1] == pytest.approx(np.mean(model.predict(X) == y))
    assert found.segments["n"].sum() == len(X) and set(found.segments["segment"]) == {"north", "south"}
    assert (found.is_test, found.positive_class) == (True, "ill")
    worst = found.worst_rows
    pd.testing.assert_series_equal(worst["mean radius"], X["mean radius"].iloc[worst.index], check_index=False)
    assert (worst["target"].to_numpy() == y.iloc[worst.index]).all()


def test_rows_of_weight_0_do_not_count(model: Any, cancer: Data) -> None:
    _, _, X, y = cancer
    weight, y = np.arange(len(X)) % 3, y.astype(object).copy()
    y.iloc[0] = np.nan  # of weight 0
    kept = weight > 0
    found = model.evaluate(X, y, by="site", sample_weight=weight)
    alone = model.evaluate(X[kept], y[kept], by=X["site"][kept], sample_weight=weight[kept])
    pd.testing.assert_frame_equal(found.metrics, alone.metrics)
    pd.testing.assert_frame_equal(found.segments, alone.segments.assign(column="site"))
    np.testing.assert_array_equal(found.worst_rows.index, np.flatnonzero(kept)[alone.worst_rows.index])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X, y.where(y.index != y.index[3])), "y has 1 missing value, the first in row 3"),
        (lambda X, y: (X, y.replace("ill", "dead")), "y holds 'dead' in row 0, which training never saw"),
        (lambda X, y: (X.iloc[:0], y.iloc[:0]), r"Found array with 0 sample\(s\)"),
        (lambda X, y: (X, y.iloc[:5]), "X and y have different lengths"),
        (lambda X, y: (X.drop(columns="mean radius"), y), "mean radius"),
    ],
)
def test_rows_that_cannot_be_evaluated(model: Any, cancer: Data, change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.evaluate(*change(*cancer[2:]))


def test_every_trial_and_the_baselines_are_on_the_leaderboard(model: Any, cancer: Data, tmp_path: Path) -> None:
    X, y, X_test, y_test = cancer
    board = model.leaderboard(X_test, y_test).set_index("family")
    assert board["baseline"].to_dict() == {"linear": True, "extra_trees": False, "lightgbm": False, "constant": True}
    frequency = np.mean(y == "ill")
    assert board.loc["constant", "validation_loss"] == 1 - sk.f1_score(y == "ill", np.full(len(y), frequency > 0.5))
    linear = AutoClassifier(metric="f1", families=["linear"], **{**SETTINGS, "n_trials": 1})
    linear.fit(X, y, ignore="site").set_threshold(None)
    assert board.loc["linear", "test_score"] == pytest.approx(linear.score(X_test, y_test))
    model.save(tmp_path / "saved")
    saved = load(tmp_path / "saved").leaderboard(X_test, y_test).set_index("family")
    members = {member.family for member in model.predictor_.ensemble.members}
    for family in board.index:
        known = family in members or family == "constant"
        assert np.isnan(saved.loc[family, "test_score"]) != known
    with pytest.raises(InputError, match="X_test and y_test belong together"):
        model.leaderboard(X_test)


def everywhere(model: Any, folder: Path, X: pd.DataFrame) -> list[Any]:
    """Labels of the model itself and of every copy of it."""
    model.save(folder / "saved")
    model.export(folder / "exported")
    X.to_csv(folder / "X.csv", index=False)
    words = [sys.executable, str(folder / "exported" / "predictor.py"), str(folder / "X.csv")]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    copies = [
        load(folder / "run"),
        load(folder / "saved"),
        load(folder / "exported"),
        pickle.loads(pickle.dumps(model)),
    ]
    return [model.predict(X), *(copy.predict(X) for copy in copies), np.array(done.stdout.split()[1:])]


def test_a_threshold_goes_everywhere(model: Any, cancer: Data, tmp_path: Path) -> None:
    _, _, X, y = cancer
    tuning = model.tune_threshold(precision=0.97)
    assert tuning.out_of_fold and tuning.n_rows == 379
    assert model.threshold_ == tuning.threshold != 0.5
    wanted = np.where(model.predict_proba(X)[:, 0] > model.threshold_, "ill", "well")
    for labels in everywhere(model, tmp_path, X):
        np.testing.assert_array_equal(labels, wanted)
    with pytest.warns(UserWarning, match="A second ensemble without them"):  # generated features
        assert model.to_sklearn().threshold == pytest.approx(1 - model.threshold_)  # for "well"
    for again in (load(tmp_path / "run"), load(tmp_path / "saved")):
        assert again.tuning_.to_json() == tuning.to_json()
    assert load(tmp_path / "run").test_score_ == pytest.approx(model.score(X, y))
    page = model.report(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "for precision &gt;= 0.97" in page


def test_validation_scores_are_those_of_the_decision(model: Any) -> None:
    tuning = model.tune_threshold("f1")
    assert 1 - model.predictor_.ensemble.loss == pytest.approx(tuning.score)
    assert tuning.score >= tuning.default_score
    model.set_threshold(0.97)
    assert 1 - model.predictor_.ensemble.loss == pytest.approx(model.tuning_.score)
    assert model.tuning_.score < tuning.score


def test_set_threshold_is_the_probability_of_the_positive_class(model: Any, cancer: Data) -> None:
    X = cancer[2]
    assert model.set_threshold(0.2) is model and model.threshold_ == pytest.approx(0.2)
    np.testing.assert_array_equal(model.predict(X) == "ill", model.predict_proba(X)[:, 0] > 0.2)
    model.set_threshold(None)
    assert (model.threshold_, model.tuning_) == (0.5, None)
    np.testing.assert_array_equal(model.predict(X) == "ill", model.predict_proba(X)[:, 0] > 0.5)
    for value in (0, 1, "half"):
        with pytest.raises(InputError, match="threshold="):
            model.set_threshold(value)


@pytest.mark.parametrize("method", ["temperature", "isotonic", "venn_abers"])
def test_a_calibration_goes_everywhere(model: Any, cancer: Data, tmp_path: Path, method: str) -> None:
    _, _, X, y = cancer
    model.tune_threshold(recall=0.95)
    labels, before = model.predict(X), model.predict_proba(X)[:, 0]
    found = model.calibrate(method)
    assert (found.method, found.n_rows) == (method, 379)
    for copy in everywhere(model, tmp_path, X):
        np.testing.assert_array_equal(copy, labels)
    after = model.predict_proba(X)[:, 0]
    assert not np.allclose(after, before) and sk.roc_auc_score(y == "ill", after) == pytest.approx(
        sk.roc_auc_score(y == "ill", before), abs=1e-3
    )
    np.testing.assert_array_equal(load(tmp_path / "saved").predict_proba(X)[:, 0], after)
    if method != "temperature":
        with pytest.raises(InputError, match="a calibration curve"):
            model.to_sklearn()
    assert np.isfinite(load(tmp_path / "run").test_score_)


def test_a_saved_model_tunes_on_rows_that_it_is_given(model: Any, cancer: Data, tmp_path: Path) -> None:
    _, _, X, y = cancer
    model.save(tmp_path / "saved")
    saved = load(tmp_path / "saved")
    for call in (saved.tune_threshold, saved.calibrate):
        with pytest.raises(RunError, match="validation rows, which only a run directory has"):
            call()
    tuning = saved.tune_threshold("f1", X=X, y=y)
    assert not tuning.out_of_fold and tuning.n_rows == len(X)
    assert saved.score(X, y) == pytest.approx(tuning.score)
    assert np.isnan(saved.predictor_.ensemble.loss)  # on validation rows it is not known
    assert saved.calibrate(X=X, y=y).n_rows == len(X)
    saved.set_threshold(0.3).save(tmp_path / "again")
    assert load(tmp_path / "again").threshold_ == pytest.approx(0.3)


def test_a_resumed_search_warns_that_a_threshold_is_gone(model: Any) -> None:
    model.set_threshold(0.3)
    with pytest.warns(UserWarning, match="do not hold for the new one: call tune_threshold") as said:
        model.resume("60s", n_trials=1)
    assert said[0].filename == __file__  # the line of the user, not one of windvane
    assert model.tuning_ is None


def test_goals_exclude_each_other(model: Any) -> None:
    with pytest.raises(InputError, match="one goal, but precision and recall came"):
        model.tune_threshold(precision=0.9, recall=0.9)
    with pytest.raises(InputError, match="X and y belong together"):
        model.tune_threshold("f1", X=[[1]])
    with pytest.raises(InputError, match="sample_weight belongs to X and y"):
        model.tune_threshold("f1", sample_weight=[1])


def test_costs_of_three_classes(iris: Any, tmp_path: Path) -> None:
    X, _, model = iris
    costs = [[0, 1, 1], [1, 0, 1], [50, 50, 0]]
    tuning = model.tune_threshold(costs=costs)
    assert tuning.threshold is None is model.threshold_
    wanted = (model.predict_proba(X) @ np.array(costs)).argmin(axis=1)
    assert (wanted == 2).sum() > 50
    model.save(tmp_path / "saved")
    model.export(tmp_path / "exported")
    for one in (model, load(tmp_path / "saved"), load(tmp_path / "exported")):
        np.testing.assert_array_equal(one.predict(X), wanted)
    with pytest.raises(InputError, match="costs of errors"):
        model.to_sklearn()
    assert "least expected cost" in model.report(tmp_path / "page.html").read_text(encoding="utf-8")
    model.set_threshold(None)
    np.testing.assert_array_equal(model.predict(X), model.predict_proba(X).argmax(axis=1))
    assert model.tune_threshold().goal == "balanced_accuracy"
    for call in (lambda: model.set_threshold(0.3), lambda: model.tune_threshold(precision=0.9)):
        with pytest.raises(InputError, match="is for two classes, but there are 3"):
            call()


def test_a_regressor_has_an_evaluation_and_baselines_but_no_threshold(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 3))
    y = 2 * X[:, 0] + rng.normal(size=150)
    model = AutoRegressor(metric="mae", families=["linear"], **{**SETTINGS, "n_trials": 1}).fit(X, y)
    found = model.evaluate(X, y, by=["0", 1])
    assert found.metrics["metric"].tolist()[:2] == ["mae", "rmse"] and len(found.segments) == 10
    assert not hasattr(model, "tune_threshold")
    board = model.leaderboard(X, y)
    assert board["family"].tolist() == ["linear", "constant"]
    assert board["test_score"].iloc[1] == pytest.approx(-np.mean(abs(y - np.median(y))))
    assert "constant" in model.report(tmp_path / "page.html").read_text(encoding="utf-8")
