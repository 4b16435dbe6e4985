from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from pictures import tiny_recipe
from timm.layers import DropPath
from torch import nn

from windvane.errors import InputError
from windvane.vision.networks import create
from windvane.vision.networks.create import classifier_layer, classifier_layers, create_model, default_image_size
from windvane.vision.networks.profiling import count_macs, count_parameters
from windvane.vision.recipe import Recipe

KINDS = {
    "vit_tiny_patch16_224": {"patch_size": 8, "depth": 1},
    "vit_tiny_r_s16_p8_224": {"depth": 1},
    "resnet18": {},
    "efficientnet_lite0": {},
    "cct_2_3x2": {},
}


@pytest.mark.parametrize("name", KINDS)
def test_any_network_of_timm_at_any_size(name: str) -> None:
    recipe = Recipe(name, KINDS[name], image_size=32, steps=1, dropout=0.1, drop_path=0.1)
    network = create_model(recipe, 5).eval()
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 5)


def test_the_seed_decides_the_weights_and_nothing_else_is_drawn() -> None:
    before = torch.random.get_rng_state()
    first, again, other = (
        create_model(tiny_recipe(seed=seed), 3).state_dict()["patch_embed.proj.weight"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["vit_lite_7_4", "resnet18"])
def test_weights_are_those_of_the_seed_without_a_touch_of_the_generator_of_all_threads(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is loaded in the background leaves the dropout of a training in the foreground alone."""
    states = []

    def made(*arguments: Any) -> nn.Module:
        network = make(*arguments)
        states.append(torch.random.get_rng_state())
        return network

    make = create._create
    monkeypatch.setattr(create, "_create", made)
    recipe = Recipe(name, image_size=32, steps=1, seed=3)
    before = torch.random.get_rng_state()
    found = create_model(recipe, 5).state_dict()
    assert len(states) == 1
    assert torch.equal(states[0], before)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        size = {"img_size": 32} if name.startswith("vit") else {}
        plain = timm.create_model(name, num_classes=5, **size).state_dict()
    assert all(torch.equal(found[key], plain[key]) for key in plain)


def test_recipes_set_dropout_and_stochastic_depth_that_rises() -> None:
    recipe = replace(tiny_recipe(), model_kwargs={"depth": 3, "embed_dim": 32, "num_heads": 2})
    for level in (0.0, 0.1):
        network = create_model(replace(recipe, dropout=level, drop_path=level), 3)
        depth = [m.drop_prob for m in network.modules() if isinstance(m, DropPath)]
        assert depth == pytest.approx([0.05, 0.05, 0.1, 0.1] if level else [])  # the first block has none
        drops = {name: m.p for name, m in network.named_modules() if isinstance(m, nn.Dropout)}
        inner = {name for name in drops if name == "pos_drop" or name.endswith(("proj_drop", "drop1", "drop2"))}
        assert len(inner) == 10
        assert {name: p for name, p in drops.items() if p} == dict.fromkeys(inner if level else set(), level)


def test_convolutional_networks_drop_before_the_head() -> None:
    network = create_model(Recipe("resnet18", steps=1, dropout=0.1, drop_path=0.1), 3)
    assert network.drop_rate == 0.1
    assert max(m.drop_prob for m in network.modules() if isinstance(m, DropPath)) == pytest.approx(0.1)


def test_sigmoid_begins_at_the_frequency_of_a_class() -> None:
    (head,) = classifier_layers(create_model(tiny_recipe(loss="binary_cross_entropy"), 1000))
    assert head.bias.tolist() == pytest.approx([-6.9078] * 1000, abs=1e-3)
    (head,) = classifier_layers(create_model(tiny_recipe(), 1000))
    assert not head.bias.any()


def test_macs_and_parameters_of_a_known_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 36, 7))
    network[2].bias.requires_grad = False
    assert count_parameters(network) == 3 * 4 * 9 + 4 + 4 * 36 * 7
    network.train()
    assert count_macs(network, 6) == 36 * 3 * 4 * 9 + 4 * 36 * 7
    assert network.training


def test_macs_of_vit_lite() -> None:
    """As stated, 0.239e9, and the products of attention over 65 tokens in 7 blocks."""
    network = create_model(Recipe("vit_lite_7_4", image_size=32, steps=1), 10)
    assert count_macs(network, 32) == pytest.approx(0.239e9 + 7 * 2 * 65 * 65 * 256, rel=0.005)


@pytest.mark.parametrize("options", [{"dept": 3}, {"patch_size": 8, "num_heads": 5}])
def test_options_that_do_not_fit_are_named(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"model='vit_tiny_patch16_224' cannot be made with model_kwargs=\{"):
        create_model(Recipe("vit_tiny_patch16_224", options, steps=1), 3)


def test_usual_sizes() -> None:
    sizes = [default_image_size(name) for name in ("vit_tiny_patch16_224", "vit_lite_7_4", "tf_efficientnet_lite1")]
    assert sizes == [224, 32, 240]


def test_heads_that_are_convolutions_and_networks_with_two() -> None:
    network = create_model(Recipe("resnetv2_50", image_size=32, epochs=1.0, model_kwargs={"layers": (1, 1, 1, 1)}), 3)
    assert classifier_layer(network).weight.flatten(1).shape == (3, 2048)
    with pytest.raises(InputError, match="2 heads"):
        classifier_layer(create_model(Recipe("deit_tiny_distilled_patch16_224", epochs=1.0), 3))


def test_a_tag_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match=r"vit_tiny_patch16_224\.nope"):
        default_image_size("vit_tiny_patch16_224.nope")
    with pytest.raises(InputError, match=r"augreg_in21k"):
        Recipe("vit_tiny_patch16_224.augreg_in21q", epochs=1.0)
