"""What the blocks of networks see, and the projection of it."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler
from torch import nn

import windvane.vision  # noqa: F401 - timm then knows ViT-Lite
from windvane.inspect import without_skip
from windvane.vision.networks.block_features import (
    N_COMPONENTS,
    Projection,
    _local,
    add_block_classifier,
    block_features,
    watch_blocks,
)
from windvane.vision.networks.create import classifier_layer, create_model
from windvane.vision.recipe import Recipe

# Children of the stages, of which the blocks of a network are made.
BLOCKS = {
    "test_efficientnet": lambda net: [block for stage in net.blocks for block in stage],
    "test_resnet": lambda net: [block for i in (1, 2, 3, 4) for block in getattr(net, f"layer{i}")],
    "test_vit": lambda net: list(net.blocks),
    "test_convnext": lambda net: [block for stage in net.stages for block in stage.blocks],
    "vit_lite_7_4": lambda net: list(net.blocks),
}


def summaries(network: Any, blocks: list[nn.Module], pixels: torch.Tensor) -> list[torch.Tensor]:
    """Mean and spread of the output of each block, by other means."""
    outputs: list[torch.Tensor] = []
    handles = [block.register_forward_hook(lambda _, __, out: outputs.append(out)) for block in blocks]
    network(pixels)
    for handle in handles:
        handle.remove()
    flat = [out.transpose(1, 2) if out.ndim == 3 else out.flatten(2) for out in outputs]
    return [one for out in flat for one in (out.mean(2), (out.var(2, correction=0) + 1e-6).sqrt())]


def network_and_noise(name: str, n: int) -> tuple[Any, torch.Tensor]:
    torch.manual_seed(0)
    size = 32 if name == "vit_lite_7_4" else 160
    return timm.create_model(name, num_classes=1).eval(), torch.randn(n, 3, size, size)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_counts(name: str) -> None:
    network, pixels = network_and_noise(name, 2)
    blocks = BLOCKS[name](network)
    assert len(blocks) >= 2
    with torch.no_grad():
        expected = summaries(network, blocks, pixels)
        watch_blocks(network)
        found = block_features(network, pixels)
        torch.testing.assert_close(found[:, network.head_hidden_size :], torch.cat(expected, 1))
        # What is watched is kept for the call alone, in this thread, and in copies of the network.
        network(pixels)
        with ThreadPoolExecutor(3, initializer=torch.set_grad_enabled, initargs=(False,)) as pool:
            for again in pool.map(lambda one: block_features(one, pixels), [network, network, copy.deepcopy(network)]):
                torch.testing.assert_close(again, found)


@pytest.mark.parametrize("name", BLOCKS)
def test_a_classifier_reads_every_block(name: str) -> None:
    network, pixels = network_and_noise(name, 6)
    watch_blocks(network)
    with torch.no_grad():
        seen = block_features(network, pixels)
    projection = Projection.fit(seen.numpy())
    add_block_classifier(network, projection, 4)
    layer = classifier_layer(network)
    assert isinstance(layer, nn.Linear)
    expected = layer(torch.from_numpy(projection(seen.numpy())))
    again = copy.deepcopy(network)
    torch.testing.assert_close(again(pixels), expected, rtol=1e-3, atol=1e-3)
    assert again(pixels).shape == (6, 4)
    with torch.no_grad():
        torch.testing.assert_close(block_features(again, pixels), seen)
    again(pixels).square().sum().backward()
    assert all(one.grad is not None for one in again.parameters())
    # Saved and opened: a recipe says that such a layer is there, the file what it reads.
    recipe = Recipe(name, image_size=pixels.shape[-1], block_components=len(projection.offset), epochs=1)
    opened = create_model(recipe, 4).eval()
    opened.load_state_dict(network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(opened(pixels), network(pixels))


def test_the_projection_of_a_classifier_is_exact_in_reduced_precision() -> None:
    torch.manual_seed(0)
    network, pixels = timm.create_model("test_resnet", num_classes=1).eval(), torch.randn(8, 3, 64, 64)
    watch_blocks(network)
    with torch.no_grad():
        seen = block_features(network, pixels)
        projection = Projection.fit(seen.numpy())
        add_block_classifier(network, projection, 3)
        classifier = network.get_classifier()
        _local.kept = [seen[:, 8:]]
        wanted = classifier(seen[:, :8])
        with torch.autocast("cpu", torch.bfloat16):
            found = classifier(seen[:, :8])
        del _local.kept
    torch.testing.assert_close(found.float(), wanted, rtol=0.03, atol=0.03)


def test_a_network_that_reads_its_blocks_can_lose_a_skip() -> None:
    network, pixels = timm.create_model("vit_lite_7_4", num_classes=1).eval(), torch.randn(4, 3, 32, 32)
    watch_blocks(network)
    with torch.no_grad():
        projection = Projection.fit(block_features(network, pixels).numpy())
        add_block_classifier(network, projection, 3)
        assert without_skip(network, "blocks.2")(pixels).shape == (4, 3)


def test_a_network_without_known_blocks_has_the_last_features() -> None:
    network = timm.create_model("test_vit", num_classes=1).eval()
    watch_blocks(network.blocks[0].mlp)
    with torch.no_grad():
        assert block_features(network, torch.randn(2, 3, 160, 160)).shape == (2, network.head_hidden_size)


@pytest.mark.parametrize("n", [1, 2, 40, 700])
def test_a_projection_keeps_the_distances_of_principal_components(n: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(n, 30)) @ rng.normal(size=(30, 600))).astype(np.float32)
    features += rng.normal(size=(n, 600)).astype(np.float32)
    features[:, 3] = 5.0
    projection = Projection.fit(features)
    found = projection(features)
    assert found.shape[1] <= min(N_COMPONENTS, n)
    scaled = StandardScaler().fit_transform(features.astype(np.float64))
    exact = PCA(min(N_COMPONENTS, n), svd_solver="full").fit_transform(scaled) if n > 1 else np.zeros((1, 1))
    pairs = [pdist(one[:60]) for one in (found, exact)]
    ratio = pairs[0].sum() / max(pairs[1].sum(), 1e-12)
    np.testing.assert_allclose(pairs[0], ratio * pairs[1], rtol=1e-3, atol=1e-4)
    if n == 700:  # no column has most of the variance
        assert found.var(axis=0).max() < 20 * found.var(axis=0).mean()
    projection.save(tmp_path / "projection.safetensors")
    np.testing.assert_array_equal(Projection.load(tmp_path / "projection.safetensors")(features), found)
