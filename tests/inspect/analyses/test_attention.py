from __future__ import annotations

import itertools
import math
import weakref

import numpy as np
import pytest
import timm
import torch
from matplotlib.figure import Figure
from timm.layers import Attention
from torch import Tensor, nn
from vision_toys import (
    DEPTH,
    HEADS,
    N_PATCHES,
    PATCH,
    WIDTH,
    GivenAttention,
    PlainTransformer,
    huggingface_vit,
    images,
    small_resnet,
    small_vit,
    stir,
    torchvision_vit,
)

from windvane.errors import InputError
from windvane.inspect.analyses.attention import _read, attention_distance, attention_maps, head_outputs
from windvane.inspect.tokens import token_grid


def unfused_maps(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What timm's own unfused path computes, taken from where it enters dropout."""
    maps: dict[str, Tensor] = {}
    handles = []
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            module.fused_attn = False
            keep = lambda _, given, name=name: maps.__setitem__(name, given[0])  # noqa: E731
            handles.append(module.attn_drop.register_forward_pre_hook(keep))
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return maps


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", ["token", "avg", "distilled", "registers"])
def test_equals_the_unfused_path(kind: str, fused: bool) -> None:
    model = small_vit(
        pool="avg" if kind == "avg" else "token", distilled=kind == "distilled", registers=4 * (kind == "registers")
    )
    expected = unfused_maps(model, images())
    for module in model.modules():
        if isinstance(module, Attention):
            module.fused_attn = fused
    maps = attention_maps(model, images())
    assert list(maps) == list(expected) == [f"blocks.{block}.attn" for block in range(DEPTH)]
    for name, weights in maps.items():
        assert torch.allclose(weights, expected[name], atol=1e-6)
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
        assert weights.std() > 0.01  # far from uniform, so that equality says something


def test_equals_the_formula() -> None:
    model, x = small_vit(), images()
    inputs: list[Tensor] = []
    handle = model.blocks[1].attn.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    maps = attention_maps(model, x, "blocks.1.attn")
    handle.remove()
    assert list(maps) == ["blocks.1.attn"]
    q, k, _ = model.blocks[1].attn.qkv(inputs[0]).double().chunk(3, -1)
    for head in range(HEADS):
        part = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
        scores = torch.einsum("nqc,nkc->nqk", q[..., part], k[..., part]) / math.sqrt(WIDTH / HEADS)
        expected = scores.exp() / scores.exp().sum(-1, keepdim=True)
        assert torch.allclose(maps["blocks.1.attn"][:, head].double(), expected, atol=1e-6)


def test_huggingface() -> None:
    fused, eager = huggingface_vit("sdpa"), huggingface_vit("eager")
    with torch.no_grad():
        expected = eager(images(), output_attentions=True).attentions
    for model in (fused, eager):
        maps = attention_maps(model, images())
        assert len(maps) == len(expected) == 2
        for weights, other in zip(maps.values(), expected, strict=True):
            assert torch.allclose(weights, other, atol=1e-6)


@pytest.mark.parametrize("make", [torchvision_vit, lambda: stir(PlainTransformer())])
def test_torch_multihead_attention(make: object) -> None:
    model = make()  # type: ignore[operator]
    given: dict[str, Tensor] = {}
    attentions = {name: module for name, module in model.named_modules() if isinstance(module, nn.MultiheadAttention)}
    for name, module in attentions.items():
        module.register_forward_pre_hook(lambda _, args, name=name: given.__setitem__(name, args[0]))
    maps = attention_maps(model, images())
    assert list(maps) == list(attentions)
    for name, module in attentions.items():
        x = given[name]
        expected = module(x, x, x, need_weights=True, average_attn_weights=False)[1]
        assert torch.allclose(maps[name], expected, atol=1e-6)


def test_other_attentions_of_timm() -> None:
    """Relative positions and rotations: rows sum to one and the outputs follow from them."""
    for name in ("beit_base_patch16_224", "eva02_tiny_patch14_224"):
        torch.manual_seed(0)
        model = timm.create_model(name, depth=1, embed_dim=48, num_heads=3, img_size=56, num_classes=2).eval()
        x = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(0))
        (weights,) = attention_maps(model, x).values()
        assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
        assert weights.shape[:2] == (2, 3)


def test_nothing_is_left_behind() -> None:
    model = small_vit().train()
    attention_maps(model, images())
    assert model.training
    assert torch.backends.mha.get_fastpath_enabled()
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]
    assert sum(hooks) == 0
    with pytest.raises(InputError, match=r"VisionTransformer fails on a batch of shape \(2, 3, 7, 7\)"):
        attention_maps(model, torch.zeros(2, 3, 7, 7))
    assert sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()) == 0
    assert torch.backends.mha.get_fastpath_enabled()


def test_heads_give_what_is_mixed() -> None:
    for model in (small_vit(), huggingface_vit()):
        mixed: list[Tensor] = []
        names = ("attn.proj", "attention.o_proj")
        last = next(module for name, module in model.named_modules() if name.endswith(names))
        last.register_forward_pre_hook(lambda _, given, mixed=mixed: mixed.append(given[0]))
        first = next(iter(head_outputs(model, images()).values()))
        assert first.shape == (6, HEADS, 1 + N_PATCHES, WIDTH // HEADS)
        assert torch.allclose(first.transpose(1, 2).flatten(2), mixed[0], atol=1e-6)


def test_reused_modules_have_names_of_their_own() -> None:
    model = small_vit()
    model.blocks[2] = model.blocks[0]
    names = list(attention_maps(model, images()))
    assert names == ["blocks.0.attn", "blocks.1.attn", "blocks.0.attn#2"]


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


def test_a_class_token_that_comes_late() -> None:
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
        InputError, match=r"has 4 x 4 places, those before 7 x 7.*layers='transformers.0.blocks.0.attn'"
    ):
        attention_distance(pit, x)
    assert attention_distance(pit, x, "transformers.0.*").grid.n_patches == 49


def test_maps_of_one_layer_at_a_time_are_kept() -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def keep(name: str, weights: Tensor) -> None:
        nonlocal most
        most = max(most, len(alive))
        alive.add(weights)

    _read(small_vit(), images(), "*", weights=keep)
    assert most == 0


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


def test_networks_without_such_attention() -> None:
    with pytest.raises(InputError, match="no self-attention over the tokens of an image was found in ResNet: it has"):
        attention_maps(small_resnet(), images())
    torch.manual_seed(0)
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=56, depths=(1,), num_heads=(1,), embed_dim=8)
    with pytest.raises(InputError, match="within windows"):
        attention_maps(swin, torch.zeros(2, 3, 56, 56))
    with pytest.raises(InputError, match="or to other things"):  # attention of XCiT is among channels, 25 of them here
        attention_maps(
            timm.create_model("xcit_nano_12_p16_224", embed_dim=100, depth=1, num_classes=2, img_size=32),
            torch.zeros(2, 3, 32, 32),
        )
    with pytest.raises(InputError, match=r"layers='block.0.attn'.*blocks.0.attn"):
        attention_maps(small_vit(), images(), "block.0.attn")
    with pytest.raises(InputError, match=r"17 tokens .3 tokens without a place. do not tile"):
        attention_distance(small_vit(), images(), n_prefix=3)
