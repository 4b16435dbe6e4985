from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import digits, parts, tiny_recipe

from windvane.data.images import ImageDataset
from windvane.errors import InputError
from windvane.vision.training.train import train
from windvane.vision.transfer.finetune import (
    BATCH_SIZE,
    CPU_TIME_BUDGET,
    STEPS,
    TIMED_BATCH_SIZE,
    TIMED_LEARNING_RATE,
    default_time_budget,
    finetune,
    finetune_recipe,
)


def test_weights_may_name_their_network(tmp_path: Path) -> None:
    named = finetune_recipe("timm/resnet18")
    assert (named.model, named.weights) == ("resnet18", "timm")
    assert finetune_recipe("resnet18=w.pth") == finetune_recipe("w.pth", model="resnet18")
    (tmp_path / "a=b.pth").touch()
    with pytest.raises(InputError, match="do not say of which network"):
        finetune_recipe(str(tmp_path / "a=b.pth"))


def test_the_protocol_is_that_of_the_paper() -> None:
    recipe = finetune_recipe("timm", model="vit_base_patch16_224")
    assert (recipe.steps, recipe.batch_size, recipe.learning_rate, recipe.warmup_fraction) == (
        STEPS,
        BATCH_SIZE,
        0.03,
        0.2,
    )
    assert (recipe.optimizer, recipe.grad_clip, recipe.weight_decay) == ("sgd", 1.0, 0.0)
    assert (recipe.augreg, recipe.dropout, recipe.drop_path, recipe.image_size) == ("none", 0.0, 0.0, 224)
    timed = finetune_recipe("efficientnet_lite1", time_budget=60, image_size=96, seed=4)
    assert (timed.model, timed.time_budget, timed.steps, timed.image_size, timed.seed) == (
        *("tf_efficientnet_lite1", 60, None),
        *(96, 4),
    )
    assert (timed.batch_size, timed.learning_rate, timed.optimizer) == (TIMED_BATCH_SIZE, TIMED_LEARNING_RATE, "sgd")
    assert finetune_recipe("efficientnet_lite1").image_size == 240
    with pytest.raises(InputError, match=r"do not say of which network they are. Allowed: efficientnet_lite0"):
        finetune_recipe("weights.pth")


def test_related_classes_are_learned_faster_from_a_run(tmp_path: Path) -> None:
    """Six digits first, then the other four from few images: better than from scratch in the same steps."""
    whole = digits(1200, 400)
    assert whole.valid is not None
    first = parts(part(whole.train, 0, 6), part(whole.valid, 0, 6))
    second = parts(part(whole.train, 6, 10, most=120), part(whole.valid, 6, 10))
    train(tiny_recipe(epochs=30), first, out=tmp_path / "run", quiet=True)
    recipe = replace(
        finetune_recipe(str(tmp_path / "run"), steps=40),
        batch_size=32,
        crop="none",
        horizontal_flip=False,
        learning_rate=0.03,
    )
    adapted = train(recipe, second, quiet=True)
    scratch = train(replace(recipe, weights=None), second, quiet=True)
    assert adapted.best.valid_accuracy > scratch.best.valid_accuracy + 0.05
    timed = finetune(str(tmp_path / "run"), second, time_budget=2.0, quiet=True)
    assert timed.model.recipe.model_kwargs == tiny_recipe().model_kwargs
    assert timed.history[0].step == 0 and timed.notes


def test_on_a_cpu_a_transfer_takes_a_time() -> None:
    assert default_time_budget("cpu") == CPU_TIME_BUDGET
    if not torch.cuda.is_available():
        assert default_time_budget() == CPU_TIME_BUDGET


def part(images: ImageDataset, low: int, high: int, most: int | None = None) -> ImageDataset:
    assert images.labels is not None
    rows = np.flatnonzero((images.labels >= low) & (images.labels < high))[:most]
    chosen = images.take(rows)
    return replace(chosen, labels=images.labels[rows] - low, classes=tuple(map(str, range(low, high))))
