"""The commands for networks on images, from training to export."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shell import shell
from sklearn.datasets import load_digits

from windvane.cli.common import RENAMED
from windvane.cli.images import let_threads_sleep


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


def test_images_from_training_to_fine_tuning(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ("--model", "cct_2_3x2", "--image-size", 8, "--batch-size", 32, "--no-flip", "--quiet")
    advised = shell("train", pictures, *model, "--advise")
    assert advised.exit_code == 0, advised.output
    assert "image" in advised.stdout
    found = json.loads(shell("train", pictures, *model, "--advise", "--json").stdout)
    assert found["advice"]["level"] in advised.stdout and found["recipe"]["model"] == "cct_2_3x2"
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
    timed = ("train", pictures, *model, "--time", "1s", "--out", tmp_path / "timed")
    assert shell(*timed).exit_code == 0
    from windvane.vision import advice

    monkeypatch.setattr(advice, "measure_training_speed", lambda *_: 1e9)  # another speed, which advises augmentation
    assert shell(*timed, "--resume").exit_code == 0
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
    words = ("finetune", pictures, "--weights", tmp_path / "compared", "--weights", run, "--time", "2s")
    moved = shell(*words, "--out", tmp_path / "moved")
    assert moved.exit_code == 0, moved.output
    assert f"windvane: fine-tuning {run}, the best upstream score of 2" in moved.stderr
    recipe = json.loads((run / "manifest.json").read_text())["recipe"]
    assert (recipe["fisher_penalty"], recipe["track_fisher"]) == (0.01, True)
    assert (tmp_path / "moved" / "page.html").exists()
    assert json.loads((tmp_path / "moved" / "manifest.json").read_text())["recipe"]["weights"] == str(run)


@pytest.mark.alone
def test_the_time_of_fine_tuning_includes_libraries_and_page(pictures: Path, tmp_path: Path) -> None:
    model = ("--model", "cct_2_3x2", "--image-size", 8, "--no-flip", "--quiet")
    assert shell("train", pictures, *model, "--epochs", 1, "--out", tmp_path / "run").exit_code == 0
    began = time.monotonic()
    words = ("finetune", pictures, "--weights", tmp_path / "run", "--time", "12s", "--out", tmp_path / "moved")
    subprocess.run([sys.executable, "-m", "windvane", *map(str, words)], check=True, capture_output=True)
    assert 9.0 < time.monotonic() - began < 12.0 * 1.05 + 2.0
    assert (tmp_path / "moved" / "page.html").exists()


def test_training_needs_a_directory_and_a_known_recipe(pictures: Path) -> None:
    done = shell("train", pictures, "--model", "cct_2_3x2", "--image-size", 8, "--quiet")
    assert (done.exit_code, done.stderr) == (2, "windvane: --out is missing: the directory of the run.\n")
    done = shell("train", pictures, "--recipe", "vit_lite_7_4_cifar10", "--learning-rate", 0.001, "--out", "run")
    assert (done.exit_code, "--learning-rate and --recipe do not go together" in done.stderr) == (2, True)
    done = shell("inspect", "resnet10t", pictures, "--batch-size", 0)
    assert (done.exit_code, "batch_size=0" in done.stderr) == (2, True)
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
    done = shell("train", pictures, *model, "--epochs", 1, "--out", tmp_path / "run", "--json")
    assert (done.exit_code, done.stderr) == (0, ""), done.output
    found = json.loads(done.stdout)
    assert (found["run"], found["epoch"]) == (str(tmp_path / "run"), 1) and 0 <= found["validation_accuracy"] <= 1
    done = shell("export", tmp_path / "run", "--out", tmp_path / "folder")
    assert done.stdout == f"exported to {tmp_path / 'folder'}; see its README.txt\n"
    assert {"model.onnx", "model.pt2", "predictor.py"} < {file.name for file in (tmp_path / "folder").iterdir()}


def test_threads_sleep_unless_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_a_pattern_of_groups_that_matches_no_file(tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "7_1.png").touch()
    words = ["fit", tmp_path / "photos", "--out", tmp_path / "run", "--groups"]
    done = shell(*words, r"track(\d+)")
    assert done.exit_code == 2
    assert r"--groups='track(\\d+)' matches no name of a file in" in done.stderr
    assert "matches no name" not in shell(*words, r"(\d+)_").stderr
