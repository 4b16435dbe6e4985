from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from matplotlib.figure import Figure
from timm.models.mlp_mixer import MlpMixer
from timm.models.visformer import Visformer
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torchvision.models import resnet18
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.regnet import BlockParams
from torchvision.models.swin_transformer import SwinTransformerBlockV2
from vision_toys import (
    DEPTH,
    N_PATCHES,
    PlainTransformer,
    huggingface_vit,
    images,
    small_resnet,
    small_vit,
    stir,
    torchvision_vit,
)

from windvane.errors import InputError
from windvane.inspect.analyses.skip_connections import SkipRatios, find_sublayers, skip_ratios
from windvane.inspect.analyses.skip_removal import without_skip


def slow(skip: Tensor, branch: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Token by token, image by image; (n, tokens, channels)."""
    ratio, cosine = np.zeros(skip.shape[1]), np.zeros(skip.shape[1])
    for z, f in zip(skip.double().numpy(), branch.double().numpy(), strict=True):
        for token in range(len(z)):
            ratio[token] += np.linalg.norm(z[token]) / np.linalg.norm(f[token])
            total = z[token] + f[token]
            cosine[token] += total @ f[token] / np.linalg.norm(total) / np.linalg.norm(f[token])
    return ratio / len(skip), cosine / len(skip)


@pytest.mark.parametrize("registers", [0, 2])
def test_equals_blocks_by_hand(registers: int) -> None:
    model, x = small_vit(registers=registers), images()
    found = skip_ratios(model, x, batch_size=4)
    assert set(found.n_prefix) == {1 + registers}
    assert found.n_images == 6
    assert [part.name for part in found.sublayers] == [
        f"blocks.{i}.{k}" for i in range(DEPTH) for k in ("attention", "mlp")
    ]
    with torch.no_grad():
        z = model._pos_embed(model.patch_embed(x))
        for i, block in enumerate(model.blocks):
            for part in (0, 1):
                f = block.mlp(block.norm2(z)) if part else block.attn(block.norm1(z))
                ratio, cosine = slow(z, f)
                assert found.ratio[2 * i + part] == pytest.approx(ratio, rel=1e-4)
                assert found.cosine[2 * i + part] == pytest.approx(cosine, abs=1e-5)
                z = z + f


@pytest.mark.parametrize(("make", "n_blocks"), [(small_resnet, 4), (lambda: resnet18(num_classes=3).eval(), 8)])
def test_residual_blocks(make: object, n_blocks: int) -> None:
    """The channels of a place are its token; the branch ends before the addition, which is done in place."""
    torch.manual_seed(0)
    model, x = make(), images(2)  # type: ignore[operator]
    found = skip_ratios(model, x)
    blocks = [model.get_submodule(part.block) for part in found.sublayers]
    assert len(blocks) == n_blocks
    for index in (0, len(blocks) // 2 + 1):
        block, entered = blocks[index], list[Tensor]()
        handle = block.register_forward_pre_hook(lambda _, given, entered=entered: entered.append(given[0].clone()))
        with torch.no_grad():
            model(x)
        handle.remove()
        with torch.no_grad():
            z = entered[0] if block.downsample is None else block.downsample(entered[0])
            active = block.act1 if hasattr(block, "act1") else block.relu
            f = block.bn2(block.conv2(active(block.bn1(block.conv1(entered[0])))))
        ratio, cosine = slow(z.flatten(2).transpose(1, 2), f.flatten(2).transpose(1, 2))
        assert found.ratio[index] == pytest.approx(ratio, rel=1e-3)
        assert found.cosine[index] == pytest.approx(cosine, abs=1e-4)
    assert set(found.to_frame()["tokens"]) == {"spatial"}


def added_last(model: nn.Module, block: str, shortcut: str = "") -> tuple[Tensor, Tensor]:
    """Skip and branch of a block whose last step is the addition."""
    seen: list[Tensor] = []
    module = model.get_submodule(block)
    handles = [
        module.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone())),
        module.register_forward_hook(lambda _, __, out: seen.append(out.clone())),
    ]
    with torch.no_grad():
        model(images())
        z = module.get_submodule(shortcut)(seen[0]) if shortcut else seen[0]
    for handle in handles:
        handle.remove()
    z, total = (one.flatten(2).transpose(1, 2) if one.ndim == 4 else one for one in (z, seen[1]))
    return z, total - z


@pytest.mark.parametrize(
    ("name", "settings", "block", "shortcut", "n_blocks"),
    [
        ("mobilenetv3_small_050", {}, "blocks.1.1", "", 7),
        ("efficientnet_lite0", {}, "blocks.1.1", "", 9),
        ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (4, 8, 16, 24)}, "stages.1.blocks.0", "shortcut", 4),
    ],
)
def test_convolutional_blocks_that_add_last(
    name: str, settings: dict[str, object], block: str, shortcut: str, n_blocks: int
) -> None:
    torch.manual_seed(0)
    model = stir(timm.create_model(name, num_classes=2, **settings))
    found = skip_ratios(model, images())
    assert len(found.sublayers) == n_blocks
    index = [part.block for part in found.sublayers].index(block)
    ratio, cosine = slow(*added_last(model, block, shortcut))
    assert found.ratio[index] == pytest.approx(ratio, rel=1e-3)
    assert found.cosine[index] == pytest.approx(cosine, abs=1e-4)
    assert set(found.n_prefix) == {0}
    assert isinstance(found.plot(), Figure)


def test_mixers() -> None:
    torch.manual_seed(0)
    model = MlpMixer(img_size=32, patch_size=8, num_blocks=1, embed_dim=24, num_classes=2).eval()
    found = skip_ratios(model, images())
    assert [part.kind for part in found.sublayers] == ["mixing", "mlp"]
    with torch.no_grad():
        z = model.stem(images())
        f = model.blocks[0].mlp_tokens(model.blocks[0].norm1(z).transpose(1, 2)).transpose(1, 2)
        assert found.ratio[0] == pytest.approx(slow(z, f)[0], rel=1e-4)
        z = z + f
        assert found.ratio[1] == pytest.approx(
            slow(z, model.blocks[0].mlp_channels(model.blocks[0].norm2(z)))[0], rel=1e-4
        )


@pytest.mark.parametrize(
    ("make", "attention", "branches"),
    [
        (huggingface_vit, "attention", ("layernorm_before", "layernorm_after", "mlp")),
        (torchvision_vit, "self_attention", ("ln_1", "ln_2", "mlp")),
    ],
)
def test_other_libraries(make: object, attention: str, branches: tuple[str, str, str]) -> None:
    model, x = make(), images()  # type: ignore[operator]
    found = skip_ratios(model, x)
    assert found.n_prefix == (1,) * 4
    block, entered = model.get_submodule(found.sublayers[0].block), list[Tensor]()
    block.register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    with torch.no_grad():
        model(x)
        z = entered[0]
        y = getattr(block, branches[0])(z)
        attend = getattr(block, attention)
        f = (attend(y, y, y) if attention == "self_attention" else attend(y))[0]
        assert found.ratio[0] == pytest.approx(slow(z, f)[0], rel=1e-4)
        z = z + f
        f = getattr(block, branches[2])(getattr(block, branches[1])(z))
        assert found.ratio[1] == pytest.approx(slow(z, f)[0], rel=1e-4)


@pytest.mark.parametrize("norm_first", [True, False])
def test_torch_encoder_layers(norm_first: bool) -> None:
    model, x = stir(PlainTransformer(norm_first=norm_first)), images()
    found = skip_ratios(model, x)
    layer = model.encoder.layers[0]
    with torch.no_grad():
        z = model.patches(x).flatten(2).transpose(1, 2)
        y = layer.norm1(z) if norm_first else z
        f = layer.self_attn(y, y, y)[0]
        assert found.ratio[0] == pytest.approx(slow(z, f)[0], rel=1e-4)
        z = z + f if norm_first else layer.norm1(z + f)
        f = layer.linear2(layer.linear1(layer.norm2(z) if norm_first else z).relu())
        assert found.ratio[1] == pytest.approx(slow(z, f)[0], rel=1e-4)
    assert found.n_prefix == (0,) * 4


def test_post_norm_blocks() -> None:
    torch.manual_seed(0)
    from timm.models.vision_transformer import ResPostBlock, VisionTransformer

    model = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=24, depth=1, num_heads=3, num_classes=2, block_fn=ResPostBlock
    ).eval()
    found = skip_ratios(stir(model), images())
    block = model.blocks[0]
    with torch.no_grad():
        z = model._pos_embed(model.patch_embed(images()))
        f = block.norm1(block.attn(z))
        assert found.ratio[0] == pytest.approx(slow(z, f)[0], rel=1e-4)
        z = z + f
        assert found.ratio[1] == pytest.approx(slow(z, block.norm2(block.mlp(z)))[0], rel=1e-4)


def test_table_and_picture() -> None:
    found = skip_ratios(small_vit(), images())
    frame = found.to_frame()
    assert list(frame.columns) == ["block", "depth", "kind", "tokens", "ratio", "cosine"]
    assert len(frame) == 2 * 2 * DEPTH
    first = frame[(frame["depth"] == 0) & (frame["tokens"] == "spatial")]
    assert first["ratio"].item() == pytest.approx(found.ratio[0][1:].mean())
    assert len(found.ratio[0]) == 1 + N_PATCHES
    for measure in ("ratio", "cosine"):
        figure = found.plot(measure=measure)
        assert isinstance(figure, Figure)
    assert figure.axes[0].get_ylabel() == "cosine of sum and branch"
    with pytest.raises(InputError, match="measure='norm' is not known"):
        found.plot(measure="norm")  # type: ignore[arg-type]


def test_a_branch_of_zero_and_hooks() -> None:
    model = small_vit()
    nn.init.zeros_(model.blocks[0].attn.proj.weight)
    nn.init.zeros_(model.blocks[0].attn.proj.bias)
    found: SkipRatios = skip_ratios(model, images())
    assert np.isinf(found.ratio[0]).all()
    assert np.isnan(found.cosine[0]).all()
    assert np.isfinite(found.ratio[1]).all()
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


def test_class_attention_is_left_out() -> None:
    torch.manual_seed(0)
    model = timm.create_model("cait_xxs24_224", img_size=32, patch_size=8, depth=1, embed_dim=24, num_heads=3).eval()
    found = skip_ratios(model, images())
    of_class = [f"blocks_token_only.{i}.mlp" for i in (0, 1)]
    assert [part.name for part in found.sublayers] == ["blocks.0.attention", "blocks.0.mlp", *of_class]
    frame = found.to_frame()
    assert frame["tokens"].tolist() == ["spatial", "spatial", "cls", "cls"]  # it comes late


def test_three_branches() -> None:
    torch.manual_seed(0)
    model = stir(timm.create_model("xcit_nano_12_p16_224", embed_dim=24, depth=1, num_heads=3, img_size=64))
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = skip_ratios(model, x)
    assert [part.kind for part in found.sublayers] == ["attention", "mixing", "mlp"]
    block, entered = model.blocks[0], list[Tensor]()
    block.register_forward_pre_hook(lambda _, given: entered.append(given[0]))
    with torch.no_grad():
        model(x)
        z = entered[0]
        for i, f in enumerate(
            (
                lambda z: block.gamma1 * block.attn(block.norm1(z)),
                lambda z: block.gamma3 * block.local_mp(block.norm3(z), 4, 4),
                lambda z: block.gamma2 * block.mlp(block.norm2(z)),
            )
        ):
            assert found.ratio[i] == pytest.approx(slow(z, f(z))[0], rel=1e-4)
            z = z + f(z)


def test_networks_without_skips() -> None:
    with pytest.raises(InputError, match="Sequential has no known skip connection"):
        find_sublayers(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    torch.manual_seed(0)
    with pytest.raises(InputError, match="DenseNet"):
        skip_ratios(timm.create_model("densenet121", growth_rate=4, block_config=(2, 2), num_classes=2), images())


def test_swin_blocks_of_the_second_version() -> None:
    """x + norm(mlp(x)): the second norm reads the branch, not the sum."""
    torch.manual_seed(0)
    options = {"img_size": 32, "window_size": 4, "embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2)}
    model, x = timm.create_model("swinv2_tiny_window8_256", **options).eval(), images(3)
    stir(model)
    found = skip_ratios(model, x)
    index = [part.name for part in found.sublayers].index("layers.0.blocks.0.mlp")
    block, seen = model.layers[0].blocks[0], dict[str, Tensor]()
    for name in ("mlp", "norm2"):
        block.get_submodule(name).register_forward_hook(
            lambda _, given, out, name=name: seen.update({f"{name} in": given[0], f"{name} out": out})
        )
    with torch.no_grad():
        model(x)
    ratio, cosine = slow(seen["mlp in"].flatten(1, -2), seen["norm2 out"].flatten(1, -2))
    assert found.ratio[index] == pytest.approx(ratio, rel=1e-4)
    assert found.cosine[index] == pytest.approx(cosine, abs=1e-4)


def test_residual_blocks_with_norms_in_front() -> None:
    """ResNets of the BiT kind have three norms a block, and add last."""
    torch.manual_seed(0)
    model = timm.models.resnetv2.ResNetV2([1, 2], channels=(128, 256), num_classes=3, stem_chs=32).eval()
    x = images(2)
    found = skip_ratios(model, x)
    assert len(found.sublayers) == 3
    block, seen = model.get_submodule(found.sublayers[2].block), dict[str, Tensor]()
    block.register_forward_pre_hook(lambda _, given: seen.update(skip=given[0].clone()))
    block.drop_path.register_forward_hook(lambda _, given, out: seen.update(branch=out.clone()))
    with torch.no_grad():
        model(x)
    ratio, _ = slow(*(seen[key].flatten(2).transpose(1, 2) for key in ("skip", "branch")))
    assert found.ratio[2] == pytest.approx(ratio, rel=1e-3)


def test_skips_that_were_removed_are_not_reported() -> None:
    for removed, left in ((("attention",), ["mlp"]), (("mlp",), ["attention"]), (("attention", "mlp"), [])):
        parts = find_sublayers(without_skip(small_vit(), "blocks.1", removed))  # type: ignore[arg-type]
        assert [part.kind for part in parts if part.block == "blocks.1"] == left


def test_registers_are_not_called_class_tokens() -> None:
    model = small_vit(pool="avg", registers=2)
    frame = skip_ratios(model, images()).to_frame()
    assert set(frame["tokens"]) == {"register", "spatial"}


class Additions(TorchFunctionMode):
    """Keeps the operands and the result of every addition of tensors of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, Tensor, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        pair = args[:2]
        is_sum = getattr(func, "__name__", "").strip("_") in {"add", "radd", "iadd"}
        is_sum &= len(pair) == 2 and all(isinstance(one, Tensor) for one in pair)
        operands = [one.clone() for one in pair] if is_sum else []
        result = func(*args, **(kwargs or {}))
        if is_sum and operands[0].shape == operands[1].shape:
            self.found.append((*operands, result.clone()))
        return result


@pytest.mark.parametrize(
    "make",
    [
        lambda: torchvision.models.SwinTransformer(
            [4, 4],
            8,
            [1, 1],
            [2, 2],
            [4, 4],
            num_classes=2,
            block=SwinTransformerBlockV2,
        ),
        lambda: torchvision.models.RegNet(BlockParams([1, 2], [8, 16], [4, 8], [1, 1], [2, 2]), num_classes=2),
        lambda: torchvision.models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 2)], num_classes=2),
        lambda: timm.create_model("skresnet18", layers=(1, 1, 1, 1), num_classes=2),
        lambda: timm.create_model("nf_resnet26", num_classes=2),
        lambda: timm.create_model("tresnet_m", layers=(1, 1, 1, 1), num_classes=2),
    ],
    ids=["swin v2", "regnet", "convnext", "selective kernels", "norm-free", "tresnet"],
)
def test_skip_and_sum_are_those_of_one_addition(make: Any) -> None:
    """Blocks whose forms differ in where they norm and activate."""
    torch.manual_seed(0)
    model = stir(make())
    found = skip_ratios(model, images(2))
    with torch.no_grad(), Additions() as additions:
        model(images(2))
    channels = 3 if found.sublayers[0].kind == "attention" else 1
    pairs = [
        [slow(*(one.movedim(channels, 3).flatten(1, 2) for one in (skip, total - skip))) for skip in (left, right)]
        for left, right, total in additions.found
        if total.ndim == 4
    ]
    assert len(pairs) == len(found.sublayers)
    for ratio, cosine, either in zip(found.ratio, found.cosine, pairs, strict=True):
        assert any(
            ratio == pytest.approx(by_hand, rel=1e-3) and cosine == pytest.approx(angle, abs=1e-3)
            for by_hand, angle in either
        )


def test_transformer_blocks_of_maps_and_maps_of_one_place() -> None:
    """Channels come first in some transformers, and a map of one place has no class token."""
    torch.manual_seed(0)
    sizes = {"img_size": 64, "init_channels": 8, "embed_dim": 32, "depth": (0, 1, 1), "num_heads": 2, "num_classes": 2}
    model, x = stir(Visformer(**sizes)), torch.randn(2, 3, 64, 64)
    found = skip_ratios(model, x)
    block = found.sublayers[-1].block
    kept: dict[str, Tensor] = {}
    model.get_submodule(f"{block}.norm2").register_forward_pre_hook(lambda _, given: kept.update(skip=given[0]))
    model.get_submodule(block).register_forward_hook(lambda *given: kept.update(total=given[2]))
    with torch.no_grad():
        model(x)
    skip, total = (kept[key].flatten(2).transpose(1, 2) for key in ("skip", "total"))
    assert found.ratio[-1] == pytest.approx(slow(skip, total - skip)[0], rel=1e-3)

    swin = torchvision.models.SwinTransformer([4, 4], 8, [1, 1, 1], [2, 2, 2], [4, 4], num_classes=2)
    frame = skip_ratios(swin, torch.randn(2, 3, 16, 16)).to_frame()
    assert set(frame["tokens"]) == {"spatial"}
