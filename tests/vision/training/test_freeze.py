from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pictures import digits, tiny_recipe
from torch import nn

from windvane.vision.networks.create import create_model
from windvane.vision.recipe import Recipe
from windvane.vision.training.optimizer import freeze_layers, set_train_mode
from windvane.vision.training.train import train

RECIPES = {
    "transformer": tiny_recipe(),
    "tokenizer": tiny_recipe(model="cct_2_3x2", model_kwargs={}),
    "convolutions": Recipe("resnet10t", image_size=32, steps=1),
    "efficientnet": Recipe("tf_efficientnet_lite0", image_size=32, steps=1),
}


@pytest.mark.parametrize("kind", RECIPES)
def test_layers_are_frozen_from_the_image_on(kind: str) -> None:
    network = create_model(RECIPES[kind], 3)
    names = [name for name, _ in network.named_parameters()]
    kept: set[str] = set()
    for share in (0.0, 0.3, 0.6, 0.99):
        freeze_layers(network.requires_grad_(True), share)
        frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
        assert kept <= frozen and bool(frozen) == bool(share)
        kept = frozen
    assert len(kept) < len(names)
    assert all(parameter.requires_grad for parameter in network.get_classifier().parameters())  # type: ignore[operator]


def test_batch_norms_that_stay_keep_their_means() -> None:
    network = create_model(RECIPES["convolutions"], 3)
    freeze_layers(network, 0.5)
    set_train_mode(network)
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    before = {name: module.running_mean.clone() for name, module in norms.items()}  # type: ignore[union-attr]
    network(torch.randn(4, 3, 32, 32))
    still = {name for name, module in norms.items() if torch.equal(module.running_mean, before[name])}  # type: ignore[arg-type]
    assert still == {name for name, module in norms.items() if not module.weight.requires_grad}
    assert 0 < len(still) < len(norms)


def test_what_stays_is_not_trained() -> None:
    recipe = tiny_recipe(freeze_fraction=0.6, steps=3)
    start = create_model(recipe, 10).state_dict()
    trained = train(recipe, digits(100, 50), quiet=True).model.network
    same = {name for name, value in trained.state_dict().items() if torch.equal(value, start[name])}
    assert "patch_embed.proj.weight" in same and "blocks.0.mlp.fc1.weight" in same
    assert "blocks.1.mlp.fc1.weight" not in same and "head.weight" not in same
    assert all(parameter.requires_grad for parameter in trained.parameters())
    whole = train(replace(recipe, freeze_fraction=0.0), digits(100, 50), quiet=True).model.network.state_dict()
    assert not torch.equal(whole["patch_embed.proj.weight"], start["patch_embed.proj.weight"])


def test_batch_norms_keep_what_weights_from_elsewhere_brought() -> None:
    network = create_model(RECIPES["convolutions"], 3)
    set_train_mode(network, from_weights=True)
    before = {name: value.clone() for name, value in network.state_dict().items() if "running" in name}
    network(torch.randn(4, 3, 32, 32))
    assert before
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert network.training
