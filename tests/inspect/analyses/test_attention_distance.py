"""Mean attention distance equals a slow loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import timm
import torch
from matplotlib.figure import Figure
from torch import nn
from vision_toys import (
    HEADS,
    N_PATCHES,
    PATCH,
    GivenAttention,
    images,
    small_vit,
)

from windvane.errors import InputError
from windvane.inspect.analyses.attention_distance import attention_distance
from windvane.inspect.tokens import token_grid


def slow_distance(weights: np.ndarray, n_prefix: int, side: int, patch: float) -> float:
    total = 0.0
    for i in range(side * side):
        row = weights[n_prefix + i, n_prefix:]
        for j in range(side * side):
            apart = patch * math.hypot(i // side - j // side, i % side - j % side)
            total += row[j] / row.sum() * apart
    return total / (side * side)


@pytest.mark.parametrize("n_prefix", [0, 1, 2])
def test_distance_equals_a_slow_loop(n_prefix: int) -> None:
    tokens = N_PATCHES + n_prefix
    logits = torch.randn(HEADS, tokens, tokens, generator=torch.Generator().manual_seed(3)) * 3
    found = attention_distance(GivenAttention(logits), images(5), batch_size=2)
    weights = logits.softmax(-1).numpy()
    expected = [slow_distance(head, n_prefix, 4, PATCH) for head in weights]
    assert found.distances[0] == pytest.approx(expected, rel=1e-5)
    assert found.prefix_attention[0] == pytest.approx(
        weights[:, n_prefix:, :n_prefix].sum(-1).mean(1), rel=1e-4, abs=1e-6
    )
    assert (found.n_images, found.grid) == (5, token_grid(tokens, (32, 32), (n_prefix,)))


def test_uniform_attention_has_the_closed_form() -> None:
    """All pairs alike: the mean distance of two random patches; nearly 117 pixels for 14 x 14 patches of 16."""
    model = small_vit()
    for block in model.blocks:
        nn.init.zeros_(block.attn.qkv.weight)
        nn.init.zeros_(block.attn.qkv.bias)
    found = attention_distance(model, images())
    pairs = itertools.product(itertools.product(range(4), repeat=2), repeat=2)
    expected = PATCH * np.mean([math.dist(one, other) for one, other in pairs])
    assert found.uniform_distance == pytest.approx(expected, rel=1e-12)
    for distance, share in zip(found.distances, found.prefix_attention, strict=True):
        assert distance == pytest.approx(np.full(HEADS, expected), rel=1e-5)
        assert share == pytest.approx(np.full(HEADS, 1 / (1 + N_PATCHES)), rel=1e-5)
    assert token_grid(197, (224, 224)).distances().mean().item() == pytest.approx(117, abs=1)


def test_late_class_token() -> None:
    torch.manual_seed(0)
    cait = timm.create_model("cait_xxs24_224", img_size=32, patch_size=8, depth=1, embed_dim=24, num_heads=3).eval()
    found = attention_distance(cait, images())
    assert found.layers == ("blocks.0.attn",)
    assert found.grid == token_grid(N_PATCHES, (32, 32), (0,))


def test_layers_of_several_grids() -> None:
    torch.manual_seed(0)
    pit = timm.create_model("pit_ti_224", img_size=64, num_classes=2).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(
        InputError, match=r"has a grid of 4 x 4 patches, earlier ones have 7 x 7.*layers='transformers.0.blocks.0.attn'"
    ):
        attention_distance(pit, x)
    assert attention_distance(pit, x, "transformers.0.*").grid.n_patches == 49


def test_a_head_that_looks_at_itself() -> None:
    logits = torch.stack([1000 * torch.eye(N_PATCHES), torch.zeros(N_PATCHES, N_PATCHES)])
    found = attention_distance(GivenAttention(logits), images())
    assert found.distances[0][0] == pytest.approx(0, abs=1e-9)
    assert found.distances[0][1] == pytest.approx(found.uniform_distance, rel=1e-6)
    assert found.local_heads()[0].tolist() == [True, False]
    frame = found.to_frame()
    assert frame["local"].tolist() == [True, False]
    assert list(frame.columns) == ["layer", "depth", "head", "distance", "prefix_attention", "local"]


def test_picture() -> None:
    figure = attention_distance(small_vit(), images()).plot()
    assert isinstance(figure, Figure)
    (ax,) = figure.axes
    assert "pixels" in ax.get_ylabel()
    other = Figure()
    assert attention_distance(small_vit(), images()).plot(other.subplots()) is other
