from __future__ import annotations

import pytest
import timm
import torch
from vision_toys import images, small_resnet, small_vit

from windvane.errors import InputError
from windvane.inspect.places import spatial_layers
from windvane.inspect.tokens import prefix_counts


def test_layers_that_keep_places() -> None:
    model = small_vit()
    names = spatial_layers(model, images(), ["blocks.?", "fc_norm", "head"], prefix_counts(model))
    assert names == ("blocks.0", "blocks.1", "blocks.2")


def test_a_class_token_alone_keeps_none() -> None:
    torch.manual_seed(0)
    model = timm.create_model("cait_xxs24_224", img_size=32, patch_size=8, depth=1, embed_dim=24, num_heads=3)
    assert spatial_layers(model, images(), "block", prefix_counts(model)) == ("blocks.0",)


def test_too_few_places() -> None:
    model = small_resnet()
    layers, counts = ["layer3.0", "layer4.0"], prefix_counts(model)
    assert spatial_layers(model, images(), layers, counts) == ("layer3.0", "layer4.0")
    assert spatial_layers(model, images(), layers, counts, fewest=2) == ("layer3.0",)


def test_none_keeps_any() -> None:
    model = small_vit()
    with pytest.raises(InputError, match="choose layers before the network pools"):
        spatial_layers(model, images(), "head", prefix_counts(model))
    with pytest.raises(InputError, match="matches none"):
        spatial_layers(model, images(), "nothing", prefix_counts(model))
    with pytest.raises(InputError, match=r"'layer4.0' has 1 places. Allowed: at least 2"):
        spatial_layers(small_resnet(), images(), "layer4.0", (0,), fewest=2)
