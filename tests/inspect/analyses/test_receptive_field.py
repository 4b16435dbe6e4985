from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from vision_toys import DEPTH, PATCH, SIDE, huggingface_vit, images, small_resnet, small_vit

from windvane.errors import InputError
from windvane.inspect.analyses.receptive_field import ReceptiveFields, receptive_fields
from windvane.inspect.tokens import TokenGrid


def test_equals_the_full_derivative_of_one_feature() -> None:
    """With one channel the signs cancel: the root mean square of the whole Jacobian, exactly."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 1, 5, stride=2, padding=2))
    x = torch.randn(3, 3, 16, 16)
    found = receptive_fields(model, x, "2", n_images=3)
    jacobian = torch.stack([torch.autograd.functional.jacobian(lambda one: model(one[None])[0, 0, 4, 4], i) for i in x])
    expected = jacobian.square().mean((0, 1)).sqrt()  # (16, 16)
    assert found.maps[0] == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-8)
    assert found.grids[0] == TokenGrid(0, 8, 8, 2.0, 2.0)
    assert (found.maps[0] > 0).sum() <= 7 * 7  # nothing beyond the theoretical field
    assert found.maps[0][8, 8] > 0


def test_signs_stand_for_all_features() -> None:
    """The squared map of many images of one kind tends to the mean over features of the squared Jacobian."""
    model = small_vit()
    x = images(1).repeat(400, 1, 1, 1)
    found = receptive_fields(model, x, "blocks.1", n_images=400)

    def centre(one: Tensor) -> Tensor:
        tokens = model._pos_embed(model.patch_embed(one[None]))
        return model.blocks[1](model.blocks[0](tokens))[0, 1 + 2 * 4 + 2]

    jacobian = torch.autograd.functional.jacobian(centre, x[0])  # (features, 3, 32, 32)
    expected = jacobian.square().mean((0, 1)).sqrt().numpy()
    correlation = np.corrcoef(found.maps[0].ravel(), expected.ravel())[0, 1]
    assert correlation > 0.98
    assert found.maps[0].mean() == pytest.approx(expected.mean(), rel=0.05)


def test_with_and_without_the_residual() -> None:
    """Through the residual the unit sees its own patch most; the branch of the attention has no such spike."""
    model = small_vit(pool="avg")
    for block in model.blocks:
        nn.init.zeros_(block.attn.qkv.weight[: 2 * block.attn.attn_dim])  # uniform attention
        nn.init.zeros_(block.attn.qkv.bias)
    with_it = receptive_fields(model, images(), "residual")
    without = receptive_fields(model, images(), "attention")
    assert len(with_it.layers) == 2 * DEPTH
    assert len(without.layers) == DEPTH
    assert with_it.center_concentration(PATCH)[0] > 2
    assert without.center_concentration(PATCH)[0] == pytest.approx(1, abs=0.5)
    assert without.half_area[0] > with_it.half_area[0]


def test_layers_of_a_residual_network_see_more_and_more() -> None:
    found = receptive_fields(small_resnet(), images(4, seed=1), "block", n_images=4)
    assert found.sigma[0] < found.sigma[-1]
    assert found.maps.shape == (4, SIDE, SIDE)


def test_in_place_layers_are_read_before_they_are_written() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 1, 3, padding=1), nn.ReLU(inplace=True))
    with torch.no_grad():
        model[0].bias.fill_(-100.0)
    found = receptive_fields(model, images(), "0")
    assert found.maps.max() > 0


def of_maps(*maps: np.ndarray) -> ReceptiveFields:
    grid = TokenGrid(0, 1, 1, *map(float, maps[0].shape))  # its unit lies in the middle
    return ReceptiveFields(tuple("abcdef"[: len(maps)]), np.stack(maps), (grid,) * len(maps), 1)


@pytest.mark.parametrize("sigma", [2.0, 3.0, 5.0])
def test_sizes_of_a_gaussian(sigma: float) -> None:
    at = np.arange(64) + 0.5 - 32
    found = of_maps(np.exp(-(at[:, None] ** 2 + at**2) / (2 * sigma**2)))
    assert found.sigma[0] == pytest.approx(sigma, rel=1e-2)
    assert found.half_area[0] == pytest.approx(2 * np.pi * sigma**2 * np.log(2) / 64**2, abs=12 / 64**2)


def test_sizes_of_a_uniform_field_and_of_a_point() -> None:
    point = np.zeros((8, 8))
    point[3, 3] = 5
    found = of_maps(np.full((8, 8), 3.0), point, np.zeros((8, 8)))
    assert found.sigma[0] == pytest.approx(np.sqrt((8**2 - 1) / 12))
    assert found.half_area[:2].tolist() == [0.5, 1 / 64]
    assert found.center_concentration(2.0)[:2] == pytest.approx([1, 16])
    assert np.isnan(found.sigma[2])
    assert np.isnan(found.half_area[2])


def test_table_and_picture() -> None:
    found = receptive_fields(huggingface_vit(), images(), "block")
    frame = found.to_frame()
    assert list(frame.columns) == ["layer", "depth", "sigma", "half_area"]
    assert len(frame) == 2
    figure = found.plot()
    assert isinstance(figure, Figure)
    assert figure.axes[0].images[0].get_clim() == (0, 1)
    assert np.array_equal(found.maps, receptive_fields(huggingface_vit(), images(), "block").maps)


def test_mistakes() -> None:
    with pytest.raises(InputError, match="choose layers before the network pools"):
        receptive_fields(small_vit(), images(), "head")
    with pytest.raises(InputError, match="n_images=32, but data has 6"):
        receptive_fields(small_vit(), images(), n_images=32)
