"""The networks of `inside_networks.py`: created and trained, each resumable from its last checkpoint.

The training loop is small on purpose, so that the networks hardly depend on the package that inspects them.
"""

from __future__ import annotations

import copy
import io
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from windvane.inspect import without_skip

SIDE, PATCH = 32, 4
CHECKPOINT_EVERY = 200  # steps between two checkpoints
SEED_STRIDE = 1_000_000  # between the batches of two seeds; more than any network takes steps
SHARES = (1,)  # % of the training images


@dataclass(frozen=True)
class Size:
    """Sizes of networks, training and data."""

    width: int  # of the vision transformers
    depth: int
    heads: int
    channels: tuple[int, ...]  # of each stage of the residual network
    blocks: tuple[int, ...]
    n_train: int  # images of CIFAR-10
    batch: int
    steps: int
    tuning_steps: int  # of fine-tuning
    n_inspected: int  # test images for the analyses
    least_accuracy: float = 0.0  # on test images, of networks trained on all images


SIZES = {
    "toy": Size(24, 4, 3, (8, 8, 16, 16), (1, 1, 1, 1), 600, 128, 6, 3, 128),
    "cpu": Size(96, 6, 3, (16, 32, 64, 128), (2, 2, 2, 2), 50_000, 64, 10_000, 500, 1024, 0.6),
    "gpu": Size(192, 12, 6, (32, 64, 128, 256), (3, 3, 3, 3), 50_000, 512, 6_000, 500, 5120, 0.6),
}


@dataclass(frozen=True)
class Labelled:
    """Images as uint8 (n, 3, 32, 32), and classes (n,)."""

    images: Tensor
    labels: Tensor

    def part(self, start: int, stop: int) -> Labelled:
        """Images from `start` to before `stop`."""
        return Labelled(self.images[start:stop], self.labels[start:stop])

    def to(self, device: torch.device) -> Labelled:
        """Move them to a device."""
        return Labelled(self.images.to(device), self.labels.to(device))

    @property
    def scaled(self) -> Tensor:
        """Normalized images: float32 from -2 to 2."""
        return self.images.float() / 63.75 - 2


@dataclass(frozen=True)
class Spec:
    """One network to train."""

    name: str  # of its checkpoint
    make: Callable[[], nn.Module]  # creates it, with random weights or those of another
    data: Labelled
    batch: int
    steps: int
    flip: bool = True  # whether mirrored images are of the same class
    seed: int = 0  # of the batches


def read_images(name: str, split: str, folder: Path, cache: Path) -> Labelled:
    """Decode a set once, in an order drawn with seed 0; later calls read the decoded copy."""
    path = cache / f"{name}-{split}.npz"
    if not path.exists():
        from PIL import Image

        frame = pd.read_parquet(folder / f"{name}.parquet")
        frame = frame[frame["split"] == split].sample(frac=1, random_state=0)
        decoded = [Image.open(io.BytesIO(one)).convert("RGB").resize((SIDE, SIDE)) for one in frame["image"]]
        pixels = np.stack([np.asarray(one).transpose(2, 0, 1) for one in decoded])
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{os.getpid()}-{path.name}")
        np.savez(part, images=pixels, labels=frame["label"].astype("category").cat.codes.to_numpy(np.int64))
        part.replace(path)
    with np.load(path) as arrays:
        return Labelled(torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]))


def make_vit(size: Size, *, pool: str = "token", seed: int = 0) -> nn.Module:
    """Make a vision transformer with a class token, or with average pooling ("avg")."""
    torch.manual_seed(seed)
    model: Any = VisionTransformer(
        img_size=SIDE,
        patch_size=PATCH,
        embed_dim=size.width,
        depth=size.depth,
        num_heads=size.heads,
        mlp_ratio=2,
        num_classes=10,
        class_token=pool == "token",
        global_pool=pool,
    )
    if not torch.cuda.is_available():
        for block in model.blocks:
            block.attn.fused_attn = False  # in bfloat16 on a CPU, the fused one takes twice the time of a training step
    made: nn.Module = model
    return made


def make_resnet(size: Size, seed: int = 0) -> nn.Module:
    """Make a residual network for small images: no stride and no pooling before the first stage."""
    torch.manual_seed(seed)
    stem = size.channels[0] // 2
    model: Any = ResNet(BasicBlock, size.blocks, 10, stem_width=stem, stem_type="deep", channels=size.channels)
    model.conv1[0].stride = (1, 1)
    model.maxpool = nn.Identity()
    made: nn.Module = model.to(memory_format=torch.channels_last)
    return made


def make_without_skip(size: Size, seed: int = 0) -> nn.Module:
    """Make the vision transformer without the skips of its middle block."""
    return without_skip(make_vit(size, seed=seed), f"blocks.{size.depth // 2}")


def with_new_head(model: nn.Module, n_classes: int, seed: int = 0) -> nn.Module:
    """Copy a vision transformer with another classifier."""
    model = copy.deepcopy(model)
    torch.manual_seed(seed)
    model.reset_classifier(n_classes)  # type: ignore[operator]
    return model


def draw_batch(spec: Spec, step: int) -> tuple[Tensor, Tensor]:
    """Draw a batch that depends on seed and step alone, shifted by up to 4 pixels and mirrored."""
    data, n = spec.data, spec.batch
    draw = torch.Generator().manual_seed(step + SEED_STRIDE * spec.seed)
    index = torch.randint(len(data.labels), (n,), generator=draw)
    shifts = torch.randint(0, 9, (2, n, 1), generator=draw)
    mirrored = torch.rand(n, generator=draw) < 0.5
    device = data.images.device
    x = F.pad(data.images[index.to(device)], (4, 4, 4, 4))
    rows, columns = (shifts + torch.arange(SIDE)).to(device)  # (batch, side) each
    at = torch.arange(n, device=device)[:, None, None]
    x = x.permute(0, 2, 3, 1)[at, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if spec.flip:
        x = torch.where(mirrored.to(device)[:, None, None, None], x.flip(3), x)
    return x.float() / 63.75 - 2, data.labels[index.to(device)]


@torch.no_grad()
def accuracy(model: nn.Module, data: Labelled) -> float:
    """Fraction of images that a network classifies correctly."""
    was = model.training
    model.eval()
    parts = [data.part(start, start + 500) for start in range(0, len(data.labels), 500)]
    right = [(model(part.scaled).argmax(1) == part.labels).sum() for part in parts]
    model.train(was)
    return float(torch.stack(right).sum()) / len(data.labels)


def train(spec: Spec, folder: Path, deadline: float = math.inf) -> nn.Module:
    """Train a network, resuming from its checkpoint if there is one.

    Exits with a checkpoint at a deadline on the monotonic clock.
    """
    device = spec.data.images.device
    model = spec.make().to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)
    path, step, seconds, clock = folder / f"{spec.name}.pt", 0, 0.0, time.process_time
    if path.exists():
        state = torch.load(path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
    model.train()
    began = clock()
    while step < spec.steps:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * _learning_rate_factor(step, spec.steps)
        _one_step(model, optimizer, spec, step)
        step += 1
        late = time.monotonic() > deadline
        if step % CHECKPOINT_EVERY == 0 or step >= spec.steps or late:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            _save_checkpoint({**state, "seconds": seconds + clock() - began}, path)
        if late and step < spec.steps:
            raise SystemExit(
                f"{spec.name} has taken {step} of {spec.steps} steps; run the same command again to resume."
            )
    return model.eval()


def _one_step(model: nn.Module, optimizer: torch.optim.Optimizer, spec: Spec, step: int) -> None:
    x, y = draw_batch(spec, step)
    fast = x.is_cuda or torch.cpu._is_avx512_bf16_supported()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=fast):
        loss = F.cross_entropy(model(x).float(), y)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def seconds_of_a_step(spec: Spec) -> float:
    """Seconds per training step without the first one; by processor time, which other programs hardly change."""
    images = spec.data.images
    model = spec.make().to(images.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    _one_step(model, optimizer, spec, 0)
    clock, n_threads = (time.monotonic, 1) if images.is_cuda else (time.process_time, torch.get_num_threads())
    begin = clock()
    for step in range(1, spec.steps):
        _one_step(model, optimizer, spec, step)
    return (clock() - begin) / (spec.steps - 1) / n_threads


def _learning_rate_factor(step: int, steps: int) -> float:
    """Factor of the learning rate: linear warmup over the first twentieth, then a cosine."""
    warm = max(1, steps // 20)
    return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * max(0, step - warm) / max(1, steps - warm))))


def _save_checkpoint(state: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)
