"""Images a CPU second of RandAugment alone, side by side with timm's and torchvision's, and a sheet to look at.

Claim: on one core windvane augments batches of 32-pixel images at least 5 times as fast as timm's RandAugment does on
    PIL images and as torchvision's does on tensors, at the same layers and magnitude; at 224 pixels about as fast as
    timm's, in batches.
What is timed: uint8 batch to uint8 batch for windvane, image by image for the others (PIL to PIL, tensor to tensor), as
    neither has separate operations for each image of a batch; decoding, crops and Mixup are left out. timm is asked
    for the same magnitudes, nearest interpolation and no chance of sparing an image; for 3 instead of 0, where it asks
    for 0 bits, which Pillow 13 refuses. torchvision's scale ends at 30.
Hardware: one thread of a 2-core machine, no GPU. Repeats: 7 rounds, systems in turn; the median, with the extremes.

    python -m benchmarks.throughput.augmentation speed
    python -m benchmarks.throughput.augmentation table
    python -m benchmarks.throughput.augmentation sheet --out sheet.png --images ../shared/data/images/cifar10.parquet
    python -m benchmarks.throughput.augmentation sheet --out docs/how/augreg.png    # from a photo
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images
from torch import Tensor

from benchmarks.command_line import make_parser
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from windvane.vision.augment.augreg import AUGREG_LEVELS
from windvane.vision.augment.randaugment import rand_augment

BATCHES = {32: 512, 224: 64}  # images of so many pixels a side
ROUNDS = 7
COLUMNS, CELL = 16, 48  # of the sheet, in pixels
SYSTEMS = ("windvane, batch", "windvane, one by one", "timm", "torchvision")
RESULTS = results_of(__file__, ("pixels", "level", "system"), {"rounds": ROUNDS})


def plan() -> list[tuple[Any, ...]]:
    levels = [name for name, level in AUGREG_LEVELS.items() if level.num_ops]
    return [(size, level, system) for size in BATCHES for level in levels for system in SYSTEMS]


def photos(n: int, size: int) -> Tensor:
    """Cut squares out of the photos that scikit-learn ships; uint8, shape (n, 3, size, size)."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(picture) for picture in load_sample_images().images]
    cuts = []
    for number in range(n):
        picture, side = pictures[number % len(pictures)], int(rng.integers(200, 420))
        left, top = rng.integers(0, picture.width - side + 1), rng.integers(0, picture.height - side + 1)
        box = (int(left), int(top), int(left) + side, int(top) + side)
        cuts.append(np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=box)))
    return torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2).contiguous()


def systems(name: str, images: Tensor) -> dict[str, Callable[[], object]]:
    """Return what each system does with a batch at a level."""
    from timm.data.auto_augment import rand_augment_transform
    from torchvision.transforms import v2

    level, generator = AUGREG_LEVELS[name], torch.Generator().manual_seed(0)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    settings = {"translate_const": 100, "img_mean": (128,) * 3, "interpolation": Image.Resampling.NEAREST}
    timm = rand_augment_transform(f"rand-m{max(3, int(level.magnitude))}-n{level.num_ops}-mmax30-p1.0", settings)
    torchvision = v2.RandAugment(level.num_ops, int(level.magnitude), fill=128)
    runs: tuple[Callable[[], object], ...] = (
        lambda: rand_augment(images, level, generator),
        lambda: [rand_augment(image[None], level, generator) for image in images],
        lambda: [timm(picture) for picture in pictures],
        lambda: [torchvision(image) for image in images],
    )
    return dict(zip(SYSTEMS, runs, strict=True))


def speeds(name: str, size: int) -> dict[str, list[float]]:
    """Measure images a CPU second of every system, in turn."""
    images = photos(BATCHES[size], size)
    tried = systems(name, images)
    found: dict[str, list[float]] = {system: [] for system in tried}
    for run in tried.values():
        run()
    for _ in range(ROUNDS):
        for system, run in tried.items():
            start = time.process_time()
            run()
            found[system].append(len(images) / (time.process_time() - start))
    return found


def speed() -> None:
    """Measure all levels again."""
    torch.set_num_threads(1)
    for size in BATCHES:
        for level in [name for name, level in AUGREG_LEVELS.items() if level.num_ops]:
            for system, found in speeds(level, size).items():
                ends = {"median": statistics.median(found), "lowest": min(found), "highest": max(found)}
                RESULTS.put({"pixels": size, "level": level, "system": system, **ends})
                print(size, level, system, ends, flush=True)


def table() -> None:
    """Print images per CPU second, and the medians over the levels."""
    rows = {RESULTS.key_of(row): row for row in RESULTS.rows()}
    medians: dict[int, list[list[float]]] = {size: [] for size in BATCHES}
    print(f"Images a CPU second of one thread, median (extremes) of {ROUNDS} rounds.\n")
    print_head(f"| level | pixels | {' | '.join(SYSTEMS)} | / timm | / torchvision |")
    for size, level in dict.fromkeys((size, level) for size, level, _ in plan()):
        found = [rows[size, level, system] for system in SYSTEMS]
        medians[size].append([one["median"] for one in found])
        ours, _, timm, torchvision = medians[size][-1]
        cells = [f"{one['median']:,.0f} ({one['lowest']:,.0f}-{one['highest']:,.0f})" for one in found]
        ratios = f"{ours / timm:.1f} | {ours / torchvision:.1f}"
        print(f"| {level} | {BATCHES[size]} x {size} | {' | '.join(cells)} | {ratios} |")
    print_head(f"\n| median over levels | {' | '.join(SYSTEMS)} |")
    for size, each in medians.items():
        print(f"| {size} pixels | {' | '.join(f'{statistics.median(one):,.0f}' for one in zip(*each, strict=True))} |")


def read(path: Path, n: int, size: int) -> Tensor:
    """Read the first images of a Parquet file; uint8, shape (n, 3, size, size)."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=["image"]).slice(0, n)["image"].to_pylist()
    pictures = [Image.open(io.BytesIO(row)).convert("RGB").resize((size, size)) for row in rows]
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).contiguous()


def sheet(out: Path, source: Path | None, size: int) -> None:
    """Draw a row of augmented images for each level; without a source one photo over and over."""
    photo = load_sample_images().images[0][:, 100:527]  # (427, 427, 3)
    one = torch.from_numpy(np.array(Image.fromarray(photo).resize((size, size)))).permute(2, 0, 1)
    images = read(source, COLUMNS, size) if source else one.expand(COLUMNS, -1, -1, -1)
    page = Image.new("RGB", (64 + COLUMNS * CELL, len(AUGREG_LEVELS) * CELL), "white")
    draw = ImageDraw.Draw(page)
    for row, (name, level) in enumerate(AUGREG_LEVELS.items()):
        draw.text((4, row * CELL + CELL // 2 - 6), name, fill="black")
        for column, image in enumerate(rand_augment(images, level, torch.Generator().manual_seed(1))):
            filtering = Image.Resampling.NEAREST if size < CELL else Image.Resampling.BOX
            cell = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((CELL - 2, CELL - 2), filtering)
            page.paste(cell, (64 + column * CELL, row * CELL))
    page.save(out, optimize=True)


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("speed")
    commands.add_parser("table")
    command = commands.add_parser("sheet")
    command.add_argument("--out", type=Path, required=True)
    command.add_argument("--images", type=Path)
    command.add_argument("--size", type=int, default=224, help="pixels, at which images are augmented")
    given = parser.parse_args(words)
    if given.command == "speed":
        speed()
    elif given.command == "table":
        table()
    else:
        sheet(given.out, given.images, given.size)


if __name__ == "__main__":
    main()
