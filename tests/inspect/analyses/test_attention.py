from __future__ import annotations

import math
import weakref

import pytest
import timm
import torch
from timm.layers import Attention
from torch import Tensor, nn
from vision_toys import (
    DEPTH,
    HEADS,
    N_PATCHES,
    WIDTH,
    PlainTransformer,
    huggingface_vit,
    images,
    small_resnet,
    small_vit,
    stir,
    torchvision_vit,
)

from windvane.errors import InputError
from windvane.inspect.analyses.attention import attention_maps, head_outputs, observe_heads
from windvane.inspect.analyses.attention_distance import attention_distance


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


def test_head_outputs_are_what_is_mixed() -> None:
    for model in (small_vit(), huggingface_vit()):
        mixed: list[Tensor] = []
        names = ("attn.proj", "attention.o_proj")
        last = next(module for name, module in model.named_modules() if name.endswith(names))
        last.register_forward_pre_hook(lambda _, given, mixed=mixed: mixed.append(given[0]))
        first = next(iter(head_outputs(model, images()).values()))
        assert first.shape == (6, HEADS, 1 + N_PATCHES, WIDTH // HEADS)
        assert torch.allclose(first.transpose(1, 2).flatten(2), mixed[0], atol=1e-6)


def test_repeated_calls_are_numbered() -> None:
    model = small_vit()
    model.blocks[2] = model.blocks[0]
    names = list(attention_maps(model, images()))
    assert names == ["blocks.0.attn", "blocks.1.attn", "blocks.0.attn#2"]


def test_one_layer_at_a_time_is_in_memory() -> None:
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0

    def keep(name: str, weights: Tensor) -> None:
        nonlocal most
        most = max(most, len(alive))
        alive.add(weights)

    observe_heads(small_vit(), images(), "*", on_weights=keep)
    assert most == 0


def test_networks_without_such_attention() -> None:
    with pytest.raises(InputError, match="ResNet has no self-attention over the tokens of an image"):
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
    with pytest.raises(InputError, match=r"17 tokens .3 tokens without a position. do not tile"):
        attention_distance(small_vit(), images(), n_prefix=3)
