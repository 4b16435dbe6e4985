"""Attention rollout against a loop over the paths between tokens."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import timm
import torch
from torch import nn
from vision_toys import DEPTH, GivenAttention, images, small_vit

from windvane.errors import InputError
from windvane.inspect import attention_maps, attention_rollout


def slow_rollout(model: nn.Module, x: torch.Tensor) -> np.ndarray:
    """Sum over all paths of tokens from the first layer to the last one, (n, tokens, tokens)."""
    layers = [weights.mean(dim=1).numpy() for weights in attention_maps(model, x).values()]
    n, t = layers[0].shape[:2]
    found = np.zeros((n, t, t))
    for image in range(n):
        for path in itertools.product(range(t), repeat=len(layers) + 1):
            share = 1.0
            for layer, (earlier, later) in zip(layers, itertools.pairwise(path), strict=True):
                share *= 0.5 * layer[image, later, earlier] + 0.5 * (later == earlier)
            found[image, path[-1], path[0]] += share
    return found


@pytest.mark.parametrize("pool", ["token", "avg"])
def test_equals_the_sum_over_all_paths(pool: str) -> None:
    model = small_vit(pool=pool)
    model.blocks = model.blocks[:2]
    x = images(1)
    found, expected = attention_rollout(model, x), slow_rollout(model, x)
    ends = expected[:, 0, 1:] if pool == "token" else expected.mean(axis=1)
    np.testing.assert_allclose(found.values.reshape(1, -1), ends, rtol=1e-5)
    assert (found.method, found.layer) == ("attention rollout", "blocks.1.attn")


def test_attention_to_one_token_ends_there() -> None:
    """Half of each token goes to the fourth patch, half stays."""
    logits = torch.zeros(2, 16, 16)
    logits[:, :, 3] = 1000
    found = attention_rollout(GivenAttention(logits), images(2)).values.reshape(2, 16)
    expected = np.full(16, 0.5 / 16)
    expected[3] += 0.5
    np.testing.assert_allclose(found, [expected, expected], rtol=1e-6)


def test_shares_of_all_patches_and_registers() -> None:
    found = attention_rollout(small_vit(pool="avg"), images(3))
    assert found.values.shape == (3, 4, 4) and found.values.sum(axis=(1, 2)) == pytest.approx(1.0)
    assert attention_rollout(small_vit(registers=2), images(2)).grid.n_prefix == 3
    assert attention_rollout(small_vit(), images(2), "blocks.0.*").layer == "blocks.0.attn"
    assert len(attention_maps(small_vit(), images(1))) == DEPTH


def test_wrapped_network_without_a_class_token() -> None:
    model, x = small_vit(pool="avg", registers=2), images(2)
    found = attention_rollout(nn.DataParallel(model), x)
    np.testing.assert_array_equal(found.values, attention_rollout(model, x).values)


class Pooling(nn.Module):
    """Two layers of attention, the second over a quarter of the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = GivenAttention(torch.zeros(1, 16, 16)), GivenAttention(torch.zeros(1, 4, 4))

    def forward(self, x: torch.Tensor) -> None:
        self.first(torch.zeros(len(x), 16, 8))
        self.second(torch.zeros(len(x), 4, 8))


def test_mistakes() -> None:
    with pytest.raises(InputError, match="no self-attention"):
        attention_rollout(nn.Conv2d(3, 4, 3), images(2))
    with pytest.raises(InputError, match=r"second has 4 tokens, earlier ones have 16.*layers='first'"):
        attention_rollout(Pooling(), images(2))


def test_networks_that_attend_within_windows() -> None:
    """The last layers of a Swin see the whole image, but what they mix are not its patches."""
    options = {"img_size": 32, "window_size": 4, "embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2)}
    model = timm.create_model("swin_tiny_patch4_window7_224", num_classes=2, **options)
    with pytest.raises(InputError, match=r"attends within windows in 1 layers, .*'layers\.0.*layers='layers\.1"):
        attention_rollout(model, images(2))
    assert attention_rollout(model, images(2), "layers.1.*").values.shape == (2, 4, 4)
