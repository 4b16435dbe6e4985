"""Names and kinds of layers, on networks of several libraries."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from networks import Odd, Sequence, TinyResNet, images, seeded
from torch import nn
from vision_toys import images as random_images
from vision_toys import small_resnet, small_vit

from windvane.errors import InputError
from windvane.inspect.layer_selection import layer_names, select_layers, spatial_layers, trace_layers
from windvane.inspect.tokens import TokenGrid, prefix_counts


def tiny_vit() -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=3
    )


def test_all_layers_come_once_in_the_order_of_execution() -> None:
    names = layer_names(seeded(TinyResNet), images(4))
    assert names[:5] == ("stem", "blocks.0.conv", "blocks.0.norm", "blocks.0.act", "blocks.0.add")
    assert "blocks.0" not in names  # is its sum
    assert names[-1] == "head"
    assert layer_names(seeded(TinyResNet), images(4), "blocks.?") == ("blocks.0", "blocks.1")


def test_globs_and_kinds_mix() -> None:
    model, x = seeded(TinyResNet), images(4)
    assert layer_names(model, x, ["head", "*.conv"]) == ("blocks.0.conv", "blocks.1.conv", "head")
    assert layer_names(model, x, ["residual", "stem"]) == ("stem", "blocks.0.add", "blocks.1.add")
    assert layer_names(seeded(Odd), torch.ones(4, 6), "pair[1]") == ("pair[1]",)


def test_layers_have_a_batch_dimension() -> None:
    assert "table" not in layer_names(seeded(Odd), torch.ones(5, 6), "*")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("residual", ("blocks.0.add", "blocks.0.add#2", "blocks.1.add", "blocks.1.add#2")),
        ("attention", ("blocks.0.attn", "blocks.1.attn")),
        ("mlp", ("blocks.0.mlp.act", "blocks.1.mlp.act")),
        ("norm", ("blocks.0.norm1", "blocks.0.norm2", "blocks.1.norm1", "blocks.1.norm2", "norm")),
        ("block", ("blocks.0", "blocks.1")),
    ],
)
def test_kinds_of_a_timm_transformer(kind: str, names: tuple[str, ...]) -> None:
    assert layer_names(tiny_vit(), torch.rand(2, 3, 32, 32), kind) == names


def test_kinds_of_resnets() -> None:
    x = torch.rand(2, 3, 32, 32)
    blocks = tuple(f"layer{i}.{j}" for i in range(1, 5) for j in range(2))
    for model in (timm.create_model("resnet18"), torchvision.models.resnet18()):
        assert layer_names(model, x, "residual") == tuple(f"{block}.add" for block in blocks)
        assert layer_names(model, x, "block") == blocks
        assert len(layer_names(model, x, "norm")) == 20
        with pytest.raises(InputError, match=r"layers='attention' matches nothing.*Allowed: residual, norm, block"):
            layer_names(model, x, "attention")


def test_kinds_of_a_torchvision_transformer() -> None:
    model = torchvision.models.VisionTransformer(32, 16, 2, 2, 24, 48)
    x = torch.rand(2, 3, 32, 32)
    prefix = "encoder.layers.encoder_layer_"
    assert layer_names(model, x, "attention") == tuple(f"{prefix}{i}.self_attention" for i in range(2))
    assert layer_names(model, x, "residual") == tuple(f"{prefix}{i}.add{n}" for i in range(2) for n in ("", "#2"))
    assert layer_names(model, x, "mlp") == tuple(f"{prefix}{i}.mlp.1" for i in range(2))
    assert layer_names(model, x, "block") == tuple(f"{prefix}{i}" for i in range(2))


def test_kinds_of_a_hugging_face_transformer() -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, image_size=32, patch_size=16
    )
    model, x = transformers.ViTForImageClassification(config), torch.rand(2, 3, 32, 32)
    for kind, n_each in (("residual", 2), ("attention", 1), ("mlp", 1), ("block", 1)):
        assert len(layer_names(model, x, kind)) == 2 * n_each, layer_names(model, x, kind)
    assert layer_names(model, {"pixel_values": x}, "block") == layer_names(model, x, "block")


def test_windows_of_an_image_stay_together() -> None:
    model = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=56, embed_dim=12, depths=(1, 1), num_heads=(1, 2)
    )
    name, x = "layers.0.blocks.0.attn", torch.rand(3, 3, 56, 56)
    layers = select_layers(model, trace_layers(model, x), name)
    assert layers[0].batch_first(torch.zeros(3 * 4, 49, 12), 3).shape == (3, 4, 49, 12)
    with pytest.raises(InputError, match=rf"layer '{name}' returns \(12, 49, 12\) for 3 images: it sees windows"):
        spatial_layers(model, x, name, (0,))


def test_positions_first() -> None:
    layer = select_layers(seeded(Sequence), trace_layers(seeded(Sequence), torch.rand(5, 7, 8)), "add")[0]
    assert layer.image_axis == 1
    assert layer.batch_first(torch.zeros(7, 5, 8), 5).shape == (5, 7, 8)


def test_bytes_of_an_image() -> None:
    layers = {layer.name: layer.n_bytes for layer in trace_layers(seeded(TinyResNet), images(4))}
    assert layers["stem"] == 8 * 8 * 8 * 4
    assert layers["head"] == 5 * 4


def test_nearest_names_are_suggested() -> None:
    model = seeded(TinyResNet)
    with pytest.raises(InputError, match=r"layers='blocks.0.cnv' matches none.*Nearest names: blocks.0.conv"):
        layer_names(model, images(4), "blocks.0.cnv")
    with pytest.raises(InputError, match="layers is empty"):
        layer_names(model, images(4), [])


def test_blocks_that_stand_in_a_row_by_name() -> None:
    """The stages of RegNet are no sequences, and its first ones hold one block each."""
    model = timm.create_model("regnetx_002", num_classes=2)
    names = [name for name, module in model.named_modules() if type(module).__name__ == "Bottleneck"]
    assert layer_names(model, torch.rand(2, 3, 32, 32), "block") == tuple(names)
    assert "s1.b1" in names
    assert "s1.b2" not in names


def test_blocks_without_a_skip_are_blocks_beside_those_with_one() -> None:
    model = torchvision.models.mobilenet_v2(width_mult=0.1)
    x = torch.rand(2, 3, 32, 32)
    assert len(layer_names(model, x, "block")) == 17
    n_skips = sum(getattr(module, "use_res_connect", False) for module in model.modules())
    assert 0 < len(layer_names(model, x, "residual")) == n_skips < 17


def test_spatial_layers() -> None:
    model = small_vit()
    grids = spatial_layers(model, random_images(), ["blocks.?", "fc_norm", "head"], prefix_counts(model))
    assert grids == dict.fromkeys(("blocks.0", "blocks.1", "blocks.2"), TokenGrid(1, 4, 4, 8.0, 8.0))


def test_class_attention_is_not_spatial() -> None:
    torch.manual_seed(0)
    model = timm.create_model("cait_xxs24_224", img_size=32, patch_size=8, depth=1, embed_dim=24, num_heads=3)
    assert list(spatial_layers(model, random_images(), "block", prefix_counts(model))) == ["blocks.0"]


def test_too_few_patches() -> None:
    model = small_resnet()
    layers, counts = ["layer3.0", "layer4.0"], prefix_counts(model)
    assert list(spatial_layers(model, random_images(), layers, counts)) == ["layer3.0", "layer4.0"]
    assert list(spatial_layers(model, random_images(), layers, counts, min_patches=2)) == ["layer3.0"]


def test_no_spatial_layer() -> None:
    model = small_vit()
    with pytest.raises(InputError, match="choose layers before the network pools"):
        spatial_layers(model, random_images(), "head", prefix_counts(model))
    with pytest.raises(InputError, match="matches none"):
        spatial_layers(model, random_images(), "nothing", prefix_counts(model))
    with pytest.raises(InputError, match=r"'layer4.0' has 1 patches. Allowed: at least 2"):
        spatial_layers(small_resnet(), random_images(), "layer4.0", (0,), min_patches=2)
