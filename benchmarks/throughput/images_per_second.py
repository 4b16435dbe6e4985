"""Images a second of training, and of loading with augmentation alone, against timm's loader and training step.

Claim: none; the figures are in docs/findings/images.md. Hardware: 2 cores, no GPU, nothing else running. Repeats: 5
rounds of --seconds each, systems in turn; the median, with the extremes.

    python -m benchmarks.throughput.images_per_second run                   # CIFAR-10, 32 pixels, cct_2_3x2
    python -m benchmarks.throughput.images_per_second run --images trash --model vit_tiny_patch16_224 --batch 32
    python -m benchmarks.throughput.images_per_second table

Loading: batches ready to be trained on, from images that are encoded in memory. windvane decodes once, keeps the set as
one tensor and augments batches in the process that trains (level medium1, crops, Mixup; and level none); timm decodes
and augments image by image with the defaults of its training script, and with RandAugment of the same strength
(rand-m15-n2-mmax30), in 0, 1 and 2 worker processes. Training: the same with a step of the network (AdamW and SGD as in
windvane's recipe and timm's script); windvane in the precision that it takes by itself, timm in its default float32
and in bfloat16, with the number of workers that loads fastest of 0, 1 and 2.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import pandas as pd
import timm
import torch
from timm.data import resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

from benchmarks.command_line import make_parser
from benchmarks.data import IMAGES
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from benchmarks.vision.timm_training import loader_of
from windvane.data.images import ImageDataset, read_images
from windvane.vision.augment.batch import augment_batch
from windvane.vision.networks.create import create_model
from windvane.vision.networks.profiling import choose_precision
from windvane.vision.recipe import Recipe
from windvane.vision.training.device import find_device
from windvane.vision.training.loader import EpochSampler, make_loader
from windvane.vision.training.optimizer import classification_loss, make_optimizer

ROUNDS, WORKERS = 5, (0, 1, 2)
WAYS = {"defaults": None, "RandAugment": "rand-m15-n2-mmax30"}  # timm's augmentation
Batch = tuple[Tensor, Tensor]
Batches = Generator[Batch, None, None]
Make = Callable[[], Batches]
SET, MODEL = "cifar10", "cct_2_3x2"
RESULTS = results_of(__file__, ("images", "model", "what", "system"), {"rounds": ROUNDS})


def plan() -> list[tuple[Any, ...]]:
    """Return the measurements behind the page; which number of workers trains is known from loading."""
    ours = ["windvane, none", "windvane, medium1"]
    loading = [*ours, *(f"timm, {words}, {n} workers" for words in WAYS for n in WORKERS)]
    rows = {row["system"] for row in RESULTS.rows() if row["what"] == "training" and row["system"].startswith("timm")}
    measured = {"loading": loading, "training": [*ours, *sorted(rows)]}
    return [(SET, MODEL, what, system) for what, systems in measured.items() for system in systems]


def windvane_batches(recipe: Recipe, images: ImageDataset) -> Batches:
    """Yield batches as windvane's loop takes them, without end."""
    device = find_device("cpu", "float32")
    sampler, n_classes = EpochSampler(len(images), recipe.batch_size, recipe.seed), len(images.classes)
    batches = make_loader(images, recipe, device, for_training=True).train_batches(sampler, 0)
    for step, (pixels, labels) in enumerate(batches):
        yield augment_batch(pixels, labels, n_classes, recipe, device.seed(recipe.seed, step))


def timm_batches(recipe: Recipe, images: ImageDataset, augmentation: str | None, workers: int) -> Batches:
    """Yield batches of timm's loader, epoch after epoch."""
    model = timm.create_model(recipe.model)
    loader = loader_of(images, model, True, workers, batch_size=recipe.batch_size, augmentation=augmentation)
    for epoch in itertools.repeat(loader):
        yield from epoch


def windvane_steps(recipe: Recipe, images: ImageDataset) -> Batches:
    """Train a step on each batch, as windvane's loop does."""
    network = create_model(recipe, len(images.classes)).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(network, recipe)
    device = choose_precision(find_device("cpu", recipe.precision), network, recipe)
    for pixels, targets in windvane_batches(recipe, images):
        with device.autocast():
            logits = network(pixels)
        classification_loss(logits, targets, recipe).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield pixels, targets


def timm_steps(recipe: Recipe, images: ImageDataset, augmentation: str | None, workers: int, amp: bool) -> Batches:
    """Train a step on each batch, as timm's script does; with `amp` in bfloat16, which it does where asked."""
    network = timm.create_model(recipe.model, num_classes=len(images.classes)).train()
    optimizer = create_optimizer_v2(network, opt="sgd", lr=0.01, momentum=0.9, weight_decay=2e-5)
    loss = LabelSmoothingCrossEntropy(0.1)
    for pixels, labels in timm_batches(recipe, images, augmentation, workers):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            value = loss(network(pixels), labels)
        value.backward()
        optimizer.step()
        yield pixels, labels


def speed(batches: Iterable[Batch], seconds: float) -> float:
    """Take batches for so many seconds: images a second."""
    start, n = time.monotonic(), 0
    for pixels, _ in batches:
        n += len(pixels)
        if time.monotonic() - start > seconds:
            break
    return n / (time.monotonic() - start)


def compare(systems: dict[str, Make], seconds: float) -> dict[str, list[float]]:
    """Measure every system in turn, alone, after the batches that its workers made ahead."""
    found: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(ROUNDS):
        for name, make in systems.items():
            with closing(make()) as batches:
                for _ in range(2 * max(WORKERS) + 1):
                    next(batches)
                found[name].append(speed(batches, seconds))
    return found


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "table")
    parser.add_argument("--images", default=SET)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--most", type=int, default=5000, help="images of the set")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a round")
    given = parser.parse_args(words)
    run(given) if given.command == "run" else table()


def run(given: argparse.Namespace) -> None:
    """Measure loading, then training with the fastest loader."""
    size = int(resolve_data_config({}, model=timm.create_model(given.model))["input_size"][-1])
    images = read_images(IMAGES / f"{given.images}.parquet", valid=0).train
    images = images.take(range(min(given.most, len(images))))
    crop = "random_shift" if size <= 64 else "random_resized_crop"
    plain = Recipe(given.model, image_size=size, steps=1, batch_size=given.batch, crop=crop)
    strong = Recipe(given.model, image_size=size, steps=1, batch_size=given.batch, crop=crop, augreg="medium1")
    loading: dict[str, Make] = {
        "windvane, none": partial(windvane_batches, plain, images),
        "windvane, medium1": partial(windvane_batches, strong, images),
    }
    for words, augmentation in WAYS.items():
        for n in WORKERS:
            loading[f"timm, {words}, {n} workers"] = partial(timm_batches, plain, images, augmentation, n)
    found = {"loading": compare(loading, given.seconds)}
    fastest = {
        words: max(WORKERS, key=lambda n: statistics.median(found["loading"][f"timm, {words}, {n} workers"]))
        for words in WAYS
    }
    training: dict[str, Make] = {
        "windvane, none": partial(windvane_steps, plain, images),
        "windvane, medium1": partial(windvane_steps, strong, images),
    }
    for words, augmentation in WAYS.items():
        n = fastest[words]
        for amp in (False, True):
            name = f"timm, {words}, {'bfloat16, ' if amp else ''}{n} workers"
            training[name] = partial(timm_steps, plain, images, augmentation, n, amp)
    found["training"] = compare(training, given.seconds)
    facts = {key: value for key, value in vars(given).items() if key != "command"}
    facts |= {"size": size, "threads": torch.get_num_threads()}
    rows = [
        {**facts, "what": what, "system": system, "images_per_second": speeds}
        for what, one in found.items()
        for system, speeds in one.items()
    ]
    RESULTS.put(*rows)
    table()


def table() -> None:
    """Print medians and extremes over the rounds."""
    for (model, size, batch, threads), part in RESULTS.frame().groupby(["model", "size", "batch", "threads"]):
        print(f"{model}, {size} pixels, batches of {batch}, {threads} threads\n")
        print_head("| what | system | images/s | lowest | highest |")
        for row in part.to_dict("records"):
            speeds = pd.Series(row["images_per_second"])
            ends = f"{speeds.min():,.0f} | {speeds.max():,.0f}"
            print(f"| {row['what']} | {row['system']} | {speeds.median():,.0f} | {ends} |")


if __name__ == "__main__":
    main()
