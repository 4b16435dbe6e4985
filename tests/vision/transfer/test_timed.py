"""Transfer in a given time: on time, at least as good as the probe, and exactly where it was after a stop."""

from __future__ import annotations

import importlib
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import digits, image_set, parts, tiny_recipe

from windvane.errors import InputError, RunMismatchError
from windvane.stop_signals import StopRequest
from windvane.vision.networks.profiling import Timing
from windvane.vision.predict import predict_proba
from windvane.vision.recipe import Recipe
from windvane.vision.saved_model import load_model
from windvane.vision.training.run import TrainingRun
from windvane.vision.training.train import run_training, train
from windvane.vision.training.training_log import ProgressLogger
from windvane.vision.transfer.finetune import finetune_recipe
from windvane.vision.transfer.timed import PLAN, finetune_timed

module = importlib.import_module("windvane.vision.transfer.timed")  # windvane.vision has the function by that name
DATA = digits(200, 100)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("weights") / "run"
    train(tiny_recipe(epochs=8), digits(600, 100), out=folder, quiet=True)
    return str(folder)


def recipe_of(weights: str, seconds: float = 3.0) -> Recipe:
    return replace(finetune_recipe(weights, time_budget=seconds), crop="none")


def timing(forward: float) -> Timing:
    return Timing(8, 1e-4, forward, {0.0: 4 * forward, 0.5: 2 * forward})


@pytest.mark.alone
def test_the_probe_comes_first_and_is_never_lost(weights: str, tmp_path: Path) -> None:
    began = time.monotonic()
    adapted = finetune_timed(recipe_of(weights), DATA, out=tmp_path / "run", quiet=True)
    assert time.monotonic() - began < 3.0 * 1.05 + 2.0
    first, *others = adapted.history
    assert (first.step, first.progress) == (0, 0.0) and np.isnan(first.train_loss)
    assert others and others[-1].progress == 1.0
    assert adapted.best.valid_accuracy >= first.valid_accuracy > 0.2  # chance is 0.1
    assert any(f"{first.valid_accuracy:.1%} of 100 validation images" in note for note in adapted.notes)
    assert DATA.valid is not None
    found = predict_proba(load_model(tmp_path / "run"), DATA.valid).argmax(axis=1)
    assert (found == DATA.valid.labels).mean() == pytest.approx(adapted.best.valid_accuracy)


def test_a_result_is_tuned_further(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure_timing", lambda *_: timing(forward=1e-4))
    first = finetune_timed(recipe_of(weights, 1.0), DATA, out=tmp_path / "run", quiet=True)
    assert first.model.recipe.block_components
    for recipe in (first.model.recipe, recipe_of(str(tmp_path / "run"), 1.0)):
        again = finetune_timed(recipe, DATA, quiet=True)
        assert again.history[0].valid_accuracy > 0.2 and again.model.recipe.block_components
    with pytest.raises(InputError, match="block_components"):
        train(replace(first.model.recipe, time_budget=None, steps=2), DATA, quiet=True)


def test_small_images_are_not_enlarged_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []

    def plan(timing: Timing, sizes: list[int], *others: Any) -> Any:
        asked.append(sizes)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "measure_timing", lambda *_: timing(forward=1e-4))
    monkeypatch.setattr(module, "plan_finetuning", plan)
    monkeypatch.setattr(module, "create_network", lambda *_: None)
    recipe = replace(finetune_recipe("efficientnet_lite0", time_budget=1.0), image_size=224)
    for side in (10, 30, 100):
        images = image_set(np.zeros((6, side + 8, side, 3), dtype=np.uint8), np.arange(6) % 2, 2)
        with pytest.raises(KeyboardInterrupt):
            finetune_timed(recipe, parts(images, images), quiet=True)
    assert [max(sizes) for sizes in asked] == [96, 128, 224]


def test_without_time_the_probe_is_what_is_left(
    weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "measure_timing", lambda *_: timing(forward=0.02))
    adapted = finetune_timed(recipe_of(weights), DATA, out=tmp_path / "run")
    assert len(adapted.history) == 1 and adapted.best.progress == 1.0
    assert "a linear probe" in capfd.readouterr().err
    kept = json.loads((tmp_path / "run" / PLAN).read_text())
    assert kept["n_train"] < 200
    again = finetune_timed(recipe_of(weights), DATA, out=tmp_path / "run", resume=True, quiet=True)
    assert again.history == adapted.history and again.notes == adapted.notes


def test_a_stopped_run_resumes_its_plan(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure_timing", lambda *_: timing(forward=1e-3))

    def stop_at_once(run: TrainingRun, folder: Path, log: ProgressLogger, *, stop: StopRequest, **first: bool) -> None:
        stop.requested = True
        run_training(run, folder, log, stop=stop, **first)

    monkeypatch.setattr(module, "run_training", stop_at_once)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 0"):
        finetune_timed(recipe_of(weights), DATA, out=tmp_path / "run", quiet=True)
    monkeypatch.setattr(module, "run_training", run_training)
    monkeypatch.setattr(module, "measure_timing", lambda *_: pytest.fail("measured again"))
    again = finetune_timed(recipe_of(weights), DATA, out=tmp_path / "run", resume=True, quiet=True)
    assert again.history[0].step == 0 and again.history[-1].progress == 1.0
    assert again.model.recipe.batch_size == 25  # 8 batches of the 200 images
    with pytest.raises(RunMismatchError, match="differs in seed"):
        finetune_timed(replace(recipe_of(weights), seed=1), DATA, out=tmp_path / "run", resume=True, quiet=True)


def test_images_are_flipped_if_that_changes_nothing(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digits lean to one side; pictures that are their own mirror image do not."""
    monkeypatch.setattr(module, "measure_timing", lambda *_: timing(forward=1e-4))
    images = np.stack(DATA.train.items)
    halves = np.concatenate([images[:, :, :4], images[:, :, 3::-1]], axis=2)
    same = image_set(halves, DATA.train.labels, 10)
    symmetric = parts(same.take(np.arange(120)), same.take(np.arange(120, 200)))
    for data, flip in ((DATA, False), (symmetric, True)):
        adapted = finetune_timed(recipe_of(weights, 2.5), data, quiet=True)
        assert adapted.model.recipe.horizontal_flip is flip
        assert "flipped" in adapted.notes[1]


def test_without_validation_images_the_last_state_counts(weights: str) -> None:
    adapted = finetune_timed(recipe_of(weights, 1.0), digits(100, 0), quiet=True)
    assert adapted.best == adapted.history[-1]
    assert "not evaluated" in adapted.notes[1]


def test_unusable_calls_are_refused(weights: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="finetune_timed needs both"):
        finetune_timed(finetune_recipe(weights, steps=3), DATA, quiet=True)
    with pytest.raises(InputError, match="finetune_timed needs both"):
        finetune_timed(tiny_recipe(time_budget=3.0), DATA, quiet=True)
    train(replace(finetune_recipe(weights, steps=2), batch_size=20), DATA, out=tmp_path / "run", quiet=True)
    with pytest.raises(RunMismatchError, match="was not fitted to a time"):
        finetune_timed(recipe_of(weights), DATA, out=tmp_path / "run", resume=True, quiet=True)


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("vit_tiny_patch16_224", [224, 192, 160, 128, 96]),
        ("vit_small_patch14_dinov2", [518, 504, 476, 448, 420, 392, 364, 336, 308, 280, 252, 224]),
        ("tf_efficientnet_lite1", [240, 224, 192, 160, 128, 96]),
        ("vit_lite_7_4", [32]),
    ],
)
def test_sizes_are_those_that_the_network_takes(model: str, sizes: list[int]) -> None:
    recipe = Recipe(model, image_size=sizes[0], steps=1)
    assert module.supported_image_sizes(recipe) == sizes
    assert torch.get_default_device() == torch.device("cpu")
