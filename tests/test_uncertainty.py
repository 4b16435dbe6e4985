"""Prediction intervals and sets of whole runs: the same from the estimator, its run, saved, copied and exported."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from shell import shell
from sklearn.datasets import load_diabetes, load_wine

from windvane import AutoClassifier, AutoRegressor, InputError, ModelFileError, load
from windvane.runtime.serialization import read_sealed, write_sealed

OPTIONS: dict[str, Any] = {"n_trials": 2, "n_jobs": 1, "random_state": 0, "verbose": 0, "policy": "cv3"}
FAMILIES = ["linear", "extra_trees"]


def diabetes() -> tuple[pd.DataFrame, Any]:
    return load_diabetes(return_X_y=True, as_frame=True)


def wine() -> tuple[pd.DataFrame, Any]:
    X, y = load_wine(return_X_y=True, as_frame=True)
    return X, np.array(["red", "white", "a rosé"])[y]


@pytest.fixture(scope="module")
def regressor(tmp_path_factory: pytest.TempPathFactory) -> AutoRegressor:
    X, y = diabetes()
    run = tmp_path_factory.mktemp("numbers") / "run"
    return AutoRegressor(**OPTIONS, families=FAMILIES, run_dir=run).fit(X[:300], y[:300])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> AutoClassifier:
    X, y = wine()
    run = tmp_path_factory.mktemp("classes") / "run"
    return AutoClassifier(**OPTIONS, families=FAMILIES, run_dir=run).fit(X[::2], y[::2])


def run_of(model: Any) -> Path:
    return Path(model.run_dir)


def copies(model: Any, folder: Path) -> dict[str, Any]:
    model.save(folder / "saved")
    load(folder / "saved").save(folder / "again")
    return {
        "run": load(run_of(model)),
        "saved": load(folder / "saved"),
        "saved again": load(folder / "again"),
        "pickled": pickle.loads(pickle.dumps(model)),
    }


def test_intervals_are_the_same_everywhere(regressor: AutoRegressor, tmp_path: Path) -> None:
    X, y = diabetes()
    wanted = regressor.predict_interval(X[300:], coverage=0.8)
    assert wanted.shape == (142, 2)
    assert 0.7 < np.mean((wanted[:, 0] <= y[300:]) & (y[300:] <= wanted[:, 1])) < 0.9
    prediction = regressor.predict(X[300:])
    assert np.all((wanted[:, 0] < prediction) & (prediction < wanted[:, 1]))
    for name, copy in copies(regressor, tmp_path).items():
        np.testing.assert_array_equal(copy.predict_interval(X[300:], coverage=0.8), wanted, err_msg=name)
    regressor.export(tmp_path / "exported")
    X[300:].to_csv(tmp_path / "rows.csv", index=False)
    printed = program(tmp_path / "exported", tmp_path / "rows.csv", "--interval", "0.8")
    found = pd.read_csv(io.StringIO(printed.stdout))
    assert list(found.columns) == ["prediction", "lower", "upper"], printed.stderr
    np.testing.assert_allclose(found[["lower", "upper"]], wanted, rtol=1e-9)
    done = shell("predict", run_of(regressor), tmp_path / "rows.csv", "--out", "-", "--interval", "0.8")
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(done.stdout)), found)


def test_sets_are_the_same_everywhere(classifier: AutoClassifier, tmp_path: Path) -> None:
    X, y = wine()
    X, y = X[1::2], y[1::2]
    wanted = classifier.predict_set(X, coverage=0.95)
    assert wanted.shape == (89, 3) and wanted.dtype == bool and wanted.any(axis=1).all()
    assert np.mean(wanted[np.arange(89), np.searchsorted(classifier.classes_, y)]) > 0.85
    for name, copy in copies(classifier, tmp_path).items():
        np.testing.assert_array_equal(copy.predict_set(X, coverage=0.95), wanted, err_msg=name)
    classifier.export(tmp_path / "exported")
    X.to_csv(tmp_path / "rows.csv", index=False)
    printed = program(tmp_path / "exported", tmp_path / "rows.csv", "--set", "0.95")
    found = pd.read_csv(io.StringIO(printed.stdout))
    assert list(found.columns) == ["prediction", "set"], printed.stderr
    assert found["set"].tolist() == ["|".join(classifier.classes_[row]) for row in wanted]
    done = shell("predict", run_of(classifier), tmp_path / "rows.csv", "--out", "-", "--set", "0.95")
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(done.stdout)), found)


def program(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "predictor.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_options_of_sets(classifier: AutoClassifier) -> None:
    X, _ = wine()
    most_probable = classifier.predict_proba(X).argmax(axis=1)
    few = classifier.predict_set(X, 0.3, allow_empty=True)
    assert not few.any(axis=1).all()
    assert np.all(few <= classifier.predict_set(X, 0.3))
    assert classifier.predict_set(X, 0.3)[np.arange(len(X)), most_probable].all()
    by_class = classifier.predict_set(X, 0.5, by_class=True, allow_empty=True)
    assert (by_class != classifier.predict_set(X, 0.5, allow_empty=True)).any()


def test_the_scores_are_those_of_the_validation_rows(regressor: AutoRegressor) -> None:
    """By hand: the errors of the blended predictions in the checkpoints."""
    _, y = diabetes()
    folder, blend = run_of(regressor), np.zeros(300)
    for member in regressor.predictor_.ensemble.members:
        blend += member.weight * np.load(folder / "trials" / f"{member.number:05d}" / member.checkpoint / "valid.npy")
    with np.load(folder / "data" / "folds.npz") as folds:
        rows = np.concatenate([folds[f"valid_{i}"] for i in range(3)])
    rule: Any = regressor.predictor_.uncertainty
    below, above = rule.widths(blend)
    error = y.to_numpy()[rows] - blend
    scores = np.maximum(-error / below, error / above)
    if len(rule.knots) == 1:
        np.testing.assert_allclose(rule.scores.values, np.sort(scores))
    else:  # the scores are of widths that were learned from other rows
        assert abs(np.quantile(scores, 0.9) / rule.scores.limit(0.9) - 1) < 0.1


def test_a_later_decision_leaves_the_sets(classifier: AutoClassifier, tmp_path: Path) -> None:
    X, _ = wine()
    wanted = classifier.predict_set(X)
    classifier.save(tmp_path / "saved")
    predictor = load(tmp_path / "saved").predictor_
    ensemble = replace(predictor.ensemble, temperature=3.0, decision_weights=(1.0, 5.0, 1.0))
    changed = replace(predictor, ensemble=ensemble)
    np.testing.assert_array_equal(changed.predict_set(X), wanted)
    assert (changed.predict_proba(X) != predictor.predict_proba(X)).any()


def test_without_data_and_after_more_trials(tmp_path: Path) -> None:
    X, y = diabetes()
    model = AutoRegressor(**OPTIONS, families=FAMILIES, run_dir=tmp_path / "bare", keep_data=False).fit(X, y)
    assert not (tmp_path / "bare" / "data").exists()
    found = load(tmp_path / "bare").predict_interval(X)  # type: ignore[union-attr]
    np.testing.assert_array_equal(found, model.predict_interval(X))
    kept = AutoRegressor(**OPTIONS, families=FAMILIES, run_dir=tmp_path / "run").fit(X, y)
    before = kept.predict_interval(X)
    kept.resume(n_trials=1)
    np.testing.assert_array_equal(load(tmp_path / "run").predict_interval(X), kept.predict_interval(X))  # type: ignore[union-attr]
    kept.refit(X, y)
    width = np.ptp(kept.predict_interval(X), axis=1)
    assert 0.5 < width.mean() / np.ptp(before, axis=1).mean() < 2


def test_weights_are_counted(tmp_path: Path) -> None:
    """Rows of a large weight and large errors widen the intervals."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"a": rng.normal(size=240), "b": rng.random(240)})
    is_noisy = np.arange(240) % 4 == 0
    y = X["a"] + rng.normal(size=240) * np.where(is_noisy, 5.0, 0.1)

    def width(weight: Any) -> float:
        model = AutoRegressor(**{**OPTIONS, "n_trials": 1}, families=["linear"]).fit(X, y, sample_weight=weight)
        return float(np.ptp(model.predict_interval(X, 0.7), axis=1).mean())

    assert width(np.where(is_noisy, 10.0, 1.0)) > 3 * width(None)


def test_a_killed_run_is_opened_with_its_intervals(regressor: AutoRegressor, tmp_path: Path) -> None:
    X, _ = diabetes()
    shutil.copytree(run_of(regressor), tmp_path / "run")
    for name in ("ensemble.json", "uncertainty.json"):
        (tmp_path / "run" / name).unlink()
    model = load(tmp_path / "run")
    assert isinstance(model, AutoRegressor)
    np.testing.assert_array_equal(model.predict_interval(X), regressor.predict_interval(X))


BAD: list[tuple[Callable[[Any, Any], Any], str]] = [
    (lambda model, X: model.predict_interval(X, 1), "coverage=1 is not usable"),
    (lambda model, X: model.predict_interval(X, "much"), "coverage='much' is not usable"),
    (lambda model, X: model.predict_interval(X, 0.999), "needs at least 999 validation rows, but the model has 300"),
    (lambda model, X: model.predictor_.predict_set(X), "predict_set is for classes"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_calls(call: Callable[[Any, Any], Any], message: str, regressor: AutoRegressor) -> None:
    with pytest.raises(InputError, match=message):
        call(regressor, diabetes()[0])


def test_the_other_method_is_named(regressor: AutoRegressor, classifier: AutoClassifier) -> None:
    assert not hasattr(regressor, "predict_set") and not hasattr(classifier, "predict_interval")
    with pytest.raises(AttributeError, match=r"predict_set is for classes\. Allowed for numbers: predict_interval"):
        getattr(regressor, "predict_set")  # noqa: B009
    with pytest.raises(AttributeError, match=r"predict_interval is for numbers\. Allowed for classes: predict_set"):
        getattr(classifier, "predict_interval")  # noqa: B009
    with pytest.raises(InputError, match="predict_interval is for numbers"):
        classifier.predictor_.predict_interval(wine()[0])
    with pytest.raises(InputError, match=r"of class '(a rosé|white|red)'"):
        classifier.predict_set(wine()[0], 0.98, by_class=True)


def test_a_model_without_scores_says_what_to_do(classifier: AutoClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "saved")
    (tmp_path / "saved" / "uncertainty.json").unlink()
    manifest = read_sealed(tmp_path / "saved" / "manifest.json")
    del manifest["files"]["uncertainty.json"]
    write_sealed(tmp_path / "saved" / "manifest.json", manifest)
    model: Any = load(tmp_path / "saved")
    model.predict(wine()[0])
    with pytest.raises(ModelFileError, match=r"predict_set needs .* without it\. Continue its run for a moment"):
        model.predict_set(wine()[0])


def test_a_run_without_scores_gets_them_by_a_moment_more(regressor: AutoRegressor, tmp_path: Path) -> None:
    X, _ = diabetes()
    shutil.copytree(run_of(regressor), tmp_path / "run")
    (tmp_path / "run" / "uncertainty.json").unlink()
    with pytest.raises(ModelFileError, match="predict_interval needs"):
        load(tmp_path / "run").predict_interval(X)  # type: ignore[union-attr]
    done = shell("resume", tmp_path / "run", "--time", "1s", "--quiet")
    assert done.exit_code == 0, done.output
    assert load(tmp_path / "run").predict_interval(X).shape == (442, 2)  # type: ignore[union-attr]


def test_a_damaged_file_is_refused(classifier: AutoClassifier, tmp_path: Path) -> None:
    classifier.save(tmp_path / "saved")
    path = tmp_path / "saved" / "uncertainty.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**record, "temperature": 2.0}), encoding="utf-8")
    with pytest.raises(ModelFileError, match="damaged"):
        load(tmp_path / "saved")


SHELL: list[tuple[str, list[str], str]] = [
    ("numbers", ["--set", "0.9"], "--set is for classes, but"),
    ("classes", ["--interval", "0.9"], "--interval is for numbers, but"),
    ("classes", ["--set", "0.9", "--proba"], "--proba and --set do not go together. Allowed: one of them."),
    ("numbers", ["--interval", "90"], "--interval=90.0 is not usable. Allowed: a number above 0 and below 1."),
    ("numbers", ["--interval", "0.999"], "needs at least 999 validation rows"),
]


@pytest.mark.parametrize(("which", "options", "message"), SHELL)
def test_bad_words_in_a_shell(
    which: str,
    options: list[str],
    message: str,
    regressor: AutoRegressor,
    classifier: AutoClassifier,
    tmp_path: Path,
) -> None:
    model, (X, _) = (regressor, diabetes()) if which == "numbers" else (classifier, wine())
    X.to_csv(tmp_path / "rows.csv", index=False)
    done = shell("predict", run_of(model), tmp_path / "rows.csv", "--out", tmp_path / "found.csv", *options)
    assert done.exit_code == 2 and message in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "found.csv").exists()
