from __future__ import annotations

import pytest
import timm
import torch

from windvane.vision.networks.vit_lite import CCT, NAMES, ConvTokenizer

# Millions of parameters for CIFAR-10, as the authors state them. Keys and queries have biases here, and positions are
# learned.
STATED = {"vit_lite_7_4": 3.72, "cct_2_3x2": 0.284, "cct_6_3x1": 3.17, "cct_7_3x1": 3.76}


@pytest.mark.parametrize(("name", "millions"), STATED.items())
def test_sizes_are_those_that_the_authors_state(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = timm.create_model(name)
    found = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert found == pytest.approx(millions, rel=0.03)


@pytest.mark.parametrize("name", NAMES)
def test_timm_makes_them(name: str) -> None:
    assert timm.is_model(name)
    network = timm.create_model(name, num_classes=4, img_size=16, depth=1, drop_path_rate=0.1).eval()
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 4)
    assert network.get_classifier().out_features == 4


def test_pooling_is_a_mean_weighted_by_importance() -> None:
    network = CCT(img_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=3)
    torch.nn.init.normal_(network.importance.weight)
    tokens = torch.randn(2, 5, 16)
    network.requires_grad_(False)
    found = network.pool(tokens)
    for image, pooled in zip(tokens, found, strict=True):
        scores = [float(torch.exp(network.importance(token))) for token in image]
        wanted = sum(score / sum(scores) * token for score, token in zip(scores, image, strict=True))
        torch.testing.assert_close(pooled, wanted)
    torch.testing.assert_close(network.pool(tokens, "avg"), tokens.mean(dim=1))


@pytest.mark.parametrize(("size", "convolutions", "sides"), [(32, 1, (16, 16)), (32, 2, (8, 8)), ((9, 7), 1, (5, 4))])
def test_tokens_are_as_many_as_announced(
    size: int | tuple[int, int], convolutions: int, sides: tuple[int, int]
) -> None:
    layer = ConvTokenizer(
        kernel=3,
        convolutions=convolutions,
        img_size=size,
        in_chans=3,
        embed_dim=6,
        patch_size=16,
        bias=True,
        dynamic_img_pad=False,
    )
    assert layer.grid_size == sides
    height, width = size if isinstance(size, tuple) else (size, size)
    assert layer(torch.zeros(1, 3, height, width)).shape == (1, layer.num_patches, 6)
    assert layer.feat_ratio() == 2**convolutions
