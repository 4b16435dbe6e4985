from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from vision_toys import N_PATCHES, PATCH, huggingface_vit, images, output_of, small_resnet, small_vit

from windvane.errors import InputError
from windvane.inspect.analyses.localization import Localization, localization
from windvane.inspect.similarity.cka import cka
from windvane.inspect.tokens import TokenGrid


def test_equals_pair_by_pair() -> None:
    model, x = small_vit(), images(24)
    found = localization(model, x)
    assert found.layer == "blocks.2"
    tokens = output_of(model, "blocks.2", x)
    for token in (0, 5, 15):
        for patch in (0, 6, 15):
            row, column = PATCH * (patch // 4), PATCH * (patch % 4)
            pixels = x[:, :, row : row + PATCH, column : column + PATCH]
            expected = cka(tokens[:, 1 + token], pixels.flatten(1))
            assert found.similarity[token, patch] == pytest.approx(expected, abs=1e-5)
    assert (found.n_images, found.grid.n_patches) == (24, N_PATCHES)


class Places(nn.Module):
    """Tokens that are their own patch, or the mean of all patches."""

    def __init__(self, *, local: bool) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 3 * PATCH**2, PATCH, PATCH, bias=False)
        self.patches.weight.data = torch.eye(3 * PATCH**2).reshape(-1, 3, PATCH, PATCH)
        self.local = local

    def forward(self, x: Tensor) -> Tensor:
        maps = self.patches(x)
        return maps if self.local else maps.mean((2, 3), keepdim=True).expand_as(maps)


def test_known_cases() -> None:
    x = images(64)
    found = localization(Places(local=True), x, "patches")
    assert found.own_patch_similarity == pytest.approx(np.ones(N_PATCHES))
    assert found.hit_rate == 1
    assert found.peak_distance == 0
    assert found.contrast > 0.9
    nowhere = localization(Places(local=False), x, "output")
    assert np.ptp(nowhere.similarity, axis=0).max() < 1e-6  # every token says the same
    assert nowhere.contrast < 0.1
    assert nowhere.hit_rate == pytest.approx(1 / N_PATCHES)


def test_batches_average_before_they_divide() -> None:
    x = images(48)
    whole, parts = (localization(small_vit(), x, batch_size=size) for size in (48, 12))
    assert np.abs(whole.own_patch_similarity - parts.own_patch_similarity).mean() < 0.1
    assert not np.array_equal(whole.own_patch_similarity, parts.own_patch_similarity)


@pytest.mark.parametrize("make", [small_resnet, huggingface_vit])
def test_other_networks(make: object) -> None:
    found = localization(make(), images(12), n_images=8)  # type: ignore[operator]
    assert found.n_images == 8
    assert found.similarity.shape == (found.grid.n_patches, found.grid.n_patches)


def test_small_batches_are_left_out() -> None:
    with pytest.warns(UserWarning, match="2 images are left out: batches of fewer than 4"):
        found = localization(small_vit(), images(10), batch_size=8)
    assert found.n_images == 8
    np.testing.assert_array_equal(found.similarity, localization(small_vit(), images(10)[:8]).similarity)
    with pytest.raises(InputError, match="data has no batch of 4 images"):
        localization(small_vit(), images(3))


def test_table_and_picture() -> None:
    found = localization(small_vit(), images(16))
    frame = found.to_frame()
    assert len(frame) == N_PATCHES**2
    row = frame.iloc[5 * N_PATCHES + 10]
    assert row[["token_row", "token_column", "patch_row", "patch_column"]].tolist() == [1, 1, 2, 2]
    assert row["similarity"] == found.similarity[5, 10]
    assert row["distance"] == pytest.approx(PATCH * 2**0.5)
    figure = found.plot()
    assert isinstance(figure, Figure)
    assert len(figure.axes[0].images) == 9
    assert {picture.get_clim() for picture in figure.axes[0].images} == {(0, 1)}


def test_patches_that_never_change() -> None:
    x = images(16)
    x[:, :, :PATCH, :PATCH] = 0.5
    found = localization(small_vit(), x)
    assert np.isnan(found.similarity[:, 0]).all()
    assert np.isfinite([found.contrast, found.hit_rate, found.peak_distance]).all()
    assert isinstance(found.plot(), Figure)


def test_mistakes() -> None:
    with pytest.raises(InputError, match="4"):
        localization(small_vit(), images(3))
    odd = nn.Sequential(nn.Conv2d(3, 4, 3, stride=3))  # 10 rows on 32 pixels
    with pytest.raises(InputError, match="32 x 32 pixels do not divide into 10 x 10"):
        localization(odd, images(), "0")
    with pytest.raises(InputError, match="choose layers before the network pools"):
        localization(small_vit(), images(), "head")
    assert Localization("a", np.eye(4), TokenGrid(0, 2, 2, 8.0, 8.0), 4).contrast == 1


def test_tokens_that_are_the_same_in_all_images_have_no_peak() -> None:
    grid = TokenGrid(0, 2, 2, 8.0, 8.0)
    similarity = np.array([[np.nan] * 4, [0.1, 0.9, 0.2, 0.3], [0.8, 0.1, 0.2, 0.3], [np.nan] * 4])
    found = Localization("layer", similarity, grid, 10)
    assert found.hit_rate == 0.5 and found.peak_distance == pytest.approx(4.0)
    nothing = Localization("layer", np.full((4, 4), np.nan), grid, 10)
    assert np.isnan([nothing.hit_rate, nothing.peak_distance]).all()
