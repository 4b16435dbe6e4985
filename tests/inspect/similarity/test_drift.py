from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from vision_toys import DEPTH, images, small_resnet, small_vit

from windvane.errors import InputError
from windvane.inspect.activations import collect_activations
from windvane.inspect.similarity.cka import cka
from windvane.inspect.similarity.drift import drift


def test_equals_layer_by_layer() -> None:
    before, after, x = small_vit(), small_vit(seed=1), images(24)
    found = drift(before, {"same": before, "other": after}, x)
    assert found.layers == tuple(f"blocks.{i}" for i in range(DEPTH))
    first, second = collect_activations(before, x, "block"), collect_activations(after, x, "block")
    expected = [cka(first[name], second[name]) for name in found.layers]
    assert found.similarity[0] == pytest.approx(np.ones(DEPTH))
    assert found.similarity[1] == pytest.approx(expected, abs=1e-6)
    assert np.isnan(found.ci_low).all()


def test_only_what_changed_drifts() -> None:
    before = small_vit()
    after = copy.deepcopy(before)
    with torch.no_grad():
        after.blocks[2].mlp.fc2.weight.add_(torch.randn(after.blocks[2].mlp.fc2.weight.shape))
    found = drift(before, {"after": after}, images(32), batch_size=16)
    assert found.similarity[0, :2] == pytest.approx([1, 1])
    assert found.similarity[0, 2] < 0.99
    assert (found.ci_low[0] <= found.similarity[0] + 1e-12).all()
    assert found.n_images == 32


def test_layers_are_any_sequence_of_names() -> None:
    names = ("blocks.0", "blocks.2")
    assert drift(small_vit(), {"other": small_vit(seed=1)}, images(8), names).layers == names


def test_small_batches_are_left_out() -> None:
    before, after = small_vit(), small_resnet()
    with pytest.warns(UserWarning, match="1 image is left out: batches of fewer than 4"):
        found = drift(before, {"same": before}, images(9), batch_size=8)
    assert found.n_images == 8
    np.testing.assert_array_equal(found.similarity, drift(before, {"same": before}, images(9)[:8]).similarity)
    with pytest.raises(InputError, match="data has no batch of 4 images"):
        drift(after, {"same": after}, images(9), batch_size=3)


def test_table_and_picture() -> None:
    found = drift(small_vit(), {"3 %": small_vit(seed=1), "10 %": small_vit(seed=2)}, images(16), batch_size=8)
    frame = found.to_frame()
    assert list(frame.columns) == ["network", "layer", "depth", "similarity", "ci_low", "ci_high"]
    assert frame["network"].tolist() == ["3 %"] * DEPTH + ["10 %"] * DEPTH
    assert frame["similarity"].iloc[DEPTH] == found.similarity[1, 0]
    figure = found.plot()
    assert isinstance(figure, Figure)
    assert figure.axes[0].get_ylim() == (0, 1.02)


def test_mistakes() -> None:
    with pytest.raises(InputError, match="others is empty"):
        drift(small_vit(), {}, images())
    with pytest.raises(InputError, match=r"others is .*VisionTransformer. Allowed: one network or more by name"):
        drift(small_vit(), small_vit(), images())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"others\['cnn'\] has the layers"):
        drift(small_vit(), {"cnn": small_resnet()}, images())
