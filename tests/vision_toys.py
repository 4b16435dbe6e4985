"""Small networks and images for the tests of windvane.inspect."""

from __future__ import annotations

import timm
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

SIDE, PATCH, WIDTH, HEADS, DEPTH = 32, 8, 24, 3, 3
N_PATCHES = (SIDE // PATCH) ** 2


def images(n: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def stir(model: nn.Module, seed: int = 0, scale: float = 0.2) -> nn.Module:
    """Weights that are large enough for attention to be far from uniform."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * scale)
            elif not name.endswith("weight"):
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.1)
    return model.eval()


def small_vit(*, pool: str = "token", distilled: bool = False, registers: int = 0, seed: int = 0) -> nn.Module:
    kind = VisionTransformerDistilled if distilled else VisionTransformer
    model = kind(
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        mlp_ratio=2,
        num_classes=4,
        class_token=pool == "token",
        global_pool=pool,
        reg_tokens=registers,
    )
    return stir(model, seed)


def small_resnet() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("resnet10t", num_classes=4, zero_init_last=False).eval()


def huggingface_vit(attention: str = "sdpa") -> nn.Module:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=2 * WIDTH,
        image_size=SIDE,
        patch_size=PATCH,
        attn_implementation=attention,
    )
    return stir(ViTModel(config))


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer as Torchvision

    return stir(Torchvision(SIDE, PATCH, num_layers=2, num_heads=HEADS, hidden_dim=WIDTH, mlp_dim=2 * WIDTH))


def output_of(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """What a module returns for images, by a hook."""
    kept: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(lambda _, __, out: kept.append(out))
    with torch.no_grad():
        model(x)
    handle.remove()
    return kept[0]


class PlainTransformer(nn.Module):
    """Patches, then torch's own encoder layers."""

    def __init__(self, *, norm_first: bool = True) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS - 1, 2 * WIDTH, batch_first=True, norm_first=norm_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(self.patches(x).flatten(2).transpose(1, 2))


class GivenAttention(nn.Module):
    """Attends as it is told, whatever the images: logits (heads, tokens, tokens)."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.logits.expand(len(x), *self.logits.shape).softmax(-1)
        values = x.new_ones(len(x), *self.logits.shape[:2], 2)
        return weights @ values
