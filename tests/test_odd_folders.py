"""Runs and models whose files are not what they should be end in one error of windvane, in a shell in one line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shell import shell

from windvane import AutoRegressor, InputError, RunError, WindvaneError, load
from windvane.errors import VersionError
from windvane.persistence import FORMAT
from windvane.runtime.serialization import read_sealed, write_sealed
from windvane.vision import load_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and the model saved."""
    path = tmp_path_factory.mktemp("odd")
    X = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 2)), columns=["a", "b"])
    settings = {"n_trials": 1, "n_jobs": 1, "verbose": 0, "families": ["linear"], "policy": "holdout"}
    AutoRegressor(120, run_dir=path / "run", **settings).fit(X, X["a"]).save(path / "saved")
    X.to_csv(path / "table.csv", index=False)
    return path


def nested(depth: int = 100_000) -> str:
    return "[" * depth + "]" * depth


ODD = [0, -1, 1e308, float("inf"), float("nan"), None, "", "..", "../../x", "a\0b", [], [[]], {}, {"a": 1}, True]


@pytest.mark.filterwarnings("ignore:The metric")
@pytest.mark.parametrize("kind", ["run", "saved"])
@pytest.mark.parametrize("key", ["task", "classes", "metric", "schema", "estimator", "own_metric", "policy", "files"])
def test_manifests_with_odd_values(folder: Path, kind: str, key: str, tmp_path: Path) -> None:
    shutil.copytree(folder / kind, tmp_path / "copy")
    content = read_sealed(tmp_path / "copy" / "manifest.json")
    for value in [*ODD, "absent"]:
        changed = {**content, key: value}
        if value == "absent":
            del changed[key]
        write_sealed(tmp_path / "copy" / "manifest.json", changed)
        with contextlib.suppress(WindvaneError):
            load(tmp_path / "copy")


@pytest.mark.parametrize("key", ["number", "checkpoint", "family", "weight", "folds"])
def test_members_with_odd_values(folder: Path, key: str, tmp_path: Path) -> None:
    shutil.copytree(folder / "saved", tmp_path / "copy")
    content = read_sealed(tmp_path / "copy" / "manifest.json")
    for value in ODD:
        member = {**content["ensemble"]["members"][0], key: value}
        ensemble = {**content["ensemble"], "members": [member]}
        write_sealed(tmp_path / "copy" / "manifest.json", {**content, "ensemble": ensemble})
        with contextlib.suppress(WindvaneError):
            load(tmp_path / "copy")


@pytest.mark.parametrize("name", ["manifest.json", "ensemble.json", "history.jsonl"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", "1e999", nested(), '{"format": Infinity}', "\ud800"])
def test_files_with_odd_content(folder: Path, name: str, content: str, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(WindvaneError):
        load(tmp_path / "run")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no /dev/zero")
def test_a_device_and_an_endless_file(folder: Path, tmp_path: Path) -> None:
    for name in ("zero", "large"):
        shutil.copytree(folder / "saved", tmp_path / name)
        (tmp_path / name / "manifest.json").unlink()
    (tmp_path / "zero" / "manifest.json").symlink_to("/dev/zero")
    with (tmp_path / "large" / "manifest.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RunError, match="no regular file"):
        load(tmp_path / "zero")
    with pytest.raises(RunError, match="has more than"):
        load(tmp_path / "large")


def test_a_header_that_promises_too_much(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run" / "ensemble.json").unlink()
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    for name in ("valid.npy", "target.npy"):
        for file in (tmp_path / "run").rglob(name):
            file.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(WindvaneError):
        load(tmp_path / "run")


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, "/proc/none/run"])
def test_run_dir(name: str, tmp_path: Path) -> None:
    X = pd.DataFrame({"a": np.arange(30.0)})
    model = AutoRegressor(5, run_dir=tmp_path / name, n_jobs=1, verbose=0)
    with pytest.raises((InputError, RunError), match="run_dir="):
        model.fit(X, X["a"])
    with pytest.raises(RunError):
        load(tmp_path / name)


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "{run}", "{long}.csv", "--out", "o.csv"],
        ["predict", "{run}", "{table}", "--out", "{long}.csv"],
        ["predict", "{run}", "{table}", "--out", "/proc/none.csv"],
        ["fit", "{table}", "--target", "a", "--out", "{long}", "--quiet"],
        ["export", "{run}", "--out", "{long}"],
        ["report", "{run}", "--out", "{long}.html"],
        ["leaderboard", "{long}"],
        ["resume", "{long}", "--time", "1s"],
    ],
)
def test_a_shell_shows_one_line(folder: Path, words: list[str]) -> None:
    names = {"run": folder / "run", "table": folder / "table.csv", "long": "x" * 300}
    done = shell(*[word.format(**names) for word in words])
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert done.stderr.startswith("windvane: ") and done.stderr.count("\n") == 1


def test_traceback_is_shown_on_demand(folder: Path) -> None:
    words = [sys.executable, "-m", "windvane", "leaderboard", str(folder / "none"), "--traceback"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" in done.stderr and "RunError" in done.stderr


def test_a_run_of_another_part_names_its_commands(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"kind": "image_model", "windvane": "0.1"}))
    with pytest.raises(RunError, match=r"run of a network.*windvane train --resume"):
        load(tmp_path)
    with pytest.raises(InputError, match=r"windvane.load opens the runs of searches"):
        load_model(folder / "run")


@pytest.mark.parametrize(
    ("version", "advice"), [("0.10.0", "a later one"), ("99", "a later one"), ("0.0.9", "fit again")]
)
def test_versions_are_compared_as_versions(version: str, advice: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": FORMAT + 1, "windvane": version}))
    with pytest.raises(VersionError, match=advice):
        load(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="SIGTERM ends a process at once elsewhere")
def test_sigterm_removes_what_is_temporary(folder: Path, tmp_path: Path) -> None:
    program = (
        "import time, windvane.data.files as files\n"
        "def slow(frame, path, **options):\n"
        "    open(path, 'w').write('x'); print('writing', flush=True); time.sleep(60)\n"
        "import pandas as pd; pd.DataFrame.to_csv = slow\n"
        "from windvane.cli import main; main()\n"
    )
    words = [sys.executable, "-c", program, "predict", str(folder / "run"), str(folder / "table.csv"), "--out"]
    process = subprocess.Popen([*words, str(tmp_path / "out.csv")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    process.stdout.close()
    assert list(tmp_path.iterdir()) == []
