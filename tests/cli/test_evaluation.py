"""The commands evaluate, threshold and calibrate, on a run and on a saved model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from shell import shell
from sklearn.datasets import load_breast_cancer

from windvane import AutoClassifier, AutoRegressor, load

SETTINGS: dict[str, Any] = {"n_trials": 1, "n_jobs": 1, "random_state": 0, "verbose": 0, "policy": "cv3"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X, y = X.iloc[:, :4], y.map({0: "ill", 1: "well"})
    X.assign(label=y, weight=1.0, half=y.index % 2)[1::2].to_csv(folder / "test.csv", index=False)
    model = AutoClassifier(families=["linear"], run_dir=folder / "run", **SETTINGS).fit(X[::2], y[::2])
    model.save(folder / "saved")
    number = AutoRegressor(families=["linear"], **SETTINGS).fit(X.iloc[:60, :3], X.iloc[:60, 3])
    number.save(folder / "number")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


@pytest.mark.parametrize("name", ["run", "saved"])
def test_evaluate(folder: Path, name: str) -> None:
    words = ["evaluate", folder / name, folder / "test.csv", "--target", "label"]
    done = shell(*words)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("284 rows, 2 classes; the positive one is 'ill', predicted above 0.5\n")
    assert max(map(len, done.stdout.splitlines())) <= 80
    page = folder / "page.html"
    done = shell(*words, "--by", "half", "--weight", "weight", "--metric", "f1", "--json", "--out", page)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [row["metric"] for row in found["metrics"]] == ["roc_auc", "f1"]
    assert [row["segment"] for row in found["segments"]] == ["1"]
    assert page.exists() and found["page"] == str(page) and done.stderr == ""


def test_the_leaderboard_has_test_scores(folder: Path) -> None:
    words = ["leaderboard", folder / "run", "--test", folder / "test.csv", "--target", "label"]
    lines = shell(*words).stdout.splitlines()
    assert lines[0].split()[:6] == ["trial", "family", "weight", "ROC", "AUC", "test"]
    assert lines[2].split()[1:5] == ["constant", "0.00", "0.5", "0.5"] and lines[2].endswith("baseline")
    board = json.loads(shell(*words, "--json").stdout)
    assert board["metric"] == "roc_auc"
    assert [row["family"] for row in board["trials"]] == ["linear", "constant"]
    assert board["trials"][0]["test_score"] > 0.9 and board["trials"][1]["trial"] is None


@pytest.mark.parametrize("name", ["run", "saved"])
def test_a_threshold_is_kept(folder: Path, name: str) -> None:
    path = folder / name
    data = [] if name == "run" else ["--data", folder / "test.csv", "--target", "label"]
    assert shell("threshold", path).stdout == "ill is predicted above 0.5\n"
    done = shell("threshold", path, "--precision", "0.95", *data)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("threshold 0.") and "for precision >= 0.95: recall" in done.stdout
    chosen = load(path).threshold_
    assert chosen != 0.5
    done = shell("threshold", path, "--cost", "ill:well=20", "--json", *data)
    found = json.loads(done.stdout)
    assert found["goal"] == "costs" and found["threshold"] == load(path).threshold_ < chosen
    assert shell("threshold", path, "--value", "0.7").exit_code == 0
    assert shell("threshold", path).stdout == "ill is predicted above 0.7\n"
    assert shell("threshold", path, "--reset").stdout == "ill is predicted above 0.5\n"
    done = shell("calibrate", path, "--method", "isotonic", *data)
    assert done.exit_code == 0 and done.stdout.startswith("isotonic on "), done.output
    assert load(path).predictor_.ensemble.calibration is not None
    predicted = shell("predict", path, folder / "test.csv", "--out", folder / "out.csv")
    assert predicted.exit_code == 0 and set(pd.read_csv(folder / "out.csv")["prediction"]) == {"ill", "well"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("threshold run --precision 0.9 --value 0.5", "--precision and --value exclude each other."),
        (
            "threshold run --cost ill=20",
            "--cost='ill=20' is not usable. Allowed: TRUE:PREDICTED=COST with the classes ill",
        ),
        ("threshold run --value 1.5", "--value=1.5 is not usable"),
        ("threshold run --data test.csv --target label", "--data needs a goal. Allowed: --metric, --precision"),
        ("threshold run --reset --data test.csv --target label", "--data needs a goal"),
        ("threshold run --value 0.4 --target label", "--target needs a goal"),
        ("threshold number --value 0.5", "threshold is for classes"),
        ("threshold saved --metric f1", "needs the validation rows, which only a run directory has"),
        ("threshold run --metric roc_auc", "does not look at labels"),
        ("calibrate run --method platt", "--method='platt' is not known"),
        ("evaluate run test.csv", "--target is missing: the column of"),
        ("evaluate run test.csv --target lable", "--target='lable' is not known. Did you mean 'label'?"),
        ("evaluate run test.csv --target label --by hafl", "--by='hafl' is not known. Did you mean 'half'?"),
        ("evaluate run test.csv --target label --out page.txt", "ends in .html"),
        ("evaluate run test.csv --target half", "which training never saw"),
    ],
)
def test_a_mistake_is_one_line(folder: Path, words: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = shell(*words.split())
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["run", "saved", "number"])
def test_a_model_of_a_table_is_not_inspected(folder: Path, name: str) -> None:
    done = shell("inspect", folder / name, folder)
    assert done.exit_code == 2
    assert "is a run on a table, which has no network on images. Allowed: a run of windvane train" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--target label --weight {learned}", "--weight={learned!r} is a column that the model was trained on"),
        ("--target {learned}", "--target={learned!r} is a column that the model was trained on"),
        ("--target label --weight label", "--weight='label' is the column of --target"),
    ],
)
def test_a_column_that_is_needed_is_not_taken(folder: Path, options: str, words: str) -> None:
    learned = pd.read_csv(folder / "test.csv").columns[0]
    pairs = [
        word.format(learned=learned) if "{" in word else word for word in options.replace("--", "\n--").split("\n")
    ]
    given = [part for pair in pairs for part in pair.strip().split(" ", 1) if part]
    done = shell("evaluate", folder / "run", folder / "test.csv", *given)
    assert (done.exit_code, words.format(learned=str(learned)) in done.stderr) == (2, True), done.stderr


def test_a_column_that_was_ignored_may_hold_weights(folder: Path, tmp_path: Path) -> None:
    table = pd.read_csv(folder / "test.csv")
    X, y = table.drop(columns=["label"]), table["label"]
    AutoClassifier(families=["linear"], **SETTINGS).fit(X, y, ignore=["weight"]).save(tmp_path / "model")
    words = ["evaluate", tmp_path / "model", folder / "test.csv", "--target", "label", "--weight", "weight"]
    assert shell(*words).exit_code == 0


@pytest.mark.parametrize("option", ["--precision", "--recall"])
@pytest.mark.parametrize("value", ["90", "0", "-0.5", "nan"])
def test_what_is_no_share(folder: Path, option: str, value: str) -> None:
    done = shell("threshold", folder / "run", f"{option}={value}")
    assert done.exit_code == 2
    assert f"{option}={float(value)!r} is not usable. Allowed: a share above 0 and at most 1, as in 0.9" in done.stderr


def test_a_number_has_no_label_to_explain(folder: Path) -> None:
    rows = folder / "test.csv"
    done = shell("explain", folder / "number", rows, "--label", "X", "--background", rows)
    assert "--label='X' is for classes, but a number is predicted. Leave it out." in done.stderr
