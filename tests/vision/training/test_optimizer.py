from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from pictures import digits, tiny_recipe
from torch import nn

from windvane.vision.networks.create import create_model
from windvane.vision.recipe import Recipe
from windvane.vision.training.optimizer import classification_loss, freeze_layers, make_optimizer, set_train_mode
from windvane.vision.training.schedule import learning_rate_at
from windvane.vision.training.train import train


def test_the_rate_rises_and_falls() -> None:
    recipe = tiny_recipe(learning_rate=0.2, warmup_fraction=0.25)
    assert [learning_rate_at(p, recipe) for p in (0.0, 0.125, 0.25, 0.625, 1.0)] == pytest.approx([0, 0.1, 0.2, 0.1, 0])
    without = tiny_recipe(learning_rate=0.2, warmup_fraction=0.0)
    assert [learning_rate_at(p, without) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.2, 0.1, 0.0])


def test_only_matrices_of_weights_decay() -> None:
    for recipe in (tiny_recipe(weight_decay=0.3), Recipe("resnet18", steps=1, weight_decay=0.3)):
        network = create_model(recipe, 3)
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        decayed, plain = make_optimizer(network, recipe).param_groups
        assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
        found = {names[id(p)] for p in decayed["params"]}
        assert found == {n for n, p in network.named_parameters() if n.endswith(".weight") and p.ndim > 1}
        assert len(found) + len(plain["params"]) == len(names)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_steps_are_those_of_the_textbook(kind: str) -> None:
    recipe = tiny_recipe(optimizer=kind, learning_rate=0.1, weight_decay=0.0)
    layer = torch.nn.Linear(3, 1, bias=False)
    optimizer = make_optimizer(layer, recipe)
    weight = layer.weight.detach().clone().double()
    first = second = torch.zeros_like(weight)
    for step in range(1, 4):
        gradient = torch.full_like(weight, float(step))
        layer.weight.grad = gradient.float()
        optimizer.step()
        if kind == "sgd":
            first = 0.9 * first + gradient
            weight = weight - 0.1 * first
        else:
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
            weight = weight - 0.1 * mean / (square.sqrt() + 1e-8)
    torch.testing.assert_close(layer.weight.detach().double(), weight, atol=1e-6, rtol=1e-6)


def test_losses_of_mixed_targets() -> None:
    logits = torch.tensor([[1.0, -1.0, 0.5], [0.0, 2.0, -1.0]])
    targets = torch.tensor([[0.7, 0.3, 0.0], [0.0, 1.0, 0.0]])
    softmax = -(targets * logits.log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(classification_loss(logits, targets, tiny_recipe()), softmax)
    p = logits.sigmoid()
    sigmoid = -(targets * p.log() + (1 - targets) * (1 - p).log()).sum(dim=1).mean()
    torch.testing.assert_close(classification_loss(logits, targets, tiny_recipe(loss="binary_cross_entropy")), sigmoid)
    labels = torch.tensor([0, 1])
    smoothed = classification_loss(logits, F.one_hot(labels, 3).float(), tiny_recipe(label_smoothing=0.1))
    torch.testing.assert_close(smoothed, F.cross_entropy(logits, labels, label_smoothing=0.1))
    assert math.isfinite(
        float(classification_loss(logits.bfloat16(), targets, tiny_recipe(loss="binary_cross_entropy")))
    )


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
