"""Views of images: the columns of each, and what a short time leaves."""

from __future__ import annotations

import itertools
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from picture_folders import pictures, tiny_weights
from safetensors.torch import save_file

from windvane.errors import ModelFileError
from windvane.runtime.columns.table import PIXELS, FeatureView
from windvane.runtime.images import Pixels
from windvane.torch_utils import map_batches
from windvane.vision.saved_model import TrainedModel
from windvane.vision.transfer import frozen_features
from windvane.vision.transfer.frozen_features import (
    MAX_BATCH,
    FeatureExtractor,
    compute_views,
    load_frozen_network,
    view_sizes,
)


@pytest.fixture
def extractor(tmp_path: Path) -> FeatureExtractor:
    (tmp_path / "weights").mkdir()
    return FeatureExtractor((tiny_weights(tmp_path / "weights"),), tmp_path / "features")


def test_views_are_projections_of_what_the_blocks_see(extractor: FeatureExtractor) -> None:
    pixels, _ = pictures(MAX_BATCH + 3)
    square = np.ascontiguousarray(pixels[:, :10])
    matrix, (view,) = compute_views(extractor, square)
    assert (view.size, view.start, view.stop) == (96, 0, matrix.shape[1])
    model = load_frozen_network(extractor.names[0])
    images = torch.from_numpy(square).permute(0, 3, 1, 2).float()
    images = torch.nn.functional.interpolate(images, (96, 96), mode="bicubic", antialias=True).clamp(0, 255)
    mean, std = (torch.tensor(one)[:, None, None] * 255 for one in model.recipe.normalization)
    network: Any = model.network
    with torch.inference_mode():
        x = network.bn1(network.conv_stem((images - mean) / std))
        expected = []
        for stage in network.blocks:
            for block in stage:
                x = block(x)
                expected += [x.mean((2, 3)), (x.std((2, 3), correction=0) ** 2 + 1e-6).sqrt()]
        last = network.forward_head(network.bn2(network.conv_head(x)), pre_logits=True)
    seen = torch.cat([last, *expected], dim=1).numpy()
    np.testing.assert_allclose(matrix, extractor.projection(view.weights, view.size)(seen), rtol=1e-2, atol=1e-2)
    np.testing.assert_allclose(extractor.compute(view, square), matrix, rtol=1e-4, atol=1e-4)


def test_another_extractor_reads_the_projection(extractor: FeatureExtractor) -> None:
    square = np.ascontiguousarray(pictures(20)[0][:, :10])
    matrix, views = compute_views(extractor, square)
    again = FeatureExtractor(extractor.names, extractor.folder)
    np.testing.assert_allclose(again.compute(views[0], square), matrix, rtol=1e-4, atol=1e-4)
    path = next(extractor.folder.rglob("projection_96.safetensors"))
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ModelFileError, match="projection_96"):
        FeatureExtractor(extractor.names, extractor.folder).compute(views[0], square)


def test_more_time_gives_more_columns(extractor: FeatureExtractor) -> None:
    pixels = np.ascontiguousarray(pictures(12)[0][:, :10])
    _, views = compute_views(extractor, pixels, first_seconds=300, seconds=300)
    assert [view.size for view in views] == [64, 96]  # images of 10 pixels are not enlarged further
    assert views[1].start == views[0].stop


def test_a_network_that_takes_one_size_has_one_view(tmp_path: Path) -> None:
    save_file(timm.create_model("vit_lite_6_4").state_dict(), tmp_path / "weights.safetensors")
    extractor = FeatureExtractor((f"vit_lite_6_4={tmp_path / 'weights.safetensors'}",), tmp_path / "features")
    pixels = np.ascontiguousarray(pictures(12)[0][:, :10])
    matrix, views = compute_views(extractor, pixels, first_seconds=300, seconds=300)
    assert [view.size for view in views] == [32]
    again = FeatureExtractor(extractor.names, extractor.folder)
    np.testing.assert_allclose(again.compute(views[0], pixels), matrix, rtol=1e-3, atol=1e-3)


def test_a_short_time_leaves_the_first_images(extractor: FeatureExtractor) -> None:
    pixels = np.ascontiguousarray(pictures(5 * MAX_BATCH)[0][:, :10])
    matrix, (view,) = compute_views(extractor, pixels, first_seconds=0, seconds=0)
    assert view.size == 64
    assert MAX_BATCH <= len(matrix) < len(pixels)
    whole = extractor.compute(view, pixels)
    np.testing.assert_allclose(matrix, whole[: len(matrix)], rtol=1e-4, atol=1e-4)
    # Not even a part of what was not asked for.
    assert extractor.learn(view.weights, view.size, pixels, time.monotonic()) is None


def test_a_view_that_is_too_slow_makes_way_for_a_smaller_one(
    extractor: FeatureExtractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.ascontiguousarray(pictures(8 * MAX_BATCH)[0][:, :10]).repeat(7, axis=1).repeat(7, axis=2)
    clock, real = [0.0], frozen_features._features

    def slow(model: TrainedModel, batch: Pixels, size: int) -> NDArray[np.float32]:
        clock[0] += len(batch) * (0.001 if size < 224 else 0.3)  # far slower than planned
        return real(model, batch[:, ::7, ::7], 10)

    monkeypatch.setattr(frozen_features, "_features", slow)
    monkeypatch.setattr(frozen_features.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(frozen_features, "map_batches", lambda work, batches, _: map(work, batches))
    matrix, views = compute_views(extractor, pixels, first_seconds=100, seconds=60)
    assert [view.size for view in views] == [160]
    assert len(matrix) == len(pixels)
    assert clock[0] < 60


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (1000.0, [("first", 224), ("other", 224)]),
        (100.0, [("first", 160), ("other", 160)]),  # not 224 pixels, which one network alone would have time for
        (70.0, [("first", 160), ("other", 128)]),
        (45.0, [("first", 160)]),
    ],
)
def test_other_networks_come_before_sizes_beyond_the_preferred_one(
    seconds: float, expected: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.ascontiguousarray(pictures(8 * MAX_BATCH)[0][:, :10]).repeat(7, axis=1).repeat(7, axis=2)
    (tmp_path / "weights").mkdir()
    first = tiny_weights(tmp_path / "weights")
    other = f"test_efficientnet={shutil.copy(first.partition('=')[2], tmp_path / 'weights' / 'other.safetensors')}"
    clock, real = [0.0], frozen_features._features

    def timed(model: TrainedModel, batch: Pixels, size: int) -> NDArray[np.float32]:
        clock[0] += len(batch) * size**2 * 4e-6  # 0.1 s for an image of 160 pixels, 26 s for all
        return real(model, batch[:, ::7, ::7], 10)

    monkeypatch.setattr(frozen_features, "_features", timed)
    monkeypatch.setattr(frozen_features.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(frozen_features, "map_batches", lambda work, batches, _: map(work, batches))
    extractor = FeatureExtractor((first, other), tmp_path / "features")
    _, views = compute_views(extractor, pixels, first_seconds=1000, seconds=seconds)
    assert [("first" if view.weights == first else "other", view.size) for view in views] == expected
    assert clock[0] <= seconds
    kept = {(path.parent.name, path.stem) for path in extractor.folder.rglob("projection_*")}
    assert kept == {(("0" if name == "first" else "1"), f"projection_{size}") for name, size in expected}


def test_without_networks_the_pixels_are_the_features(tmp_path: Path) -> None:
    pixels = np.ascontiguousarray(pictures(4)[0][:, :10])
    view = FeatureView.of_pixels()
    assert view == FeatureView(PIXELS, 12, 0, 432)
    matrix = FeatureExtractor((), tmp_path).compute(view, pixels)
    assert matrix.shape == (4, 432)
    assert matrix.min() >= 0
    assert matrix.max() <= 1


def test_sizes_of_views() -> None:
    assert view_sizes(10) == [64, 96]
    assert view_sizes(32) == [64, 96, 128, 160]
    assert view_sizes(224)[-1] == 224


def test_batches_come_in_order_and_leave_the_threads_of_torch_alone() -> None:
    before = torch.get_num_threads()
    found = list(map_batches(lambda i: i * i, range(20), torch.device("cpu")))
    assert found == [i * i for i in range(20)]
    assert torch.get_num_threads() == before


def test_other_networks_see_the_size_of_the_largest_view(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    first = tiny_weights(tmp_path / "weights")
    other = f"test_efficientnet={shutil.copy(first.partition('=')[2], tmp_path / 'weights' / 'other.safetensors')}"
    pixels = np.ascontiguousarray(pictures(12)[0][:, :10])
    matrix, views = compute_views(
        FeatureExtractor((first, other), tmp_path / "features"), pixels, first_seconds=300, seconds=300
    )
    assert [(view.weights, view.size) for view in views] == [(first, 64), (first, 96), (other, 96)]
    for before, after in itertools.pairwise(views):
        assert before.stop == after.start
    np.testing.assert_array_equal(*(matrix[:, view.start : view.stop] for view in views[1:]))
