"""CIFAR-10 from scratch in ten minutes on two cores: the advised AugReg level, none, and timm's training script.

Claim: with cct_2_3x2 69.8 % with what is advised (no AugReg for so few epochs), 53.1 % by timm's
script. Same network, same 45,000 training and 5,000 validation images, same time.
Hardware: 2 cores, no GPU, nothing else running. Repeats: a run for each choice and seed, ten minutes each.

    python -m benchmarks.vision.cifar_ten_minutes run --choices advised none timm --seeds 0 1 2
    python -m benchmarks.vision.cifar_ten_minutes table

A run that has a result is not repeated. timm's script is repeated by `timm_training.py`,
which says how; its loader has one worker process, as the network takes most of both cores. The validation images choose
the state that is kept; the accuracy in the table is that on the 10,000 test images, which chose nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd

from benchmarks.command_line import make_parser
from benchmarks.data import IMAGES
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from benchmarks.vision.image_sets import accuracy_of
from windvane import vision
from windvane.data.images import ImageSplits, read_images

RESULTS = results_of(__file__, ("model", "choice", "seed", "budget"))
MODEL, SECONDS, SEEDS = "cct_2_3x2", 600.0, (0,)
CHOICES = ("advised", "none", "timm")


def plan() -> list[tuple[Any, ...]]:
    return list(product((MODEL,), CHOICES, SEEDS, (SECONDS,)))


def recipe_of(model: str, choice: str, data: ImageSplits, seconds: float, seed: int) -> vision.Recipe:
    """Make the recipe with the advised level, or with none."""
    plain = vision.Recipe(model, image_size=32, time_budget=seconds, crop="random_shift", seed=seed)
    recipe, _ = vision.apply_advice(plain, data.train)
    return replace(recipe, augreg="none", dropout=0.0, drop_path=0.0) if choice == "none" else recipe


def train_windvane(model: str, choice: str, data: ImageSplits, seconds: float, seed: int) -> dict[str, Any]:
    """Train with the advised level, or with none."""
    recipe = recipe_of(model, choice, data, seconds, seed)
    trained = vision.train(recipe, data)
    speeds = pd.Series([one.images_per_second for one in trained.history])
    return {
        "augreg": recipe.augreg,
        "seconds": trained.seconds,
        "epochs": trained.history[-1].epoch,
        "images_per_second": float(speeds.median()),
        "valid_accuracy": trained.best.valid_accuracy,
        "test_accuracy": accuracy_of(trained.model, data.test),
    }


def train_other(model: str, data: ImageSplits, seconds: float, seed: int) -> dict[str, Any]:
    """Train as timm's script does."""
    from benchmarks.vision.timm_training import predict_timm, train_timm

    outcome = train_timm(model, data, seconds, seed)
    assert data.test is not None
    right = predict_timm(outcome.network, data.test) == data.test.labels
    return {
        "augreg": "timm's own",
        "seconds": outcome.seconds,
        "epochs": outcome.epochs,
        "images_per_second": outcome.images_per_second,
        "valid_accuracy": outcome.valid_accuracy,
        "test_accuracy": float(right.mean()),
    }


def run(model: str, choices: list[str], seeds: list[int], seconds: float) -> None:
    """Train what has no result yet."""
    data = read_images(IMAGES / "cifar10.parquet")
    for seed, choice in product(seeds, choices):
        if RESULTS.find(model, choice, seed, seconds) is not None:
            continue
        advised = RESULTS.find(model, "advised", seed, seconds)
        ours = [recipe_of(model, one, data, seconds, seed) for one in ("advised", "none")]
        if choice == "none" and ours[0] == ours[1] and advised is not None:  # advised is "none": the same run
            RESULTS.put({**advised, "choice": choice})
            continue
        found = (
            train_other(model, data, seconds, seed)
            if choice == "timm"
            else train_windvane(model, choice, data, seconds, seed)
        )
        RESULTS.put({"model": model, "choice": choice, "seed": seed, "budget": seconds, **found})
        print(choice, seed, found, flush=True)


def table() -> None:
    """Print means over seeds, and the extremes of the test accuracy."""
    rows = RESULTS.frame()
    print_head("| network | seconds | choice | AugReg | seeds | epochs | images/s | test accuracy | lowest | highest |")
    for (model, budget, choice), part in rows.groupby(["model", "budget", "choice"]):
        score = part["test_accuracy"]
        numbers = f"{part['epochs'].mean():.1f} | {part['images_per_second'].mean():.0f} | {score.mean():.2%}"
        ends = f"{score.min():.2%} | {score.max():.2%}"
        print(f"| {model} | {budget:g} | {choice} | {part['augreg'].iloc[0]} | {len(part)} | {numbers} | {ends} |")


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "table")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    given = parser.parse_args(words)
    table() if given.command == "table" else run(given.model, given.choices, given.seeds, given.seconds)


if __name__ == "__main__":
    main()
