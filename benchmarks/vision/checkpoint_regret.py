"""What it costs to choose a checkpoint by its score upstream rather than by adapting all of them.

Claim: the upstream choice is within 0.7 points of the other in 5 of 9 cells, at worst 2.6 below; the paper ("How to
train your ViT", section 4.5) finds 36 of 45 cells, at worst 3.6. Here: 8 small networks (a plain vision transformer and
one with a convolutional tokenizer, 4 AugReg levels each), trained on 20,000 images of CIFAR-10 for as many steps, and
adapted by the paper's protocol (SGD, clip, cosine, no decay, head from zero) to traffic signs, flowers and handwritten
symbols.
Hardware: one thread. Repeats: 8 trainings of about two minutes, 24 adaptations of less than one.

    python -m benchmarks.vision.checkpoint_regret pretrain --most 4    # the next four that are not there
    python -m benchmarks.vision.checkpoint_regret adapt --most 10
    python -m benchmarks.vision.checkpoint_regret table

Upstream score: accuracy on 5,000 held-out images of CIFAR-10. Downstream, a tenth or more of the training images (whole
tracks of traffic signs) chooses, and the test images evaluate. Weights lie in build/checkpoint_regret.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch

from benchmarks.command_line import make_parser
from benchmarks.data import IMAGES, ROOT
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from benchmarks.vision.image_sets import GROUPS, accuracy_of
from windvane import vision
from windvane.data.images import ImageSplits, read_images

WEIGHTS = ROOT / "build" / "checkpoint_regret"
SETS = ("traffic_signs", "flowers", "math_symbols")
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("vit_lite_7_8", {"embed_dim": 96, "depth": 4, "num_heads": 3}),
    "tokenizer": ("cct_2_3x2", {"convolutions": 3, "embed_dim": 96, "num_heads": 3}),
}
LEVELS = ("none", "light1", "light2", "medium2")
CHECKPOINTS = tuple(product(NETWORKS, LEVELS))
N_VALID, N_TRAIN, BATCH, STEPS = 5000, 20_000, 64, 2400
ADAPT_STEPS, ADAPT_BATCH, ADAPT_RATE = 500, 64, 0.03
UPSTREAM = "cifar10"  # the set of the rows of checkpoints, which have an upstream score
RESULTS = results_of(
    __file__,
    ("set", "network", "level"),
    {"train": N_TRAIN, "steps": STEPS, "batch": BATCH, "adapt_steps": ADAPT_STEPS, "adapt_batch": ADAPT_BATCH}
    | {"adapt_rate": ADAPT_RATE},
)


def plan() -> list[tuple[Any, ...]]:
    return [(name, *one) for name in (UPSTREAM, *SETS) for one in CHECKPOINTS]


@cache
def read(name: str) -> ImageSplits:
    """Read a set, with the validation images of this study."""
    if name != "cifar10":
        return read_images(IMAGES / f"{name}.parquet", groups=GROUPS.get(name))
    data = read_images(IMAGES / "cifar10.parquet", valid=0)
    order = np.random.default_rng(0).permutation(len(data.train))
    valid, train = data.train.take(order[:N_VALID]), data.train.take(order[N_VALID : N_VALID + N_TRAIN])
    return replace(data, train=train, valid=valid)


def pretrain(network: str, level: str) -> dict[str, Any]:
    """Train one checkpoint upstream; the state after the last step counts."""
    model, options = NETWORKS[network]
    recipe = vision.Recipe(
        model, options, image_size=32, steps=STEPS, batch_size=BATCH, crop="random_shift", augreg=level
    )
    data = read("cifar10")
    trained = vision.train(
        recipe, replace(data, valid=None), out=WEIGHTS / f"{network}-{level}", resume=True, quiet=True
    )
    upstream, test = accuracy_of(trained.model, data.valid), accuracy_of(trained.model, data.test)
    return {"seconds": trained.seconds, "upstream": upstream, "test": test}


def adapt(name: str, network: str, level: str) -> dict[str, Any]:
    """Adapt one checkpoint to one set."""
    weights = WEIGHTS / f"{network}-{level}"
    recipe = vision.finetune_recipe(str(weights), steps=ADAPT_STEPS)
    recipe = replace(
        recipe, batch_size=ADAPT_BATCH, learning_rate=ADAPT_RATE, crop="random_shift", horizontal_flip=name == "flowers"
    )
    data = read(name)
    trained = vision.train(recipe, data, quiet=True)
    valid = trained.best.valid_accuracy
    return {"seconds": trained.seconds, "valid": valid, "test": accuracy_of(trained.model, data.test)}


def measure(name: str, network: str, level: str) -> dict[str, Any]:
    """Train a checkpoint, or adapt it to another set."""
    found = pretrain(network, level) if name == UPSTREAM else adapt(name, network, level)
    return {"set": name, "network": network, "level": level, **found}


def table() -> None:
    """Print all accuracies, and for each set and group of checkpoints the regret of the upstream choice."""
    rows = RESULTS.frame()
    print(f"{N_TRAIN:,} images, {STEPS:,} steps of {BATCH}; adapted in {ADAPT_STEPS} steps of {ADAPT_BATCH}.\n")
    upstream: Any = rows[rows["set"] == UPSTREAM].set_index(["network", "level"])["upstream"]
    adapted = rows[rows["set"] != UPSTREAM].set_index(["network", "level", "set"])
    tests: Any
    valids: Any
    tests, valids = (adapted[part].unstack("set").dropna(axis=1) for part in ("test", "valid"))
    print_head(f"| network | level | upstream | {' | '.join(tests)} |")
    for (network, level), score in upstream.items():
        cells = " | ".join(f"{value:.1%}" for value in tests.loc[(network, level)])
        print(f"| {network} | {level} | {score:.1%} | {cells} |")
    print_head("\n| checkpoints | set | chosen upstream | chosen by adapting all | regret, points |")
    regrets = []
    for group in ("all", *NETWORKS):
        members = [key for key in upstream.index if group in ("all", key[0])]
        for name in tests:
            cheap, costly = upstream[members].idxmax(), valids.loc[members, name].idxmax()
            regret = 100 * (tests.loc[costly, name] - tests.loc[cheap, name])
            regrets.append(regret)
            print(f"| {group} | {name} | {' '.join(cheap)} | {' '.join(costly)} | {regret:+.1f} |")
    within = sum(abs(regret) <= 0.7 for regret in regrets)
    ends = f"worst {max(regrets):+.1f}, mean {np.mean(regrets):+.2f}"
    print(f"\nWithin 0.7 points in {within} of {len(regrets)} cells, {ends}.")
    ranks = {name: upstream.corr(tests[name], method="spearman") for name in tests}
    print("Rank correlation of upstream and test: " + ", ".join(f"{name} {value:.2f}" for name, value in ranks.items()))


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "pretrain", "adapt", "table")
    parser.add_argument("--most", type=int, help="so many of those that are not there")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    if given.command == "table":
        table()
        return
    runs = [(UPSTREAM, *one) for one in CHECKPOINTS]
    if given.command == "adapt":
        runs = [(name, *one) for name in SETS for one in CHECKPOINTS if RESULTS.find(UPSTREAM, *one) is not None]
    left = [run for run in runs if RESULTS.find(*run) is None]
    RESULTS.fill(left[: given.most], measure)


if __name__ == "__main__":
    main()
