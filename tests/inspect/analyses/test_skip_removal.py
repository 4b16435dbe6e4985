from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from matplotlib.figure import Figure
from torch import Tensor, nn
from vision_toys import DEPTH, huggingface_vit, images, small_resnet, small_vit, torchvision_vit

from windvane.errors import InputError
from windvane.inspect.analyses.skip_connections import find_sublayers
from windvane.inspect.analyses.skip_removal import Partition, partition, without_skip
from windvane.inspect.similarity.compare import compare


@pytest.mark.parametrize("removed", [("attention", "mlp"), ("attention",), ("mlp",)])
def test_copy_computes_without_the_skip(removed: tuple[str, ...]) -> None:
    model, x = small_vit(), images()
    changed = without_skip(model, "blocks.1", removed)  # type: ignore[arg-type]
    assert changed.state_dict().keys() == model.state_dict().keys()
    changed.load_state_dict(model.state_dict())
    with torch.no_grad():
        z = model.blocks[0](model._pos_embed(model.patch_embed(x)))
        block = model.blocks[1]
        f = block.attn(block.norm1(z))
        z = f if "attention" in removed else z + f
        f = block.mlp(block.norm2(z))
        z = f if "mlp" in removed else z + f
        expected = model.forward_head(model.norm(model.blocks[2](z)))
        assert torch.allclose(changed(x), expected, atol=1e-5)
        assert not torch.allclose(changed(x), model(x), atol=1e-2)
    changed.blocks[0].attn.qkv.weight.data.zero_()
    assert model.blocks[0].attn.qkv.weight.abs().sum() > 0  # nothing is shared


def by_hand_torchvision(model: Any, x: Tensor) -> Tensor:
    tokens = model._process_input(x)
    z = torch.cat([model.class_token.expand(len(x), -1, -1), tokens], dim=1) + model.encoder.pos_embedding
    first, last = model.encoder.layers
    normed = first.ln_1(z)
    z = first.self_attention(normed, normed, normed, need_weights=False)[0]
    z = first.mlp(first.ln_2(z))
    return model.heads(model.encoder.ln(last(z))[:, 0])


def by_hand_transformers(model: Any, x: Tensor) -> Tensor:
    z = model.embeddings(x)
    first, last = model.layers if hasattr(model, "layers") else model.encoder.layer
    z = first.attention(first.layernorm_before(z))[0]
    z = first.mlp(first.layernorm_after(z))
    return model.layernorm(last(z))


@pytest.mark.parametrize(
    ("make", "by_hand"), [(torchvision_vit, by_hand_torchvision), (huggingface_vit, by_hand_transformers)]
)
def test_blocks_of_other_libraries(make: Callable[[], nn.Module], by_hand: Callable[[Any, Tensor], Tensor]) -> None:
    model, x = make(), images()
    block = next(
        name for name, module in model.named_modules() if type(module).__name__ in ("EncoderBlock", "ViTLayer")
    )
    changed = without_skip(model, block)
    assert changed.state_dict().keys() == model.state_dict().keys()
    with torch.no_grad():
        found, whole = (getattr(out, "last_hidden_state", out) for out in (changed(x), model(x)))
        torch.testing.assert_close(found, by_hand(model, x))
        assert not torch.allclose(found, whole, atol=1e-2)
    assert [part.block for part in find_sublayers(changed)] == [part.block for part in find_sublayers(model)][2:]


@pytest.mark.parametrize("kind", ["BasicBlock", "Bottleneck"])
@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("place", [0, 1])
def test_residual_blocks(library: str, kind: str, place: int) -> None:
    """The first block of a stage has weights on its shortcut, the second has none."""
    torch.manual_seed(0)
    name = "resnet18" if kind == "BasicBlock" else "resnet50"
    model: Any = timm.create_model(name) if library == "timm" else torchvision.models.get_model(name)
    changed: Any = without_skip(model, f"layer2.{place}").eval()
    assert changed.state_dict().keys() == model.state_dict().keys()
    block, x = model.eval().layer2[place], torch.randn(2, changed.layer2[place].conv1.in_channels, 8, 8)
    last = "bn2" if kind == "BasicBlock" else "bn3"
    seen: list[Tensor] = []
    torch.nn.init.ones_(block.get_submodule(last).weight)  # zero in timm's networks at the start
    changed.load_state_dict(model.state_dict())
    block.get_submodule(last).register_forward_hook(lambda _, __, output: seen.append(output.clone()))
    with torch.no_grad():
        block(x)
        torch.testing.assert_close(changed.layer2[place](x), seen[0].relu())
    assert f"layer2.{place}" not in {part.block for part in find_sublayers(changed)}


def test_copy_learns() -> None:
    changed = without_skip(small_vit(), "blocks.1").train()
    changed(images()).square().sum().backward()
    assert all(parameter.grad is not None for parameter in changed.blocks.parameters())


def test_partition_equals_a_slow_mean() -> None:
    model, x = small_vit(), images(32)
    whole = compare(model, model, x, "residual")
    found = partition(whole, "blocks.1")
    assert isinstance(found, Partition)
    assert found.boundary == 2  # the two sums of block 0
    values, n = whole.values, 2 * DEPTH
    before = [values[i, j] for i in range(2) for j in range(2) if i != j]
    after = [values[i, j] for i in range(2, n) for j in range(2, n) if i != j]
    across = [values[i, j] for i in range(2) for j in range(2, n)]
    assert found.within == pytest.approx((np.mean(before), np.mean(after)))
    assert found.across == pytest.approx(np.mean(across))
    assert found.gap == pytest.approx(np.mean(found.within) - found.across)
    assert found.to_frame()["pairs"].tolist() == ["before", "after", "across"]
    figure = found.plot()
    assert isinstance(figure, Figure)
    assert figure.axes[0].images[0].get_clim() == (0, 1)


def test_removing_a_skip_divides() -> None:
    """Even untrained: the stream of tokens does not get past the block."""
    model, x = small_vit(pool="avg"), images(64)
    changed = without_skip(model, "blocks.1")
    whole, divided = (partition(compare(one, one, x, ["residual", "norm"]), "blocks.1") for one in (model, changed))
    assert divided.across < whole.across


def test_mistakes() -> None:
    with pytest.raises(InputError, match="Sequential has no block whose skips can be removed"):
        without_skip(nn.Sequential(nn.ReLU()), "0")
    with pytest.raises(InputError, match=r"layer1.0 is a residual block with one skip. Allowed: None"):
        without_skip(small_resnet(), "layer1.0", ("mlp",))
    with pytest.raises(InputError, match=r"block='blocks.7' is not known.*blocks.0, blocks.1, blocks.2"):
        without_skip(small_vit(), "blocks.7")
    with pytest.raises(InputError, match="removed='norm' is not known"):
        without_skip(small_vit(), "blocks.1", ("norm",))  # type: ignore[arg-type]
    model, x = small_vit(), images(8)
    whole = compare(model, model, x, "block")
    with pytest.raises(InputError, match="begins with the first layer"):
        partition(whole, "blocks.0")
    with pytest.raises(InputError, match=r"block='blocks.9' is not known"):
        partition(whole, "blocks.9")
    with pytest.raises(InputError, match="networks with different layers"):
        partition(compare(model, small_resnet(), x, "block"), "blocks.1")


def test_the_changed_block_is_still_a_block() -> None:
    changed = without_skip(small_vit(), "blocks.1")
    found = partition(compare(changed, changed, images(8), "block"), "blocks.1")
    assert found.comparison.layers[0] == tuple(f"blocks.{i}" for i in range(DEPTH))
    assert found.boundary == 1
