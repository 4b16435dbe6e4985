"""Small images of three kinds, and a tiny network whose random weights are in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

KINDS = {"dark": 50, "gray": 128, "light": 200}


def pictures(n: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """n noisy images of shape (12, 10, 3) and their kinds, which their brightness tells."""
    rng = np.random.default_rng(seed)
    kinds = np.array(list(KINDS))[np.arange(n) % len(KINDS)]
    middle = np.array([KINDS[kind] for kind in kinds])[:, None, None, None]
    return np.clip(middle + rng.normal(0, 25, (n, 12, 10, 3)), 0, 255).astype(np.uint8), kinds


def write_pictures(folder: Path, n: int, seed: int = 0) -> Path:
    """A sub-folder for each kind."""
    for i, (pixels, kind) in enumerate(zip(*pictures(n, seed), strict=True)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{i}.png")
    return folder


def tiny_weights(folder: Path) -> str:
    """The name of a network of 0.3 million random weights."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    save_file(timm.create_model("test_efficientnet").state_dict(), folder / "tiny.safetensors")
    return f"test_efficientnet={folder / 'tiny.safetensors'}"
