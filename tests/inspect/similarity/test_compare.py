"""Similarity matrices of networks, repeats and baselines."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from networks import TinyResNet, images, seeded
from slow_similarity import cka as slow_cka
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from windvane.errors import InputError
from windvane.inspect.activations import collect_activations
from windvane.inspect.similarity.compare import (
    MEASURES,
    Sampling,
    baselines,
    compare,
    compare_features,
    model_name,
    untrained,
)
from windvane.inspect.similarity.measures import CKAMeasure


def test_matrix_equals_numpy() -> None:
    first, second, x = seeded(TinyResNet), seeded(TinyResNet, 1), images(20)
    found = compare(first, second, x)
    left, right = collect_activations(first, x), collect_activations(second, x)
    known = [[slow_cka(a, b) for b in right.values()] for a in left.values()]
    np.testing.assert_allclose(found.values, known, atol=1e-6)
    assert found.layers == (tuple(left), tuple(right))
    assert found.names == ("TinyResNet (first)", "TinyResNet (second)")
    assert (found.n_images, found.n_batches) == (20, 1)


def test_network_equals_its_copy() -> None:
    model, x = seeded(TinyResNet), images(16)
    itself, twin = compare(model, model, x, "residual"), compare(model, seeded(TinyResNet), x, "residual")
    np.testing.assert_allclose(itself.values, twin.values)
    np.testing.assert_allclose(itself.values.diagonal(), 1)
    assert itself.is_self_comparison
    assert not twin.is_self_comparison


@pytest.mark.filterwarnings("ignore:.*unrelated layers reach")
@pytest.mark.parametrize("measure", MEASURES)
def test_every_measure_is_one_for_the_same_layer(measure: str) -> None:
    model = seeded(TinyResNet)
    found = compare(model, model, images(24), ["residual", "head"], measure, Sampling(12))
    np.testing.assert_allclose(found.values.diagonal(), 1, atol=1e-5)
    assert found.values.max() <= 1 + 1e-5
    assert found.measure == MEASURES[measure].title


def test_networks_with_different_image_sizes() -> None:
    small, large = seeded(TinyResNet), timm.create_model("resnet18", num_classes=3)
    found = compare(small, large, (images(8), images(8, 32)), ("residual", "block"))
    assert found.values.shape == (2, 8)
    assert found.names == ("TinyResNet", "resnet18")


def test_shuffled_images_are_dissimilar() -> None:
    model, x = seeded(TinyResNet), images(200)
    found = compare(model, model, x, "residual", "cka", Sampling(50, shuffled=True))
    assert np.abs(found.values).max() < 0.1


def test_repeats_draw_images_and_give_intervals() -> None:
    model, twin, x = seeded(TinyResNet), seeded(TinyResNet, 1), images(60)
    sampling = Sampling(10, 20, repeats=4, seed=3)
    found = compare(model, twin, x, "residual", "cka", sampling)
    again = compare(model, twin, x.numpy(), "residual", "cka", sampling)
    other = compare(model, twin, TensorDataset(x), "residual", "cka", Sampling(10, 20, repeats=4, seed=4))
    np.testing.assert_array_equal(found.values, again.values)
    assert np.abs(found.values - other.values).max() > 1e-6
    assert (found.n_images, found.n_batches) == (80, 8)
    assert (found.matrix.ci_high > found.matrix.ci_low).all()


def test_repeats_of_pairs_and_loaders() -> None:
    model, x = seeded(TinyResNet), images(20)
    for data in ((x, x), DataLoader(TensorDataset(x), 10, shuffle=True)):
        found = compare(model, seeded(TinyResNet), data, "head", "cka", Sampling(10, repeats=2))
        assert found.values[0, 0] == pytest.approx(1)


def test_repeats_need_images_that_can_be_drawn_again() -> None:
    model, x = seeded(TinyResNet), images(20)
    for data in (DataLoader(TensorDataset(x), 10), [x[:10], x[10:]]):
        with pytest.raises(InputError, match="yields the same images each time"):
            compare(model, model, data, "head", "cka", Sampling(10, repeats=2))


def test_halved_batches() -> None:
    class Hungry(TinyResNet):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 10:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return super().forward(x)

    model = seeded(Hungry)
    found = compare(model, model, images(64), "residual", "cka", Sampling("auto"))
    assert found.n_batches == 8
    np.testing.assert_allclose(found.values, compare(model, model, images(64), "residual", "cka", Sampling(8)).values)


def test_small_batches() -> None:
    model = seeded(TinyResNet)
    with pytest.warns(UserWarning, match="2 images are left out: batches of fewer than 4"):
        assert compare(model, model, images(18), "head", "cka", Sampling(8)).n_images == 16
    with pytest.raises(InputError, match="no batch of 4 images, which the measure needs; 18 came in smaller ones"):
        compare(model, model, images(18), "head", "cka", Sampling(2))


def test_baselines() -> None:
    first, second, x = seeded(TinyResNet), seeded(TinyResNet, 1), images(60)
    found = baselines(first, second, x, "residual")
    assert list(found) == ["untrained", "shuffled"]
    assert found["untrained"].names == ("TinyResNet (first), untrained", "TinyResNet (second), untrained")
    assert np.abs(found["shuffled"].values).max() < 0.2
    itself = baselines(first, first, x, "residual")["untrained"]
    np.testing.assert_allclose(itself.values.diagonal(), 1)


def test_untrained_copies_have_other_weights() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=1, num_heads=2)
    before, state = torch.random.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    fresh, again = untrained(model, 0), untrained(nn.DataParallel(model), 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())
    assert not torch.equal(fresh.pos_embed, model.pos_embed)
    assert not torch.equal(fresh.blocks[0].attn.qkv.weight, model.blocks[0].attn.qkv.weight)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), again.parameters(), strict=True))


def test_compare_features() -> None:
    X, Y = np.random.default_rng(0).normal(size=(2, 20, 5))
    assert compare_features(X, Y) == pytest.approx(slow_cka(X, Y), abs=1e-6)
    assert compare_features(X, X * 3, "procrustes") == pytest.approx(1, abs=1e-6)
    assert compare_features(X, Y, CKAMeasure("rbf", bandwidth=0.5)) != compare_features(X, Y, "cka-rbf")
    assert np.isnan(compare_features(X, np.ones((20, 3)), "rsa"))


def test_mistakes() -> None:
    model, x = seeded(TinyResNet), images(8)
    with pytest.raises(InputError, match=r"measure='ckaa' is not known. Did you mean 'cka'"):
        compare(model, model, x, "*", "ckaa")
    with pytest.raises(InputError, match=r"Its weights are torch.float64, the images torch.float32. Allowed:"):
        compare(model, seeded(TinyResNet).double(), x)
    with pytest.raises(InputError, match="model: TinyResNet is on the device 'meta', without weights"):
        compare(model, seeded(TinyResNet).to("meta"), x)
    with pytest.raises(InputError, match="repeats=2, but data yields the same images each time"):
        compare(model, model, iter([x]), "*", "cka", Sampling(repeats=2))
    with pytest.raises(InputError, match="repeats=0"):
        Sampling(repeats=0)


def test_names_of_networks() -> None:
    assert model_name(timm.create_model("resnet18")) == "resnet18"
    assert model_name(nn.DataParallel(nn.Linear(2, 2))) == "Linear"
