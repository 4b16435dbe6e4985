"""The shell commands: what they pass on (with a recorder in place of the estimator), and one real session."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from typer.testing import CliRunner

import windvane
from windvane.cli import RENAMED, app
from windvane.version import VERSION


def shell(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


class Recorder:
    """Takes the place of an estimator and remembers how it was used."""

    made: ClassVar[list[Recorder]] = []
    test_score_ = 0.75

    def __init__(self, time_budget: float, **settings: Any) -> None:
        self.settings = {"time_budget": time_budget, **settings}
        self.made.append(self)

    def fit(self, X: pd.DataFrame, y: pd.Series, **columns: Any) -> Self:
        self.X, self.y, self.columns = X, y, columns
        return self

    def leaderboard(self) -> pd.DataFrame:
        return pd.DataFrame({"validation_loss": np.full(12, 0.1234567)}, index=pd.RangeIndex(1, 13, name="rank"))


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setattr(windvane, "AutoClassifier", Recorder)
    monkeypatch.setattr(Recorder, "made", [])
    return Recorder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    frame = pd.DataFrame({"size": np.arange(40.0), "day": range(40), "who": range(40), "label": ["no", "yes"] * 20})
    frame.to_csv(path, index=False)
    return path


def test_fit_passes_on_what_it_was_given(recorder: type[Recorder], table: Path) -> None:
    options = "--time 30s --metric log_loss --policy cv5 --families lightgbm,catboost --jobs 2 --memory 900 --seed 7"
    columns = "--groups who --time-column day --weight size"
    done = shell("fit", table, "--target", "label", "--out", "run", "--test", table, *options.split(), *columns.split())
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"score on {table}, which chose nothing: 0.75\n")
    (model,) = recorder.made
    assert model.settings == {
        "time_budget": 30.0,
        "metric": "log_loss",
        "n_jobs": 2,
        "memory_limit": 900,
        "policy": "cv5",
        "families": ["lightgbm", "catboost"],
        "run_dir": Path("run"),
        "random_state": 7,
        "verbose": 1,
    }
    assert list(model.X.columns) == []
    assert list(model.y) == ["no", "yes"] * 20
    assert [model.columns[name].name for name in ("groups", "time", "sample_weight")] == ["who", "day", "size"]
    assert "label" not in model.columns["X_test"].columns
    assert list(model.columns["y_test"]) == ["no", "yes"] * 20


def test_fit_says_what_it_guessed_and_prints_the_best(recorder: type[Recorder], table: Path) -> None:
    done = shell("fit", table, "--target", "label", "--out", "run")
    assert done.stderr == (
        "windvane: classification, as the target has 2 distinct values that are not numbers; --task says otherwise\n"
    )
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["rank", "validation_loss"]
    assert lines[10].split() == ["10", "0.12346"]
    assert lines[11:] == ["kept in run"]
    assert recorder.made[0].columns == dict.fromkeys(("groups", "time", "sample_weight", "X_test", "y_test"))


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
        (["--target", "label", "--policy", "cv4"], "policy='cv4' is not known."),
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
    frame = X.assign(label=y.map({0: "malignant", 1: "benign"}))
    frame.iloc[::2].to_csv(folder / "train.csv", index=False)
    frame.iloc[1::2].to_csv(folder / "test.csv", index=False)
    options = ["--time", "5s", "--jobs", "1", "--seed", "0", "--families", "linear,extra_trees"]
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
    for options in (["--test", session / "test.csv"], ["--target", "label"]):
        done = shell("report", session / "run", "--out", page, *options)
        assert done.exit_code == 2
        assert done.stderr == "windvane: --test and --target belong together; only one of them was given.\n"
    done = shell("report", session / "run", "--out", session / "train.csv")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "ends in .html" in done.stderr


def test_session_goes_on(session: Path) -> None:
    before = json.loads(shell("leaderboard", session / "run", "--json").stdout)
    done = shell("resume", session / "run", "--time", "4s", "--quiet")
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"kept in {session / 'run'}\n")
    after = shell("leaderboard", session / "run").stdout.splitlines()
    assert len(after) - 1 > len(before) > 0


def test_no_probabilities_of_a_number(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windvane, "load", lambda path: windvane.AutoRegressor())
    done = shell("predict", "run", table, "--out", "pred.csv", "--proba")
    assert (done.exit_code, done.stderr) == (2, "windvane: --proba is for classes, but 'run' predicts a number.\n")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Digits 0 to 2 as small PNG files, a folder for each."""
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("torch").set_num_threads(1)
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("pictures")
    X, y = load_digits(n_class=3, return_X_y=True)
    for i, (pixels, label) in enumerate(zip(X, y, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        picture = Image.fromarray((pixels.reshape(8, 8) * 15).astype(np.uint8))
        picture.save(folder / str(label) / f"{i}.png")
    return folder


def test_images_from_training_to_fine_tuning(pictures: Path, tmp_path: Path) -> None:
    model = ("--model", "cct_2_3x2", "--image-size", 8, "--batch-size", 32, "--no-flip", "--quiet")
    advised = shell("train", pictures, *model, "--advise")
    assert advised.exit_code == 0, advised.output
    assert "image" in advised.stdout
    assert not list(tmp_path.iterdir())
    run = tmp_path / "run"
    words = ("train", pictures, *model, "--epochs", 4, "--augreg", "none", "--out", run)
    words += ("--fisher-penalty", 0.01, "--track-fisher")
    done = shell(*words)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"kept in {run}\n")
    assert "Fisher trace" in (run / "page.html").read_text(encoding="utf-8")
    again = shell(*words)
    assert (again.exit_code, again.stdout) == (2, "")
    assert "is not empty" in again.stderr
    assert shell(*words, "--resume").stdout == done.stdout
    for options in ([], ["--proba"]):
        predicted = shell("predict", run, pictures, "--out", tmp_path / "pred.csv", *options)
        assert predicted.exit_code == 0, predicted.output
        table = pd.read_csv(tmp_path / "pred.csv")
        labels = table[["0", "1", "2"]].idxmax(axis=1) if options else table["prediction"].astype(str)
        truth = table["name"].str.split("/").str[0]
        assert (labels == truth).mean() > 0.6
    words = ("train", pictures, *model, "--epochs", 1, "--out", tmp_path / "compared", "--fisher-reference", run)
    assert shell(*words).exit_code == 0
    assert "reference" in (tmp_path / "compared" / "page.html").read_text(encoding="utf-8")
    moved = shell("finetune", pictures, "--weights", run, "--time", "2s", "--out", tmp_path / "moved", "--quiet")
    assert moved.exit_code == 0, moved.output
    recipe = json.loads((run / "manifest.json").read_text())["recipe"]
    assert (recipe["fisher_penalty"], recipe["track_fisher"]) == (0.01, True)
    assert (tmp_path / "moved" / "page.html").exists()
    assert json.loads((tmp_path / "moved" / "manifest.json").read_text())["recipe"]["weights"] == str(run)


def test_training_needs_a_directory_and_a_known_recipe(pictures: Path) -> None:
    done = shell("train", pictures, "--model", "cct_2_3x2", "--image-size", 8, "--quiet")
    assert (done.exit_code, done.stderr) == (2, "windvane: --out is missing: the directory of the run.\n")
    done = shell("train", pictures, "--recipe", "vit_lite", "--out", "run")
    assert done.exit_code == 2
    assert "recipe='vit_lite' is not known" in done.stderr


def test_old_names_of_options_are_accepted(pictures: Path) -> None:
    words = ("--model", "cct_2_3x2", "--size=8", "--batch", 16, "--rate", 0.01, "--no-flip", "--quiet", "--advise")
    old, new = (
        shell("train", pictures, *words),
        shell("train", pictures, *(RENAMED.get(str(word), word) for word in words)),
    )
    assert (old.exit_code, old.stdout) == (new.exit_code, new.stdout) == (0, old.stdout)
    assert "windvane: --rate is now called --learning-rate\n" in old.stderr
    assert "windvane: transfer is now called finetune\n" in shell("transfer", pictures).stderr


def test_interrupted_training_says_how_to_go_on(pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [
        "train",
        pictures,
        "--model",
        "cct_2_3x2",
        "--image-size",
        8,
        "--batch-size",
        32,
        "--epochs",
        200,
        "--out",
        run,
    ]
    program = "import torch; torch.set_num_threads(1); from windvane.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:  # the first is told when training has begun
        if "images/s" in line:
            break
    process.send_signal(signal.SIGTERM)
    said, told = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "")
    assert "stopped after step" in told and "--resume" in told
    assert "Traceback" not in told
    assert (run / "checkpoint.safetensors").exists()


def test_networks_are_exported(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = ("--model", "cct_2_3x2", "--image-size", 8, "--batch-size", 64, "--quiet")
    done = shell("train", pictures, *model, "--epochs", 1, "--out", tmp_path / "run")
    assert done.exit_code == 0, done.output
    done = shell("export", tmp_path / "run", "--out", tmp_path / "folder")
    assert done.stdout == f"exported to {tmp_path / 'folder'}; see its README.txt\n"
    assert {"model.onnx", "model.pt2", "predictor.py"} < {file.name for file in (tmp_path / "folder").iterdir()}
