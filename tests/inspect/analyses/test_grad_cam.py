"""Grad-CAM against loops over the derivatives, and against its closed form behind a pooled linear head."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from timm.models.mlp_mixer import MlpMixer
from torch import Tensor, nn
from vision_toys import SIDE, images, small_resnet, small_vit

from windvane.errors import InputError
from windvane.inspect import grad_cam, receptive_fields


class Small(nn.Module):
    """A convolution whose output the next layer overwrites, and a head that is no mean."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 8, stride=8)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(5 * 16, 6), nn.Tanh(), nn.Linear(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.conv(x)))  # type: ignore[no-any-return]


def slow_map(model: Small, maps: Tensor, target: int) -> np.ndarray:
    """Equations 1 and 2 for the maps (channels, rows, columns) of one image."""
    derivatives = torch.autograd.functional.jacobian(lambda one: model.head(torch.relu(one)[None])[0, target], maps)
    found = np.zeros(maps.shape[1:])
    for k in range(len(maps)):
        alpha = 0.0
        for i in range(maps.shape[1]):
            for j in range(maps.shape[2]):
                alpha += float(derivatives[k, i, j])
        alpha /= maps[k].numel()
        found += alpha * maps[k].detach().numpy()
    return np.maximum(found, 0)


def test_equals_a_slow_loop_also_where_a_layer_is_overwritten() -> None:
    model, x = Small(), images(3)
    found = grad_cam(model, x, [0, 3, 1], "conv")
    for i, target in enumerate((0, 3, 1)):
        np.testing.assert_allclose(found.values[i], slow_map(model, model.conv(x[i]), target), rtol=1e-4, atol=1e-7)
    assert found.values.max() > 0
    assert (found.layer, found.grid.rows, found.grid.patch_height) == ("conv", 4, 8.0)


def test_the_last_maps_of_a_residual_network_have_the_closed_form() -> None:
    """Behind a global mean and a linear layer the weights are those of the class over the number of places."""
    model, x = small_resnet(), images(2).repeat_interleave(2, dim=3).repeat_interleave(2, dim=2)
    found = grad_cam(model, x)
    with torch.inference_mode():
        maps = model.forward_features(x)
        chosen = model.fc.weight[model(x).argmax(dim=1)]  # (n, channels)
    expected = torch.relu((chosen[:, :, None, None] * maps).sum(dim=1)) / maps[0, 0].numel()
    np.testing.assert_allclose(found.values, expected.numpy(), rtol=1e-3, atol=1e-6)
    assert found.values.shape == (2, 2, 2)
    earlier = grad_cam(model, x, min_places=16)
    assert earlier.values.shape == (2, 4, 4) and earlier.layer == "layer3"


def test_networks_without_gradients_are_read_and_left_as_they_are() -> None:
    model = Small().requires_grad_(False).train()
    grad_cam(model, images(2), 1)
    assert model.training and not any(one.requires_grad for one in model.parameters())
    assert all(one.grad is None for one in Small().parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_that_are_switched_off_change_nothing(mode: Any) -> None:
    model, x = Small(), images(2)
    wanted = grad_cam(model, x, 1).values, receptive_fields(model, x, "*").maps
    with mode():
        found = grad_cam(model, images(2) + 0, 1).values, receptive_fields(model, images(2) + 0, "*").maps
    assert all(np.array_equal(*pair) for pair in zip(wanted, found, strict=True)) and wanted[0].any()


def test_maps_are_scaled_enlarged_listed_and_drawn() -> None:
    found = grad_cam(Small(), images(2), 2)
    large = found.upsampled(32, 16)
    assert large.shape == (2, 32, 16) and large.min() >= 0 and large.max() <= 1
    assert found.scaled.max(axis=(1, 2)) == pytest.approx(1.0)
    frame = found.to_frame()
    assert list(frame) == ["image", "row", "column", "value"]
    assert frame["value"].tolist() == found.values.ravel().tolist()
    assert "Grad-CAM" in found.plot().axes[0].get_title()


@pytest.mark.parametrize(
    ("classes", "layer", "message"),
    [
        (4, None, "classes=4 is not usable. Allowed: numbers from 0 to 3"),
        ([0, 1, 2], None, "is not usable"),
        (0.5, None, "is not usable"),
        (0, "nothing", "layer"),
        (0, "*", "Allowed: one layer"),
    ],
)
def test_mistakes(classes: object, layer: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        grad_cam(Small(), images(2), classes, layer)


def test_a_transformer_has_no_maps_but_layers_with_places() -> None:
    with pytest.raises(InputError, match="attention_rollout"):
        grad_cam(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)), images(2))
    found = grad_cam(small_vit(), images(2), 0, "blocks.1")
    assert found.values.shape == (2, 4, 4)


def test_heads_by_tokens_are_no_maps() -> None:
    """Networks of timm keep norms of keys (n, heads, tokens, channels), which have four axes, too."""
    for model in (small_vit(), MlpMixer(img_size=64, patch_size=32, num_blocks=1, embed_dim=24)):
        size = SIDE if hasattr(model, "cls_token") else 64
        with pytest.raises(InputError, match="does not end in maps of at least 2 places"):
            grad_cam(model, torch.randn(2, 3, size, size))


def test_maps_with_channels_last_count_their_places() -> None:
    model = torchvision.models.SwinTransformer([4, 4], 8, [1, 1, 1], [2, 2, 2], [4, 4], num_classes=2)
    found = grad_cam(model, images(2))  # 8 x 8, 4 x 4 and 2 x 2 places
    assert found.values.shape == (2, 2, 2)
    found = grad_cam(model, images(2), min_places=5)
    assert found.values.shape == (2, 4, 4) and found.layer.startswith("features.3")
