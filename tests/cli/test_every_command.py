"""What every command has: --json, --quiet, examples in its help; and one JSON object from each."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from shell import shell
from sklearn.datasets import load_breast_cancer

import windvane
from windvane.cli import app
from windvane.cli.examples import EXAMPLES

GROUP: Any = typer.main.get_command(app)
COMMANDS = {
    " ".join([*before, name]): command
    for before, group in (((), GROUP), (("portfolio",), GROUP.commands["portfolio"]))
    for name, command in group.commands.items()
    if not hasattr(command, "commands")
}
CALLS = [(name, call) for name, examples in EXAMPLES.items() for _, call in examples]


def test_every_command_is_here() -> None:
    assert set(COMMANDS) == set(EXAMPLES)
    assert len(COMMANDS) == 19


@pytest.mark.parametrize("name", COMMANDS)
def test_options(name: str) -> None:
    options = {option: one for one in COMMANDS[name].params for option in one.opts}
    for option in ("--json", "--quiet"):
        assert options[option].is_flag and not options[option].default


def test_quiet_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "")
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS")
    words = ("inspect", "resnet18", tmp_path / "no folder")
    assert shell(*words).exit_code == 2 and "HF_HUB_DISABLE_PROGRESS_BARS" not in os.environ
    assert shell(*words, "--quiet").exit_code == 2 and os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_examples(name: str) -> None:
    done = shell(*name.split(), "--help")
    assert max(map(len, done.stdout.splitlines())) <= 80
    words = done.stdout.rpartition("Examples:")[2].replace("\\\n", " ").split()
    assert 3 <= len(EXAMPLES[name]) <= 5
    for title, call in EXAMPLES[name]:
        wanted = ["#", *title.split(), *call.split()]
        assert any(words[i : i + len(wanted)] == wanted for i in range(len(words))), call


@pytest.mark.parametrize(("name", "call"), CALLS, ids=[call for _, call in CALLS])
def test_examples_can_be_parsed(name: str, call: str) -> None:
    first, *words = shlex.split(call)
    assert first == "windvane"
    known = max((other for other in COMMANDS if words[: len(other.split())] == other.split()), key=len)
    COMMANDS[known].make_context(known, words[len(known.split()) :])  # raises where an option does not exist


@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_is_one_object(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder the files of the first example do not exist."""
    monkeypatch.chdir(tmp_path)
    done = shell(*shlex.split(EXAMPLES[name][0][1])[1:], "--json", "--quiet")
    assert (done.exit_code, done.stderr) == (2, "")
    error = json.loads(done.stdout)["error"]
    assert error["type"].endswith("Error") and len(error["message"]) > 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "--json"), "Missing argument 'TRAIN'."),
        (("--unknown", "--json"), "No such option: --unknown"),
        (("unknown", "--json"), "No such command 'unknown'."),
        (("portfolio", "build", "--json"), "Missing argument 'CELLS'."),
        (("report", "run", "--out=a.html", "--json=1"), ""),
    ],
)
def test_a_wrong_command_line_is_one_object(words: tuple[str, ...], message: str) -> None:
    done = shell(*words)
    assert done.exit_code == 2
    if message:
        assert (json.loads(done.stdout), done.stderr) == ({"error": {"type": "UsageError", "message": message}}, "")
    else:  # which does not ask for JSON
        assert (done.stdout, "--json" in done.stderr) == ("", True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table, and a run on it."""
    folder = tmp_path_factory.mktemp("json")
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    table = X.iloc[:, :3].assign(label=y.map({0: "ill", 1: "well"}))
    table[::2].to_csv(folder / "train.csv", index=False)
    table[1::8].to_csv(folder / "test.csv", index=False)
    return folder


FIT = "fit train.csv --target label --out run --n-trials 1 --families linear --seed 0 --time 10m --test test.csv"
# Command line and the names in its object, in the order of a session.
SESSION = [
    ("describe train.csv --target label --out data.html", {"rows", "columns", "target", "issues", "notes", "page"}),
    (f"{FIT} --jobs 1", {"run", "metric", "validation_score", "test_score", "members", "trials"}),
    ("resume run --time 10m --n-trials 1", {"run", "metric", "validation_score", "test_score", "members", "trials"}),
    ("leaderboard run --test test.csv --target label", {"metric", "trials"}),
    ("evaluate run test.csv --target label", {"metric", "n_rows", "metrics", "classes", "threshold"}),
    ("threshold run", {"threshold"}),
    ("threshold run --metric f1", {"goal", "threshold", "score", "curve"}),
    ("calibrate run", {"method", "log_losses", "error", "error_before"}),
    ("predict run test.csv --out predictions.csv", {"file", "rows", "rows_with_errors"}),
    ("predict run test.csv --out - --proba", {"predictions"}),
    ("explain run test.csv --time 1s", {"rows"}),
    ("importance run test.csv --target label --repeats 1", {"metric", "columns"}),
    ("export run --out exported", {"folder"}),
    ("export run --out model.onnx --format onnx", {"file"}),
    ("export run --out study.db --format optuna", {"file"}),
    ("compact run", {"run", "bytes", "bytes_before"}),
    ("report run --out page.html --test test.csv --target label", {"page"}),
]


def test_a_session(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    found = {}
    for call, names in SESSION:
        done = shell(*call.split(), "--json", "--quiet")
        assert (done.exit_code, done.stderr) == (0, ""), (call, done.output)
        found[call.split()[0]] = record = json.loads(done.stdout, parse_constant=pytest.fail)
        assert isinstance(record, dict) and names <= set(record), call
    model = windvane.load("run")
    assert found["resume"]["test_score"] == model.test_score_
    assert {row["trial"] for row in found["resume"]["trials"]} == {0, 1, None}
    assert len(found["predict"]["predictions"]) == 71 == len(found["explain"]["rows"])
    assert {"ill", "well"} == set(found["predict"]["predictions"][0])
    # Without --json results are texts.
    done = shell("predict", "run", "test.csv", "--out", "text.csv")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    assert shell("report", "run", "--test", "train.csv", "--quiet").stderr == ""


def test_an_interrupted_search_is_one_object(folder: Path) -> None:
    """Ctrl-C before there is a model; the progress on the standard error stream shows when it has begun."""
    program = "from windvane.cli import main; main()"
    words = ["fit", "train.csv", "--target", "label", "--out", "early", "--time", "1h", "--jobs", "1", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    process.stderr.readline()  # what it has guessed
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert json.loads(out)["error"]["type"] == "KeyboardInterrupt"
