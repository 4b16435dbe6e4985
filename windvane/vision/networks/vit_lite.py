"""ViT-Lite and CCT: small transformers for small images, which timm does not have.

Source: "Escaping the Big Data Paradigm with Compact Transformers" (Hassani et al., arXiv 2104.05704), built from timm's
transformer blocks. Importing this module registers them with timm: ``vit_lite_L_P`` has L blocks and patches of P
pixels, ``cct_L_KxC`` has L blocks and C convolutions of K x K pixels. Arguments of ``timm.create_model`` make others:
``depth``, ``patch_size``; ``kernel``, ``convolutions``.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

_FIRST_WIDTH = 64  # of all convolutions of a tokenizer but the last


class ConvTokenizer(nn.Module):
    """Tokens from convolutions, each followed by a ReLU and a max pooling that halves the sides."""

    def __init__(
        self,
        *,
        kernel: int,
        convolutions: int,
        img_size: int | tuple[int, int],
        in_chans: int,
        embed_dim: int,
        patch_size: int,  # this and the next two are part of timm's call and not used
        bias: bool,
        dynamic_img_pad: bool,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        widths = [in_chans, *[_FIRST_WIDTH] * (convolutions - 1), embed_dim]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            convolution = nn.Conv2d(
                inputs, outputs, kernel, padding=kernel // 2, bias=False, device=device, dtype=dtype
            )
            nn.init.kaiming_normal_(convolution.weight)
            layers += [convolution, nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers)
        sides = img_size if isinstance(img_size, tuple) else (img_size, img_size)
        for _ in range(convolutions):
            sides = ((sides[0] + 1) // 2, (sides[1] + 1) // 2)
        self.grid_size = sides
        self.num_patches = sides[0] * sides[1]
        self.reduction: int = 2**convolutions

    def feat_ratio(self) -> int:
        """Return the pixels between two tokens, for timm."""
        return self.reduction

    def forward(self, images: Tensor) -> Tensor:
        """Map images (n, c, h, w) to tokens (n, t, d)."""
        return self.layers(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]  # (n, t, d)


class CCT(VisionTransformer):
    """Compact convolutional transformer: convolutional tokens, and a learned mean of them instead of a class token."""

    def __init__(self, *, kernel: int = 3, convolutions: int = 1, embed_dim: int = 256, **kwargs: Any) -> None:
        super().__init__(
            embed_dim=embed_dim,
            class_token=False,
            global_pool="avg",
            fc_norm=False,
            embed_layer=partial(ConvTokenizer, kernel=kernel, convolutions=convolutions),
            **kwargs,
        )
        self.importance = nn.Linear(embed_dim, 1)
        nn.init.trunc_normal_(self.importance.weight, std=0.02)
        nn.init.zeros_(self.importance.bias)

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        """Average tokens (n, t, d) to (n, d), weighted by their learned importance (section 3.2)."""
        if pool_type is not None:
            return super().pool(x, pool_type)  # type: ignore[no-any-return]
        shares = self.importance(x).softmax(dim=1)  # (n, t, 1)
        return (shares.transpose(1, 2) @ x).squeeze(1)  # type: ignore[no-any-return]  # (n, d)


def _size(depth: int) -> dict[str, Any]:
    """Return the arguments of a network of 2, 4, 6, 7 or 14 blocks."""
    width, heads, ratio = {2: (128, 2, 1.0), 4: (128, 2, 1.0), 14: (384, 6, 3.0)}.get(depth, (256, 4, 2.0))
    return {"depth": depth, "embed_dim": width, "num_heads": heads, "mlp_ratio": ratio}


_NETWORKS: dict[str, tuple[type[VisionTransformer], dict[str, Any]]] = {
    "vit_lite_6_4": (VisionTransformer, {**_size(6), "patch_size": 4}),
    "vit_lite_7_4": (VisionTransformer, {**_size(7), "patch_size": 4}),
    "vit_lite_7_8": (VisionTransformer, {**_size(7), "patch_size": 8}),
    "cct_2_3x2": (CCT, {**_size(2), "kernel": 3, "convolutions": 2}),
    "cct_4_3x2": (CCT, {**_size(4), "kernel": 3, "convolutions": 2}),
    "cct_6_3x1": (CCT, {**_size(6), "kernel": 3, "convolutions": 1}),
    "cct_7_3x1": (CCT, {**_size(7), "kernel": 3, "convolutions": 1}),
    "cct_7_3x2": (CCT, {**_size(7), "kernel": 3, "convolutions": 2}),
    "cct_14_7x2": (CCT, {**_size(14), "kernel": 7, "convolutions": 2}),
}
NAMES = tuple(_NETWORKS)


_CFG: dict[str, Any] = {"input_size": (3, 32, 32), "num_classes": 10, "fixed_input_size": True}
_CFG |= {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic", "classifier": "head"}
_FIRST = {VisionTransformer: "patch_embed.proj", CCT: "patch_embed.layers.0"}
default_cfgs = generate_default_cfgs(  # register_model looks for this name
    {name: {**_CFG, "first_conv": _FIRST[model]} for name, (model, _) in _NETWORKS.items()}
)


def _register(name: str) -> None:
    model, defaults = _NETWORKS[name]

    def create(pretrained: bool = False, **kwargs: Any) -> Any:
        arguments = {**defaults, **kwargs}
        return build_model_with_cfg(model, name, pretrained, pretrained_filter_fn=checkpoint_filter_fn, **arguments)

    create.__name__ = name  # under which timm finds it
    register_model(create)


for _name in NAMES:
    _register(_name)
