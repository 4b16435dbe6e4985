"""What timm's own training script does where it is left at its defaults, in a few calls of timm.

The script is not part of timm's package, so that others have to repeat it: `create_transform` with a random area from
8 %, colour jitter of 0.4 and mirroring (what `create_loader` does for training), SGD with Nesterov momentum 0.9 at a
rate of 0.1 for 256 images a step, weight decay 2e-5 but for biases and norms, a cosine over epochs after 5 epochs of
warmup from 1e-5, label smoothing of 0.1, batches of 128, images in the range of the network's configuration, the best
epoch by validation accuracy. What a user has to say is how many epochs: here as many as fit into the time, by the speed
of the first steps; the warmup is at most a tenth of them. On CPUs 224 pixels are often too slow for any training: then
the largest of some image sizes at which a few epochs fit, which a user would have to find out. Settings are those of
timm 1.0 (train.py); no line is copied.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch import Tensor, nn
from torch.utils.data import Dataset

import windvane.vision  # noqa: F401 - timm then knows ViT-Lite and CCT
from windvane.data.images import ImageDataset, ImageSplits

BATCH, EPOCHS_OF_WARMUP, WARMUP_RATE = 128, 5, 1e-5
RATE, RATE_BATCH = 0.1, 256
SMOOTHING, WEIGHT_DECAY = 0.1, 2e-5
_TRIED = 20  # steps that give the speed
_TRIED_SHARE = 0.05  # of the time, which those steps take at most
_FEW_EPOCHS = 5
_KEPT = 0.02  # share of the time that is left unused, so that the last epoch ends within it


class Pictures(Dataset[tuple[object, int]]):
    """A set of windvane as timm's loaders want it: images of Pillow, decoded when asked."""

    def __init__(self, images: ImageDataset) -> None:
        self._images = images
        self.transform: object = None  # set by the loader

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[object, int]:
        labels = self._images.labels
        picture = Image.fromarray(self._images.decode(index))
        return self.transform(picture), 0 if labels is None else int(labels[index])  # type: ignore[operator]


@dataclass(frozen=True)
class Outcome:
    """What came of a training: its network, best validation accuracy, epochs, seconds, images a second, image size."""

    network: nn.Module
    valid_accuracy: float
    epochs: int
    seconds: float
    images_per_second: float
    image_size: int | None = None  # None: that of the network's configuration


def loader_of(
    images: ImageDataset,
    model: nn.Module,
    training: bool,
    workers: int,
    *,
    batch_size: int = BATCH,
    augmentation: str | None = None,
    image_size: int | None = None,
) -> Any:
    """Make timm's loader, with its defaults for training or for evaluation."""
    config = resolve_data_config({} if image_size is None else {"img_size": image_size}, model=model)
    return create_loader(
        Pictures(images),
        input_size=config["input_size"],
        batch_size=batch_size,
        is_training=training,
        scale=(0.08, 1.0) if training else None,
        ratio=(3 / 4, 4 / 3) if training else None,
        hflip=0.5,
        color_jitter=0.4,
        auto_augment=augmentation,
        interpolation="random" if training else config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        num_workers=workers,
        crop_pct=1.0,  # whole small images; timm would enlarge and cut them
        use_prefetcher=False,
        persistent_workers=workers > 0,
        device=torch.device("cpu"),
    )


def train_timm(
    name: str,
    data: ImageSplits,
    seconds: float,
    seed: int,
    workers: int = 1,
    start: nn.Module | None = None,
    sizes: Sequence[int] = (),
) -> Outcome:
    """Train as timm's script does, for about so many seconds; from random weights, or from those of `start`.

    Of image sizes, the largest at which a few epochs fit is taken; without any, that of the network's configuration.
    """
    began = time.monotonic()
    torch.manual_seed(seed)
    network = timm.create_model(name, num_classes=len(data.train.classes)) if start is None else start
    optimizer = create_optimizer_v2(
        network, opt="sgd", lr=RATE * BATCH / RATE_BATCH, momentum=0.9, weight_decay=WEIGHT_DECAY
    )
    classification_loss = LabelSmoothingCrossEntropy(SMOOTHING)
    held_out = data.valid
    assert held_out is not None

    def load(images: ImageDataset, training: bool, size: int | None) -> Any:
        return loader_of(images, network, training, workers, image_size=size)

    def seconds_an_epoch(size: int | None) -> float:
        tried = copy.deepcopy(network)  # steps that give the speed are not counted as training
        steps = load(data.train, True, size)
        pace = _seconds_a_step(tried, iter(steps), classification_loss, _TRIED_SHARE * seconds)
        evaluation_start = time.monotonic()
        _accuracy(tried, load(held_out, False, size))
        return pace * len(steps) + time.monotonic() - evaluation_start

    size: int | None = min(sizes, default=None)
    if size is not None:
        few = _FEW_EPOCHS * seconds_an_epoch(size) / size**2
        size = max(one for one in sizes if one == size or few * one**2 <= seconds)
    epoch = seconds_an_epoch(size)
    train, valid = load(data.train, True, size), load(held_out, False, size)
    epochs = max(1, math.floor(((1 - _KEPT) * seconds - (time.monotonic() - began)) / epoch))
    scheduler, _ = create_scheduler_v2(
        optimizer, "cosine", num_epochs=epochs, warmup_epochs=min(EPOCHS_OF_WARMUP, epochs // 10), warmup_lr=WARMUP_RATE
    )
    best, weights, images, stepping = -1.0, network.state_dict(), 0, 0.0
    for number in range(epochs):
        network.train()
        before = time.monotonic()
        for pixels, labels in train:
            images += _step(network, pixels, labels, classification_loss, optimizer)
        stepping += time.monotonic() - before
        accuracy = _accuracy(network, valid)
        if accuracy > best:
            best, weights = accuracy, copy.deepcopy(network.state_dict())
        scheduler.step(number + 1, accuracy)
        print(f"epoch {number + 1} of {epochs}: validation accuracy {accuracy:.4f}", flush=True)
    network.load_state_dict(weights)
    return Outcome(network.eval(), best, epochs, time.monotonic() - began, images / stepping, size)


def predict_timm(network: nn.Module, images: ImageDataset, image_size: int | None = None) -> NDArray[np.int64]:
    """Give the most probable class of each image."""
    loader = loader_of(images, network, False, 0, image_size=image_size)
    return torch.cat(list(_predictions(network, loader))).numpy()


def _step(network: nn.Module, pixels: Tensor, labels: Tensor, classification_loss: nn.Module, optimizer: object) -> int:
    loss = classification_loss(network(pixels), labels)
    optimizer.zero_grad()  # type: ignore[attr-defined]
    loss.backward()
    optimizer.step()  # type: ignore[attr-defined]
    return len(labels)


def _seconds_a_step(
    network: nn.Module, batches: Iterator[tuple[Tensor, Tensor]], classification_loss: nn.Module, seconds: float
) -> float:
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    _step(network, *next(batches), classification_loss, optimizer)
    start, steps = time.monotonic(), 0
    for steps, (pixels, labels) in enumerate(batches, 1):
        _step(network, pixels, labels, classification_loss, optimizer)
        if steps == _TRIED or time.monotonic() - start > seconds:
            break
    return (time.monotonic() - start) / max(1, steps)


def _predictions(network: nn.Module, loader: Any) -> Iterator[Tensor]:
    network.eval()
    with torch.inference_mode():
        for pixels, _ in loader:
            yield network(pixels).argmax(dim=1)


def _accuracy(network: nn.Module, loader: Any) -> float:
    labels = torch.tensor(loader.dataset._images.labels)
    return float((torch.cat(list(_predictions(network, loader))) == labels).float().mean())
