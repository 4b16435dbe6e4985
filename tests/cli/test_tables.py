"""The commands for tables: what they pass on (with a recorder in place of the estimator), and one real session."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import pytest
from shell import shell
from sklearn.datasets import load_breast_cancer

import windvane
from windvane.data.files import read_frame
from windvane.evaluation.metrics import CLASSIFICATION, REGRESSION
from windvane.runtime.ensemble import Ensemble, Member
from windvane.search.run.history import leaderboard
from windvane.search.trial import Trial
from windvane.version import VERSION


class Recorder:
    """Takes the place of an estimator and remembers how it was used."""

    made: ClassVar[list[Recorder]] = []
    test_score_ = -26453.6
    predictor_ = SimpleNamespace(
        metric=REGRESSION["rmse"], ensemble=Ensemble((Member(0, "c", "linear", 1.0),), loss=31234.5)
    )

    def __init__(self, time_budget: float, **settings: Any) -> None:
        self.settings = {"time_budget": time_budget, **settings}
        self.made.append(self)

    def fit(self, X: pd.DataFrame, y: pd.Series, **columns: Any) -> Self:
        self.X, self.y, self.columns = X, y, columns
        return self

    def leaderboard(self) -> pd.DataFrame:
        trials = [
            replace(
                Trial(i, FAMILIES[i % 3], {}, "portfolio", 0), status=STATUS[i % 3], loss=31234.5, fit_seconds=123.4
            )
            for i in range(12)
        ]
        return leaderboard(trials, self.predictor_.ensemble)


FAMILIES = ["linear", "hist_gradient_boosting", "a user's family with a name that has fifty letters"]
STATUS: list[Any] = ["done", "out_of_memory", "stopped"]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setattr(windvane, "AutoClassifier", Recorder)
    monkeypatch.setattr(Recorder, "made", [])
    return Recorder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    frame = pd.DataFrame({"size": np.arange(40.0), "day": range(40), "who": range(40), "label": ["no", "yes"] * 20})
    frame.assign(word="a").to_csv(path, index=False)
    return path


def test_the_positive_class_is_passed_on(
    recorder: type[Recorder], table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = SimpleNamespace(
        metric=replace(CLASSIFICATION["f1"], uses_positive=True), ensemble=Recorder.predictor_.ensemble
    )
    monkeypatch.setattr(recorder, "predictor_", predictor)
    monkeypatch.setattr(recorder, "positive_class_", "yes", raising=False)
    words = ["fit", table, "--target", "label", "--out", "run", "--positive", "yes", "--metric", "f1"]
    done = shell(*words, "--test", table)
    assert recorder.made[0].settings["positive_class"] == "yes"
    assert done.stdout.endswith("on rows that chose nothing (f1 of yes)\nkept in run\n")
    done = shell(*words, "--task", "regression")
    assert (done.exit_code, "--positive='yes' is for two classes" in done.stderr) == (2, True)


def test_fit_passes_on_what_it_was_given(recorder: type[Recorder], table: Path) -> None:
    options = "--time 30s --metric log_loss --policy cv5 --families lightgbm,catboost --jobs 2 --memory 900 --seed 7"
    columns = "--groups who --time-column day --weight size --n-trials 9"
    done = shell("fit", table, "--target", "label", "--out", "run", "--test", table, *options.split(), *columns.split())
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-3:] == [
        "validation RMSE 31,234 of the ensemble of 1 trial, which it selected",
        "test RMSE 26,454 on rows that chose nothing",
        "kept in run",
    ]
    (model,) = recorder.made
    assert 15 <= model.settings.pop("time_budget") <= 30
    assert model.settings == {
        "metric": "log_loss",
        "n_jobs": 2,
        "memory_limit": 900,
        "policy": "cv5",
        "families": ["lightgbm", "catboost"],
        "portfolio": None,
        "run_dir": Path("run"),
        "n_trials": 9,
        "random_state": 7,
        "verbose": 1,
        "keep_ids": False,
    }
    assert list(model.X.columns) == ["day", "who", "word"]
    assert list(model.y) == ["no", "yes"] * 20
    assert model.columns["sample_weight"].name == "size"
    assert (model.columns["groups"], model.columns["time"]) == ("who", "day")  # columns of the table, which stay there
    assert "label" not in model.columns["X_test"].columns
    assert list(model.columns["y_test"]) == ["no", "yes"] * 20


def test_reading_counts_against_the_time(
    recorder: type[Recorder], table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_slowly(*given: Any, **options: Any) -> pd.DataFrame:
        time.sleep(1)
        return read_frame(*given, **options)

    monkeypatch.setattr("windvane.data.files.read_frame", read_slowly)
    for seconds, least, most in ((20, 10, 19), (1, 0.5, 0.5)):  # half of the time is the least
        assert shell("fit", table, "--target", "label", "--out", "run", "--time", seconds).exit_code == 0
        assert least <= recorder.made[-1].settings["time_budget"] <= most


def test_fit_says_what_it_guessed_and_prints_the_best(recorder: type[Recorder], table: Path) -> None:
    done = shell("fit", table, "--target", "label", "--out", "run")
    assert done.stderr == (
        "windvane: classification, as the target has 2 distinct values that are not numbers; --task says otherwise\n"
    )
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["trial", "family", "weight", "RMSE", "fit", "s", "pred", "s", "status", "source"]
    assert lines[1].split()[:5] == ["1", "0", "linear", "1.00", "31,234"]
    assert lines[10].split()[0] == "10" and lines[11].startswith("validation RMSE")
    assert max(map(len, lines)) <= 80 and "…" in lines[3]
    assert recorder.made[0].columns == dict.fromkeys(
        (
            *("groups", "time", "split", "lags", "sample_weight", "X_test", "y_test", "ignore", "id_columns"),
            *("column_types", "date_formats"),
        )
    )


def test_quiet(recorder: type[Recorder], table: Path) -> None:
    done = shell("fit", table, "--target", "label", "--out", "run", "--quiet")
    assert done.stderr == ""
    assert recorder.made[0].settings["verbose"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "lable"], "--target='lable' is not known. Did you mean 'label'?"),
        (["--target", "label", "--groups", "whom"], "--groups='whom' is not known. Did you mean 'who'?"),
        (["--target", "label", "--task", "regress"], "--task='regress' is not known. Did you mean 'regression'?"),
        (["--target", "label", "--time", "soon"], "--time='soon' is not a length of time."),
        (["--target", "label", "--metric", "roc_ac"], "Did you mean 'roc_auc'?"),
        (["--target", "LABLE"], "--target='LABLE' is not known. Did you mean 'label'?"),
        (["--target", "label", "--metric", "ROC-AUC"], "--metric='ROC-AUC' is not known. Did you mean 'roc_auc'?"),
        (["--target", "label", "--policy", "cv4"], "--policy='cv4' is not known."),
        (["--target", "label", "--time-column", "size", "--gap", "7x"], "--gap='7x' is not a length of time."),
        (["--target", "label", "--jobs", "0"], "--jobs=0 is not usable."),
        (["--target", "label", "--seed", "-1"], "--seed=-1 is not usable."),
        (["--target", "label", "--type", "size=numeric"], "--type['size']='numeric' is not known."),
        (["--target", "label", "--weight", "word"], "--weight cannot be used: "),
        ([], "to learn a column from the others of a table, name it as the target (--target in a shell)."),
        (["--target", "label", "--families", "lightgmb"], "Did you mean 'lightgbm'?"),
    ],
)
def test_mistake_is_one_line(words: list[str], message: str, table: Path, tmp_path: Path) -> None:
    done = shell("fit", table, *words, "--out", tmp_path / "run", "--quiet")
    assert done.exit_code == 2
    assert done.stderr.startswith("windvane: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("command", ["leaderboard", "resume --time 1s", "predict", "export", "report"])
def test_directory_without_a_run(command: str, table: Path, tmp_path: Path) -> None:
    name, *options = command.split()
    more = {"predict": [table, "--out", tmp_path / "out.csv"], "export": ["--out", tmp_path / "out"]}.get(name, [])
    done = shell(name, tmp_path, *more, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("windvane: ")
    assert str(tmp_path) in done.stderr


def test_missing_table(tmp_path: Path) -> None:
    done = shell("fit", tmp_path / "none.csv", "--target", "y", "--out", tmp_path / "run")
    assert done.exit_code == 2
    assert "none.csv" in done.stderr


def test_version() -> None:
    assert shell("--version").stdout == f"windvane {VERSION}\n"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two tables, and a run on the first of them."""
    folder = tmp_path_factory.mktemp("session")
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = X.iloc[:, :10].assign(label=y.map({0: "malignant", 1: "benign"}))
    frame.iloc[::2].to_csv(folder / "train.csv", index=False)
    frame.iloc[1::2].to_csv(folder / "test.csv", index=False)
    options = ["--time", "60s", "--n-trials", "2", "--jobs", "1", "--seed", "0", "--families", "linear,extra_trees"]
    done = shell("fit", folder / "train.csv", "--target", "label", "--out", folder / "run", *options)
    assert done.exit_code == 0, done.output
    return folder


def test_session_predicts(session: Path) -> None:
    for options in ([], ["--proba"]):
        done = shell("predict", session / "run", session / "test.csv", "--out", session / "pred.csv", *options)
        assert done.exit_code == 0, done.output
        predicted = pd.read_csv(session / "pred.csv")
        if options:
            assert list(predicted.columns) == ["benign", "malignant"]
            np.testing.assert_allclose(predicted.sum(axis=1), 1.0)
            labels = predicted.idxmax(axis=1)
        else:
            labels = predicted["prediction"]
        assert (labels == pd.read_csv(session / "test.csv")["label"]).mean() > 0.9


def test_options_that_would_do_nothing_are_refused(session: Path) -> None:
    done = shell("leaderboard", session / "run", "--target", "label")
    assert (done.exit_code, "--target is a column of --data or --test" in done.stderr) == (2, True)
    done = shell("predict", session / "run", session / "test.csv", "--out", "-", "--device", "cpu")
    assert (done.exit_code, "--device is for runs of networks" in done.stderr) == (2, True)


def test_explanations_on_the_standard_output_are_one_table_or_one_object(session: Path) -> None:
    words = ("explain", session / "run", session / "test.csv", "--time", "2s", "--out", "-")
    table = pd.read_csv(io.StringIO(shell(*words).stdout))
    assert {"base", "prediction"} < set(table)
    assert len(json.loads(shell(*words, "--json").stdout)["rows"]) == len(table)


def test_contributions_of_a_column_called_base_are_kept(session: Path, tmp_path: Path) -> None:
    rename = {"mean radius": "base"}
    pd.read_csv(session / "train.csv").rename(columns=rename).to_csv(tmp_path / "train.csv", index=False)
    pd.read_csv(session / "test.csv").rename(columns=rename).head(5).to_csv(tmp_path / "test.csv", index=False)
    options = ["--time", "60s", "--n-trials", "1", "--jobs", "1", "--seed", "0", "--families", "linear", "--quiet"]
    done = shell("fit", tmp_path / "train.csv", "--target", "label", "--out", tmp_path / "run", *options)
    assert done.exit_code == 0, done.output
    words = ("explain", tmp_path / "run", tmp_path / "test.csv", "--time", "1s", "--out", "-", "--quiet")
    table = pd.read_csv(io.StringIO(shell(*words).stdout))
    assert {"base (column)", "base", "prediction"} < set(table)
    np.testing.assert_allclose(table.drop(columns="prediction").sum(axis=1), table["prediction"], atol=1e-6)


@pytest.mark.parametrize("command", ["predict", "explain"])
def test_what_is_read_is_not_replaced(session: Path, command: str, tmp_path: Path) -> None:
    words, data = (command, session / "run"), session / "test.csv"
    before = data.read_bytes()
    done = shell(*words, data, "--out", session / "." / "test.csv")
    assert (done.exit_code, data.read_bytes()) == (2, before)
    assert done.stderr == f"windvane: --out={str(data)!r} is DATA, which would be replaced. Allowed: another file.\n"
    done = shell(*words, tmp_path / "none.csv", "--out", tmp_path / "found.xlsx")  # said before anything is read
    assert (done.exit_code, "found.xlsx has no known suffix" in done.stderr) == (2, True)


def test_an_empty_table_has_its_name_in_the_error(session: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    done = shell("predict", session / "run", tmp_path / "empty.csv", "--out", "-")
    assert done.exit_code == 2 and f"{tmp_path / 'empty.csv'} cannot be read as csv" in done.stderr


def test_bad_rows_come_back_marked(session: Path, tmp_path: Path) -> None:
    lines = (session / "test.csv").read_text().splitlines()
    lines[3], lines[5], lines[7] = "", lines[5] + ",1,2", "many" + lines[7][lines[7].index(",") :]
    (tmp_path / "bad.csv").write_text("\n".join(lines) + "\n")
    done = shell("predict", session / "run", tmp_path / "bad.csv", "--out", "-")
    assert done.exit_code == 0, done.output
    assert "3 of 284 rows cannot be predicted" in done.stderr
    found = pd.read_csv(io.StringIO(done.stdout))
    wanted = shell("predict", session / "run", session / "test.csv", "--out", "-")
    whole = pd.read_csv(io.StringIO(wanted.stdout))
    assert list(whole.columns) == ["prediction"]
    assert found.index[found["error"].notna()].tolist() == [2, 4, 6]
    good = found["error"].isna()
    assert (found["prediction"][good] == whole["prediction"][good]).all() and found["prediction"][~good].isna().all()


def test_ids_are_carried(session: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(session / "train.csv")
    frame["patient"] = [f"p{i}" for i in range(len(frame))]
    frame["row"] = np.random.default_rng(0).permutation(len(frame))
    frame.to_csv(tmp_path / "train.csv", index=False)
    options = ["--time", "60s", "--n-trials", "1", "--jobs", "1", "--families", "linear", "--id", "patient", "--ignore"]
    done = shell("fit", tmp_path / "train.csv", "--target", "label", "--out", tmp_path / "run", *options, "mean radius")
    assert done.exit_code == 0, done.output
    assert "'row'" in done.stderr and "identifier" in done.stderr
    test = frame.drop(columns=["row", "mean radius", "label"]).iloc[:7]
    test.to_csv(tmp_path / "test.csv", index=False)
    done = shell("predict", tmp_path / "run", tmp_path / "test.csv", "--out", tmp_path / "found.csv")
    assert done.exit_code == 0, done.output
    found = pd.read_csv(tmp_path / "found.csv")
    assert list(found.columns) == ["patient", "prediction"]
    assert found["patient"].tolist() == [f"p{i}" for i in range(7)]


def test_session_exports(session: Path, tmp_path: Path) -> None:
    done = shell("export", session / "run", "--out", tmp_path / "out")
    assert done.stdout == f"exported to {tmp_path / 'out'}; see its README.txt\n"
    again = shell("export", session / "run", "--out", tmp_path / "out")
    assert again.exit_code == 2
    assert "exists and is not empty" in again.stderr
    words = [sys.executable, str(tmp_path / "out" / "predictor.py"), str(session / "test.csv"), "--proba"]
    (tmp_path / "found.csv").write_text(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    wanted = shell("predict", session / "run", session / "test.csv", "--out", tmp_path / "wanted.csv", "--proba")
    assert wanted.exit_code == 0, wanted.output
    found = pd.read_csv(tmp_path / "found.csv")
    pd.testing.assert_frame_equal(found, pd.read_csv(tmp_path / "wanted.csv"), rtol=1e-12, atol=1e-12)


def test_session_is_reported(session: Path) -> None:
    page = session / "report.html"
    for options in ([], ["--test", session / "test.csv", "--target", "label"]):
        done = shell("report", session / "run", "--out", page, *options)
        assert (done.exit_code, done.stdout) == (0, f"{page}\n"), done.output
        assert ("Test roc_<wbr>auc" in page.read_text(encoding="utf-8")) == bool(options)
    done = shell("report", session / "run", "--out", page, "--test", session / "test.csv")
    assert done.exit_code == 0, done.output
    assert "without --target there is no score" in done.stderr
    assert "no shift is visible" in page.read_text(encoding="utf-8")
    done = shell("report", session / "run", "--out", page, "--target", "label")
    assert (done.exit_code, done.stderr) == (2, "windvane: --target is a column of --test, which was not given.\n")
    done = shell("report", session / "run", "--out", session / "train.csv")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "ends in .html" in done.stderr


def test_session_ranks_columns(session: Path) -> None:
    words = ("importance", session / "run", session / "test.csv", "--target", "label", "--repeats", "1")
    done = shell(*words, "--group", "size=mean area,mean radius,mean perimeter", "--json")
    assert done.exit_code == 0, done.output
    names = [record["column"] for record in json.loads(done.stdout)["columns"]]
    assert "size" in names and "mean area" not in names and len(names) == 8
    done = shell(*words, "--correlated")
    assert done.exit_code == 0 and "mean radius, mean perimeter" in done.stdout
    for options, message in (
        (("--group", "size=mean area", "--correlated"), "do not go together"),
        (("--group", "size=meen area"), "groups['size']='meen area'"),
        (("--group", "mean area"), "--group"),
        (("--repeats", "0"), "--repeats=0"),
    ):
        done = shell(*words[:5], *options)
        assert done.exit_code == 2 and message in done.stderr


def test_session_goes_on(session: Path) -> None:
    before = json.loads(shell("leaderboard", session / "run", "--json").stdout)["trials"]
    done = shell("resume", session / "run", "--time", "60s", "--n-trials", "1")
    assert done.exit_code == 0, done.output
    assert "2 trials so far, best ROC AUC 0.9" in done.stderr
    assert done.stdout.endswith(f"kept in {session / 'run'}\n")
    after = shell("leaderboard", session / "run").stdout.splitlines()
    assert len(after) - 1 > len(before) > 0


def test_no_probabilities_of_a_number(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windvane, "load", lambda path: windvane.AutoRegressor())
    done = shell("predict", "run", table, "--out", "pred.csv", "--proba")
    assert (done.exit_code, done.stderr) == (2, "windvane: --proba is for classes, but 'run' predicts a number.\n")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--ignore y", "--ignore='y' is the column of --target, which is no column to learn from."),
        ("--id y", "--id='y' is the column of --target"),
        ("--type y=text", "--type='y' is the column of --target"),
        ("--date-format y=%d", "--date-format='y' is the column of --target"),
        ("--weight y", "--weight='y' is the column of --target"),
        ("--time-column y", "--time-column='y' is the column of --target"),
        ("--weight w --ignore w", "--ignore='w' is the column of --weight"),
        ("--groups w --ignore w", "--ignore='w' is the column of --groups"),
        ("--weight w --lags 1 --time-column a --lag-by w", "--lag-by='w' is the column of --weight"),
        ("--lags 1 --time-column a --lag-by aa", "--lag-by='aa' is not known. Did you mean 'a'?"),
        ("--groups aa", "--groups='aa' is not known. Did you mean 'a'?"),
    ],
)
def test_a_column_has_one_role(tmp_path: Path, options: str, words: str) -> None:
    pd.DataFrame({"y": [1, 2, 3], "w": [1, 2, 1], "a": [1, 2, 3]}).to_csv(tmp_path / "t.csv", index=False)
    done = shell("fit", tmp_path / "t.csv", "--target", "y", *options.split(), "--out", tmp_path / "run", "--quiet")
    assert (done.exit_code, words in done.stderr) == (2, True), done.stderr
    if not {"--weight", "--groups", "--time-column"} & {*options.split()}:
        done = shell("describe", tmp_path / "t.csv", "--target", "y", *options.split())
        assert (done.exit_code, words in done.stderr) == (2, True), done.stderr
