"""Training as a whole: it learns, resumes exactly, ends on time, and stops at numbers that are not finite."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from pictures import digits, image_set, noise, parts, tiny_recipe

from windvane.data.images import ImageSplits
from windvane.errors import InputError, NotFiniteError, RunMismatchError
from windvane.stop_signals import SIGNALS, stop_on_signal
from windvane.vision.predict import predict_proba
from windvane.vision.saved_model import load_model
from windvane.vision.training.checkpoint import CHECKPOINT
from windvane.vision.training.run import TrainingRun
from windvane.vision.training.train import train
from windvane.vision.training.training_log import Evaluation

ROOT = Path(__file__).resolve().parents[2]
WIDE = {"patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 2}


@pytest.mark.parametrize(
    "fields",
    [
        {"epochs": 20, "model_kwargs": WIDE, "augreg": "light2"},
        {
            "epochs": 20,
            "model_kwargs": WIDE,
            "loss": "binary_cross_entropy",
            "optimizer": "sgd",
            "learning_rate": 0.1,
            "ema_decay": 0.9,
        },
        {"epochs": 5, "model": "cct_2_3x2", "model_kwargs": {}, "learning_rate": 2e-3, "label_smoothing": 0.1},
        {"epochs": 4, "model": "resnet10t", "model_kwargs": {}, "image_size": 16, "learning_rate": 2e-3},
    ],
    ids=["augreg", "binary_cross_entropy", "tokenizer", "batch norm"],
)
def test_a_network_learns_digits(fields: dict[str, object]) -> None:
    data = digits(700, 200)
    trained = train(tiny_recipe(**fields), data, quiet=True)
    first, last = trained.history[0], trained.history[-1]
    assert last.train_loss < 0.9 * first.train_loss
    assert trained.best.valid_accuracy > 0.3  # chance is 0.1
    assert trained.best.valid_accuracy == max(one.valid_accuracy for one in trained.history)
    assert data.valid is not None
    found = predict_proba(trained.model, data.valid).argmax(axis=1)
    assert (found == data.valid.labels).mean() == pytest.approx(trained.best.valid_accuracy)


def test_a_batch_in_parts_equals_the_whole_batch() -> None:
    """For a network without batch norm and dropout; Mixup pairs images of the whole batch."""
    recipe = tiny_recipe(steps=4, augreg="light2", optimizer="sgd", learning_rate=0.1, track_fisher=True)
    data = digits(100, 40)
    whole, parts = (train(replace(recipe, micro_batch_size=size), data, quiet=True) for size in (None, 24))
    for name, weight in whole.model.network.state_dict().items():
        torch.testing.assert_close(parts.model.network.state_dict()[name], weight, rtol=1e-4, atol=1e-6)
    assert parts.best.train_loss == pytest.approx(whole.best.train_loss, rel=1e-5)
    assert parts.best.train_accuracy == whole.best.train_accuracy
    assert parts.fisher[0].n_examples == 24


def test_without_validation_the_last_state_counts() -> None:
    trained = train(tiny_recipe(steps=5), digits(100, 0), quiet=True)
    assert trained.best == trained.history[-1]
    assert np.isnan(trained.best.valid_accuracy)


def test_the_same_seed_gives_the_same_network_and_leaves_the_callers_randomness() -> None:
    before = torch.random.get_rng_state()
    recipe = tiny_recipe(dropout=0.1, drop_path=0.1, augreg="medium2", crop="random_shift", horizontal_flip=True)
    first, again, other = (
        train(replace(recipe, seed=seed), digits(128, 50), quiet=True).model.network.state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(before, torch.random.get_rng_state())


def timeless(one: Evaluation) -> Evaluation:
    return replace(one, seconds=0.0, images_per_second=0.0)


RESUMED = {
    "epochs": 10,
    "dropout": 0.1,
    "drop_path": 0.1,
    "augreg": "medium2",
    "ema_decay": 0.95,
    "crop": "random_shift",
    "batch_size": 48,
}
SCRIPT = """
import sys
from pictures import digits, tiny_recipe
from windvane.vision.training.train import train
train(tiny_recipe(**{fields!r}), digits(300, 100), out=sys.argv[1], resume=True, quiet=True)
"""


def test_a_killed_run_continues_bit_by_bit(tmp_path: Path) -> None:
    whole = train(tiny_recipe(**RESUMED), digits(300, 100), out=tmp_path / "whole", quiet=True)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(fields=RESUMED), str(killed)], env=environment)
    while process.poll() is None and not (killed / CHECKPOINT).exists():
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(pd.read_csv(killed / "metrics.csv")) < len(whole.history)
    again = train(tiny_recipe(**RESUMED), digits(300, 100), out=killed, resume=True, quiet=True)
    wanted, found = whole.model.network.state_dict(), again.model.network.state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert [timeless(one) for one in again.history] == [timeless(one) for one in whole.history]
    kept = load_model(killed).network.state_dict()
    assert all(torch.equal(wanted[name], kept[name]) for name in wanted)


@pytest.mark.parametrize("step", [0, 1, 4])
def test_an_interrupted_run_continues_bit_by_bit(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first evaluation, and between two of them; what was added up since the last one is not lost."""
    recipe, data, folder = tiny_recipe(**RESUMED), digits(300, 100), tmp_path / "run"
    whole = train(recipe, data, quiet=True)
    augment = TrainingRun.augment

    def interrupt(
        run: TrainingRun, images: torch.Tensor, labels: torch.Tensor, number: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if number == step:
            os.kill(os.getpid(), signal.SIGINT if step else signal.SIGTERM)
        return augment(run, images, labels, number)

    with monkeypatch.context() as patched:
        patched.setattr(TrainingRun, "augment", interrupt)
        with pytest.raises(KeyboardInterrupt, match=rf"stopped after step {step + 1}, \d+% of the run: .*resume=True"):
            train(recipe, data, out=folder, quiet=True)
        with pytest.raises(KeyboardInterrupt, match="nothing was saved"):
            train(recipe, data, quiet=True)
    again = train(recipe, data, out=folder, resume=True, quiet=True)
    assert [timeless(one) for one in again.history] == [timeless(one) for one in whole.history]
    wanted, found = whole.model.network.state_dict(), again.model.network.state_dict()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_of_equally_good_checkpoints_the_last_is_best() -> None:
    data = digits(200, 40)
    trained = train(tiny_recipe(epochs=20, learning_rate=1e-3), data, quiet=True)
    scores = [one.valid_accuracy for one in trained.history]
    assert scores.count(max(scores)) > 1  # else this shows nothing
    assert trained.best == [one for one in trained.history if one.valid_accuracy == max(scores)][-1]


def test_a_finished_run_is_read_back(tmp_path: Path) -> None:
    recipe, data = tiny_recipe(), digits(100, 50)
    first = train(recipe, data, out=tmp_path / "run", quiet=True)
    again = train(recipe, data, out=tmp_path / "run", resume=True, quiet=True)
    assert again.history == first.history
    files = {"manifest.json", "metrics.csv", "model.safetensors", CHECKPOINT}
    assert {file.name for file in (tmp_path / "run").iterdir()} - {"tensorboard"} == files


def test_a_run_whose_model_takes_tuples_is_resumed(tmp_path: Path) -> None:
    small = {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 16), "stem_chs": 8}
    recipe, data = replace(tiny_recipe(steps=2), model="resnetv2_50", model_kwargs=small), digits(70, 30)
    first = train(recipe, data, out=tmp_path / "run", quiet=True)
    assert train(recipe, data, out=tmp_path / "run", resume=True, quiet=True).history == first.history


def test_other_runs_are_not_written_over(tmp_path: Path) -> None:
    recipe, data, folder = tiny_recipe(), digits(100, 50), tmp_path / "run"
    train(recipe, data, out=folder, quiet=True)
    with pytest.raises(InputError, match="is not empty"):
        train(recipe, data, out=folder, quiet=True)
    with pytest.raises(RunMismatchError, match="differs in learning_rate, seed"):
        train(replace(recipe, learning_rate=0.1, seed=5), data, out=folder, resume=True, quiet=True)
    with pytest.raises(RunMismatchError, match="images, labels"):
        train(recipe, digits(99, 50), out=folder, resume=True, quiet=True)
    with pytest.raises(InputError, match="is a file"):
        train(recipe, data, out=folder / "metrics.csv", quiet=True)
    with pytest.raises(InputError, match="resume=True needs out"):
        train(recipe, data, resume=True, quiet=True)


@pytest.mark.alone
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_timed_run_ends_on_time(precision: str) -> None:
    seconds = 3.0
    began = time.monotonic()
    trained = train(
        tiny_recipe(time_budget=seconds, steps=None, precision=precision), digits(500, 200), quiet=True, device="cpu"
    )
    assert time.monotonic() - began < seconds * 1.05 + 2.0
    assert trained.history[-1].progress == 1.0
    assert trained.history[-1].learning_rate < 1e-3  # has come down from 3e-3


def test_a_number_that_is_not_finite_stops_the_run_by_name_and_step() -> None:
    data = digits(200, 0)
    with pytest.raises(NotFiniteError, match=r"stopped at step \d+: the .* is not finite"):
        train(tiny_recipe(steps=60, learning_rate=1e30, grad_clip=None, warmup_fraction=0.0), data, quiet=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (parts(image_set(np.zeros((3, 8, 8, 3), np.uint8), None, 3)), "no labelled images"),
        (parts(noise(0)), "no labelled images"),
        (parts(replace(noise(2), labels=np.eye(3, dtype=np.int64)[:2])), "several labels"),
    ],
)
def test_images_without_labels_are_refused(data: ImageSplits, message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(tiny_recipe(), data, quiet=True)


def test_progress_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    train(tiny_recipe(), digits(100, 50), device="cpu")
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err.count("windvane: ") >= 8
    assert "images/s" in printed.err


WORKER = """
import sys
from pictures import digits, tiny_recipe
from windvane.vision.training.train import train
train(tiny_recipe(epochs=3), digits(256, 64), out=sys.argv[1], device="cpu", quiet=True)
"""


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Without randomness in the images the mean of two halves' gradients is that of the whole batch."""
    (tmp_path / "script.py").write_text(WORKER)
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", str(tmp_path / "script.py")]
    done = subprocess.run(
        [sys.executable, *words, str(tmp_path / "run")], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    alone = train(tiny_recipe(epochs=3), digits(256, 64), device="cpu", quiet=True)
    found = load_model(tmp_path / "run").network.state_dict()
    for name, value in alone.model.network.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=2e-3, rtol=2e-2)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_the_second_interrupts(number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in SIGNALS}
    with stop_on_signal() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert {one: signal.getsignal(one) for one in SIGNALS} == before


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with stop_on_signal() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert not stop.requested
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_elsewhere_signals_are_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_on_signal(processes=2):
        assert signal.getsignal(signal.SIGINT) is before
    seen: list[bool] = []

    def work() -> None:
        with stop_on_signal() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
