"""The study of "How to train your ViT" (arXiv 2106.10270) in miniature, on CIFAR-10.

Claim: with 5,000 images and 30 epochs no augmentation is the best of AugReg's levels, by 12 points, and regularisation
loses 2; with 300 epochs light augmentation gains. `windvane.vision.advice` was corrected by it.
Plans: "cpu" is one small vision transformer on 5,000 images, 7 levels x 2 regularisations x 2 seeds (28 runs), level
none on other numbers of images for as many steps (6 runs, for the worth of the augmentation), four levels again with
ten times the steps (4 runs, one seed), and three of them on a quarter of the images (3 runs). "gpu" is three sizes x 7
levels x 2 regularisations x 2 weight decays on 1, 3, 10, 30 and 100 % of the images, one seed (420 runs).
Hardware: "cpu" one thread, two to three minutes a run and ten times that for the last four; "gpu" one GPU. Repeats: two
seeds, and one.

    python -m benchmarks.vision.miniature list --plan cpu
    python -m benchmarks.vision.miniature run --plan cpu --only 0      # one run; what has a result is not repeated
    python -m benchmarks.vision.miniature run --plan cpu --most 5      # the next five that have none
    python -m benchmarks.vision.miniature table --plan cpu

Interrupted runs resume: the state lies in build/miniature, the results in miniature.jsonl.
Images come from the official training set; the 5,000 that validate are never trained on. The state after the last
step counts, as in the paper. The best level is chosen by the validation images; all accuracies in the report are those
on the 10,000 test images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.command_line import make_parser
from benchmarks.data import IMAGES, ROOT
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from benchmarks.vision.image_sets import accuracy_of
from windvane import vision
from windvane.data.images import ImageDataset, ImageSplits, read_images

STATES = ROOT / "build" / "miniature"
LEVELS = tuple(vision.AUGREG_LEVELS)
N_VALID = 5000
CPU_IMAGES, CPU_EPOCHS, CPU_BATCH = 5000, 30, 64
LONGER = 10  # times the steps, for these levels:
CPU_SLOWLY = ("none", "medium2", "light2", "light1")
GPU_BATCH, GPU_EPOCHS = 256, 100
CURVE = (1250, 2500, 10_000, 20_000)  # images of level none beside CPU_IMAGES, for as many steps
FRACTIONS = (0.01, 0.03, 0.1, 0.3, 1.0)
# name -> width, blocks, heads; patches of 8 pixels on the CPU and of 4 on a GPU
SIZES = {"micro": (96, 4, 3), "mini": (128, 6, 4), "lite": (256, 7, 4), "wide": (384, 9, 6)}


@dataclass(frozen=True)
class Case:
    """One run: network, images, schedule, augmentation, regularisation."""

    size: str
    patch: int
    n_images: int
    steps: int
    batch: int
    level: str
    regularisation: float
    weight_decay: float
    seed: int
    schedule: str = "long"

    @property
    def key(self) -> tuple[Any, ...]:
        """Return the key of its result."""
        return tuple(asdict(self).values())

    @property
    def name(self) -> str:
        """Return the name of its folder of checkpoints."""
        words = f"{self.size}{self.patch}-n{self.n_images}-s{self.steps}-{self.level}-r{self.regularisation:g}"
        return f"{words}-w{self.weight_decay:g}-seed{self.seed}"

    @property
    def recipe(self) -> vision.Recipe:
        """Give the recipe that it trains."""
        width, depth, heads = SIZES[self.size]
        return vision.Recipe(
            "vit_lite_7_8" if self.patch == 8 else "vit_lite_7_4",
            model_kwargs={"embed_dim": width, "depth": depth, "num_heads": heads},
            image_size=32,
            steps=self.steps,
            batch_size=self.batch,
            crop="random_shift",
            augreg=self.level,
            dropout=self.regularisation,
            drop_path=self.regularisation,
            weight_decay=self.weight_decay,
            seed=self.seed,
        )


RESULTS = results_of(__file__, tuple(one.name for one in fields(Case)), {"valid": N_VALID})


def plan_cpu() -> Iterator[Case]:
    """List the runs for a CPU, seed after seed, so that an early stop leaves a whole table of one seed."""
    steps = CPU_EPOCHS * (CPU_IMAGES // CPU_BATCH)
    for seed in (0, 1):
        for level in LEVELS:
            for regularisation in (0.0, 0.1):
                yield Case("micro", 8, CPU_IMAGES, steps, CPU_BATCH, level, regularisation, 0.1, seed)
        for n_images in CURVE[:3]:
            yield Case("micro", 8, n_images, steps, CPU_BATCH, "none", 0.0, 0.1, seed)
    for level in CPU_SLOWLY:
        yield Case("micro", 8, CPU_IMAGES, LONGER * steps, CPU_BATCH, level, 0.0, 0.1, 0, "longer")
    for level in CPU_SLOWLY[1:]:
        yield Case("micro", 8, CURVE[0], steps, CPU_BATCH, level, 0.0, 0.1, 0)


def plan_gpu() -> Iterator[Case]:
    """List the runs for a GPU, the small fractions first; these take the steps of the 10 % to see enough images."""
    for fraction in FRACTIONS:
        n_images = int(fraction * 45_000)
        steps = GPU_EPOCHS * max(n_images, 4_500) // GPU_BATCH
        for size in ("mini", "lite", "wide"):
            for level in LEVELS:
                for regularisation in (0.0, 0.1):
                    for weight_decay in (0.03, 0.1):
                        yield Case(size, 4, n_images, steps, GPU_BATCH, level, regularisation, weight_decay, 0)


PLANS = {"cpu": plan_cpu, "gpu": plan_gpu}


def plan() -> list[tuple[Any, ...]]:
    return [case.key for case in plan_cpu()]


def is_done(case: Case) -> bool:
    """Whether a run has a result."""
    return RESULTS.find(*case.key) is not None


@cache
def read() -> tuple[ImageDataset, ImageDataset, ImageDataset]:
    """Read CIFAR-10: images to draw from, validation images, test images."""
    data = read_images(IMAGES / "cifar10.parquet", valid=0)
    order = np.random.default_rng(0).permutation(len(data.train))
    assert data.test is not None
    return data.train.take(order[N_VALID:]), data.train.take(order[:N_VALID]), data.test


def measure(*key: Any) -> dict[str, Any]:
    """Train the network of a case; an interrupted training resumes."""
    case = Case(*key)
    pool, valid, test = read()
    train = pool.take(np.arange(case.n_images))
    data = ImageSplits(train, None, None, skipped=(), duplicates=())
    trained = vision.train(case.recipe, data, out=STATES / case.name, resume=True, quiet=True)
    last = trained.history[-1]
    return {
        **asdict(case),
        "epochs": last.epoch,
        "seconds": trained.seconds,
        "train_loss": last.train_loss,
        "valid_accuracy": accuracy_of(trained.model, valid),
        "test_accuracy": accuracy_of(trained.model, test),
    }


def table(which: str) -> None:
    """Print the report, as the paper does."""
    cases = {case.key for case in PLANS[which]()}
    rows = pd.DataFrame([row for row in RESULTS.rows() if RESULTS.key_of(row) in cases])
    if rows.empty:
        raise SystemExit(f"{RESULTS.path} has no run of this plan")
    print(f"{len(rows)} of {len(cases)} runs. Accuracy on the 10,000 test images in %, means over seeds and decays.\n")
    keys = ["size", "patch", "n_images", "steps"]
    for key, part in rows.groupby(keys):
        _grid(dict(zip(keys, key, strict=True)), part)
    _decays(rows)
    print("\nHow many times more data the best augmentation is worth: level none without regularisation, by images.\n")
    for key, part in rows[rows["schedule"] == "long"].groupby(["size", "patch"]):
        _worth(f"{key[0]}/{key[1]}", part)


def _grid(key: dict[str, Any], part: pd.DataFrame) -> None:
    """Print a row a regularisation and a column a level, the best by validation, and what regularisation gains."""
    if part["level"].nunique() < 2:
        return
    spread = part.groupby(["level", "regularisation", "weight_decay"])["test_accuracy"].std().mean()
    epochs, seeds = part["epochs"].mean(), part["seed"].nunique()
    noise = "" if math.isnan(spread) else f", spread between seeds {100 * spread:.1f}"
    print(f"{key['size']}/{key['patch']}, {key['n_images']:,} images, {epochs:.0f} epochs, {seeds} seeds{noise}\n")
    means = part.pivot_table(index="regularisation", columns="level", values="test_accuracy")
    means = means[[level for level in LEVELS if level in means]]
    print_head(f"| regularisation | {' | '.join(map(str, means))} |")
    for share, row in means.iterrows():
        print(f"| {share:g} | " + " | ".join(f"{100 * value:.1f}" for value in row) + " |")
    losses: Any = part[part["regularisation"] == 0.0].groupby("level")["train_loss"].mean()
    ends = ", ".join(f"{level} {losses[level]:.2f}" for level in means)
    print(f"\nTraining loss at the end, without regularisation: {ends}.")
    chosen = part.groupby(["level", "regularisation"])[["valid_accuracy", "test_accuracy"]].mean()
    found: Any = chosen["valid_accuracy"].idxmax()
    level, share = found
    case = Case(key["size"], key["patch"], key["n_images"], key["steps"], 1, "none", 0.0, 0.1, 0)
    n_params = vision.count_parameters(vision.create_model(case.recipe, 10))
    advice = vision.advise(key["n_images"], n_params, float(epochs))
    best = 100 * chosen["test_accuracy"][found]
    advised = chosen["test_accuracy"].get((advice.level, advice.dropout), math.nan)
    print(f"\nBest by validation: {level} with {share:g} ({best:.1f}). Advised: {advice.level} ({100 * advised:.1f}).")
    by_share: Any = means.max(axis=1)
    if len(by_share) == 2:
        beside = ", ".join(
            f"{level} {100 * (means[level].iloc[1] - means[level].iloc[0]):+.1f}" for level in means.columns
        )
        gain = 100 * (by_share[0.1] - by_share[0.0])
        print(f"Gain of regularisation: best with less best without {gain:+.1f}; by level {beside}.\n")


def _decays(rows: pd.DataFrame) -> None:
    if rows["weight_decay"].nunique() > 1:
        means = rows.groupby("weight_decay")["test_accuracy"].mean()
        print("\nWeight decay: " + ", ".join(f"{decay:g} {100 * score:.1f}" for decay, score in means.items()))


def _worth(name: str, part: pd.DataFrame) -> None:
    """Find where the curve of level none reaches the best level; linear in the logarithm of the images."""
    plain = part[(part["level"] == "none") & (part["regularisation"] == 0.0)]
    curve: Any = plain.groupby("n_images")["test_accuracy"].mean()
    print(f"{name}: " + ", ".join(f"{n:,} images {100 * score:.1f}" for n, score in curve.items()))
    n_images: Any
    group: Any
    for n_images, group in part.groupby("n_images"):
        if group["level"].nunique() < 2 or n_images not in curve.index:
            continue
        chosen = group.groupby(["level", "regularisation"])[["valid_accuracy", "test_accuracy"]].mean()
        best = float(chosen["test_accuracy"][chosen["valid_accuracy"].idxmax()])
        rising = curve.cummax()
        words = f"  {n_images:,} images with the best level ({100 * best:.1f}):"
        if best > rising.iloc[-1]:
            print(f"{words} more than {rising.index[-1]:,} without")
            continue
        reached = math.exp(float(np.interp(best, rising, np.log(rising.index))))
        print(f"{words} as {reached:,.0f} without, {reached / n_images:.1f} times as many")


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "list", "run", "table")
    parser.add_argument("--plan", choices=list(PLANS), default="cpu")
    parser.add_argument("--only", type=int, help="the number of a run")
    parser.add_argument("--most", type=int, help="so many of the runs that have no result yet")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(words)
    torch.set_num_threads(given.threads)
    cases = list(PLANS[given.plan]())
    if given.command == "table":
        table(given.plan)
    elif given.command == "list":
        for number, case in enumerate(cases):
            print(number, case.name, "done" if is_done(case) else "")
    else:
        left = [case for case in cases if not is_done(case)]
        chosen = left[: given.most] if given.only is None else [cases[given.only]]
        RESULTS.fill((case.key for case in chosen), measure)


if __name__ == "__main__":
    main()
