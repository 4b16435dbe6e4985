"""Networks and data that the measurements of the Fisher trace share."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.data import IMAGES

N_CLASSES = 10


def simple_cnn() -> nn.Module:
    """Make the paper's SimpleCNN: Keras' example for CIFAR-10 with Keras' weights, a last layer of 128, no dropout."""
    # Pooling stands before ReLU, which is the same function and less work.
    model = nn.Sequential(
        *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(2304, 128), nn.ReLU(), nn.Linear(128, N_CLASSES)),
    )
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
    return model


def norm_cnn(width: int = 32) -> nn.Module:
    """Make six convolutions with batch norm and ReLU."""
    layers: list[nn.Module] = []
    before = 3
    for after, stride in ((1, 1), (1, 1), (2, 2), (2, 1), (4, 2), (4, 1)):
        layers += [nn.Conv2d(before, width * after, 3, stride, 1, bias=False), nn.BatchNorm2d(width * after), nn.ReLU()]
        before = width * after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, N_CLASSES))


def vit(width: int = 192, depth: int = 6, *, size: int = 32, patch: int = 4) -> nn.Module:
    """Make a vision transformer of timm, with fused attention."""
    from timm.models import VisionTransformer

    model: nn.Module = VisionTransformer(
        img_size=size, patch_size=patch, embed_dim=width, depth=depth, num_heads=3, num_classes=N_CLASSES
    )
    return model


def cifar(split: str, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Read CIFAR-10, or `limit` images of it with as many of each class, as images (n, 3, 32, 32) and labels (n,)."""
    # Images are centered and scaled by fixed numbers near the mean and spread of the training set.
    frame = pd.read_parquet(IMAGES / "cifar10.parquet")
    codes = {name: code for code, name in enumerate(sorted(frame["label"].unique()))}
    frame = frame[frame["split"] == split]
    if limit is not None:
        frame = frame.groupby("label", observed=True).sample(limit // len(codes), random_state=0)
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(image))) for image in frame["image"]])  # (n, 32, 32, 3)
    labels = torch.tensor([codes[name] for name in frame["label"]])
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.473) / 0.251
    return images.contiguous(memory_format=torch.channels_last), labels
