from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from pictures import tiny_recipe

from windvane.vision.networks.create import create_model
from windvane.vision.recipe import Recipe
from windvane.vision.training.optimizer import classification_loss, make_optimizer
from windvane.vision.training.schedule import learning_rate_at


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
