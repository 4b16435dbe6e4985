"""Small transformers for small images, which timm does not have: ViT-Lite and CCT.

They are those of "Escaping the Big Data Paradigm with Compact Transformers" (Hassani et al., arXiv 2104.05704), made
of timm's transformer blocks. Importing this module registers those in `NAMES` with timm, so that ``timm.create_model``
knows them: ``vit_lite_L_P`` has L blocks and patches of P pixels, ``cct_L_KxC`` has L blocks and C convolutions of
K x K pixels. Others are made of these by arguments: ``depth``, ``patch_size``; ``kernel``, ``convolutions``.
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

# blocks -> width, heads, width of the hidden layer / width
_SIZES = {2: (128, 2, 1.0), 4: (128, 2, 1.0), 6: (256, 4, 2.0), 7: (256, 4, 2.0), 14: (384, 6, 3.0)}
_VIT_LITE = ((6, 4), (7, 4), (7, 8))
_CCT = ((2, 3, 2), (4, 3, 2), (6, 3, 1), (7, 3, 1), (7, 3, 2), (14, 7, 2))


class ConvTokenizer(nn.Module):
    """Tokens from convolutions, each followed by a ReLU and a max pooling that halves the sides.

    Parameters
    ----------
    kernel
        Pixels a side of each convolution.
    convolutions
        How many.
    img_size, in_chans, embed_dim
        Sides of the image in pixels, its colours, width of a token.
    patch_size, bias, dynamic_img_pad, device, dtype
        Part of timm's call of such layers; the last two are used.
    """

    def __init__(
        self,
        *,
        kernel: int,
        convolutions: int,
        img_size: int | tuple[int, int],
        in_chans: int,
        embed_dim: int,
        patch_size: int,
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
        """Give the pixels between two tokens; timm asks."""
        return self.reduction

    def forward(self, images: Tensor) -> Tensor:
        """Turn images of shape (n, c, h, w) into tokens of shape (n, t, d)."""
        return self.layers(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]  # (n, t, d)


class CCT(VisionTransformer):
    """Compact convolutional transformer: convolutional tokens, and a learned mean of them instead of a class token.

    Parameters
    ----------
    kernel, convolutions
        Of the tokenizer.
    img_size, in_chans, num_classes, embed_dim, depth, num_heads, mlp_ratio
        As in timm's VisionTransformer.
    drop_rate, pos_drop_rate, proj_drop_rate, attn_drop_rate, drop_path_rate
        Dropout of the head, the tokens, the branches, the attention; stochastic depth.
    """

    def __init__(
        self,
        *,
        kernel: int = 3,
        convolutions: int = 1,
        img_size: int | tuple[int, int] = 32,
        in_chans: int = 3,
        num_classes: int = 10,
        embed_dim: int = 256,
        depth: int = 7,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            img_size=img_size,
            in_chans=in_chans,
            num_classes=num_classes,
            embed_dim=embed_dim,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=mlp_ratio,
            class_token=False,
            global_pool="avg",
            fc_norm=False,
            drop_rate=drop_rate,
            pos_drop_rate=pos_drop_rate,
            proj_drop_rate=proj_drop_rate,
            attn_drop_rate=attn_drop_rate,
            drop_path_rate=drop_path_rate,
            embed_layer=partial(ConvTokenizer, kernel=kernel, convolutions=convolutions),
        )
        self.importance = nn.Linear(embed_dim, 1)
        nn.init.trunc_normal_(self.importance.weight, std=0.02)
        nn.init.zeros_(self.importance.bias)

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        """Average tokens of shape (n, t, d) by their learned importance (section 3.2): shape (n, d)."""
        if pool_type is not None:
            return super().pool(x, pool_type)  # type: ignore[no-any-return]
        shares = self.importance(x).softmax(dim=1)  # (n, t, 1)
        return (shares.transpose(1, 2) @ x).squeeze(1)  # type: ignore[no-any-return]  # (n, d)


def _cfg(first_convolution: str) -> dict[str, Any]:
    half = (0.5, 0.5, 0.5)
    return {
        "input_size": (3, 32, 32),
        "num_classes": 10,
        "fixed_input_size": True,
        "mean": half,
        "std": half,
        "interpolation": "bicubic",
        "first_conv": first_convolution,
        "classifier": "head",
    }


def _register(name: str, network: type[VisionTransformer], settings: dict[str, Any]) -> None:
    entry: Any = partial(build_model_with_cfg, network, name, pretrained_filter_fn=checkpoint_filter_fn, **settings)
    entry.__name__, entry.__module__ = name, __name__  # under which timm registers it
    register_model(entry)


_NETWORKS: dict[str, tuple[type[VisionTransformer], dict[str, Any]]] = {}
for _depth, _patch in _VIT_LITE:
    _NETWORKS[f"vit_lite_{_depth}_{_patch}"] = (VisionTransformer, {"patch_size": _patch, "depth": _depth})
for _depth, _kernel, _number in _CCT:
    _NETWORKS[f"cct_{_depth}_{_kernel}x{_number}"] = (
        CCT,
        {"kernel": _kernel, "convolutions": _number, "depth": _depth},
    )
NAMES = tuple(_NETWORKS)

default_cfgs = generate_default_cfgs(  # timm looks for this name
    {name: _cfg("patch_embed.layers.0" if kind is CCT else "patch_embed.proj") for name, (kind, _) in _NETWORKS.items()}
)
for _name, (_kind, _settings) in _NETWORKS.items():
    _width, _heads, _ratio = _SIZES[_settings["depth"]]
    _register(_name, _kind, {**_settings, "embed_dim": _width, "num_heads": _heads, "mlp_ratio": _ratio})
