"""Transfer against training from scratch in the same time, on small image sets and two cores.

Claim: in five minutes transfer is 10 points better than scratch on flowers and on trash. Hardware: 2 cores, no GPU,
nothing else running. Repeats: a run for each set, way and seed, five minutes each.

    python -m benchmarks.vision.transfer_or_scratch run --sets flowers trash --seconds 300
    python -m benchmarks.vision.transfer_or_scratch table

Ways: "transfer" is `vision.finetune` with EfficientNet-Lite0, whose weights come in a package; "probe" the linear probe
alone at 224 pixels, which takes as long as it takes; "same" the same network from random weights, 128 pixels, and
"small" cct_2_3x2 at 32 pixels, both with what `vision.apply_advice` sets. Validation images select; test images
evaluate.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

from benchmarks.command_line import make_parser
from benchmarks.data import IMAGES
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from benchmarks.vision.image_sets import GROUPS, accuracy_of
from windvane import vision
from windvane.data.images import ImageSplits, read_images

SETS = ("flowers", "trash", "clothing", "traffic_signs", "magnetic_tiles", "math_symbols", "brain_mri")
WAYS = ("transfer", "probe", "same", "small")
DONE_SETS, DONE_WAYS, SECONDS, SEEDS = ("flowers", "trash"), ("transfer", "probe", "small"), 300.0, (0,)
WEIGHTS, NETWORK = "efficientnet_lite0", "tf_efficientnet_lite0"
SCRATCH_SIZE = 128  # pixels a side: several epochs in five minutes
SETTINGS = {"weights": WEIGHTS, "scratch_size": SCRATCH_SIZE}
RESULTS = results_of(__file__, ("set", "way", "budget", "seed"), SETTINGS)
MIRRORED = ("flowers", "trash", "clothing", "magnetic_tiles", "brain_mri")


def plan() -> list[tuple[Any, ...]]:
    return list(product(DONE_SETS, DONE_WAYS, (SECONDS,), SEEDS))


@cache
def read(name: str) -> ImageSplits:
    """Read a set; what belongs together stays together."""
    return read_images(IMAGES / f"{name}.parquet", groups=GROUPS.get(name))


def train(name: str, way: str, seconds: float, seed: int) -> tuple[vision.TrainedModel, dict[str, Any]]:
    """Train in one way."""
    data = read(name)
    if way == "probe":
        probed = vision.linear_probe(vision.finetune_recipe(WEIGHTS, seed=seed), data.train, data.valid)
        return probed.model, {"seconds": probed.seconds, "valid": probed.valid_accuracy}
    if way == "transfer":
        trained = vision.finetune_timed(vision.finetune_recipe(WEIGHTS, time_budget=seconds, seed=seed), data)
    else:
        model, size, crop = (
            ("cct_2_3x2", 32, "random_shift") if way == "small" else (NETWORK, SCRATCH_SIZE, "random_resized_crop")
        )
        flip = name in MIRRORED
        recipe = vision.Recipe(
            model, image_size=size, time_budget=seconds, batch_size=64, crop=crop, horizontal_flip=flip, seed=seed
        )
        trained = vision.train(vision.apply_advice(recipe, data.train)[0], data)
    first, recipe = trained.history[0], trained.model.recipe
    facts = {"seconds": trained.seconds, "valid": trained.best.valid_accuracy, "epochs": trained.history[-1].epoch}
    facts |= {"size": recipe.image_size, "frozen": recipe.freeze_fraction}
    more = {"probed": first.valid_accuracy} if first.step == 0 else {}
    return trained.model, {**facts, "augreg": recipe.augreg, "notes": trained.notes, **more}


def measure(name: str, way: str, seconds: float, seed: int) -> dict[str, Any]:
    """Train in one way, and evaluate on the test images."""
    model, facts = train(name, way, seconds, seed)
    score = accuracy_of(model, read(name).test)
    return {"set": name, "way": way, "budget": seconds, "seed": seed, "test": score, **facts}


def table() -> None:
    """Print a row a set and way."""
    rows = RESULTS.frame()
    print_head("| set | budget, s | way | seeds | pixels | epochs | seconds | validation | test |")
    for (name, budget, way), part in rows.groupby(["set", "budget", "way"]):
        mean = part[["seconds", "valid", "test"]].mean()
        size = "224" if way == "probe" else f"{part['size'].mean():.0f}"
        epochs = "" if way == "probe" else f"{part['epochs'].mean():.1f}"
        scores = f"{mean['valid']:.1%} | {mean['test']:.1%}"
        print(f"| {name} | {budget:g} | {way} | {len(part)} | {size} | {epochs} | {mean['seconds']:.0f} | {scores} |")


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "table")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(DONE_SETS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(DONE_WAYS))
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    given = parser.parse_args(words)
    if given.command == "table":
        table()
    else:
        runs = product(given.sets, given.seeds, given.ways)
        RESULTS.fill(((name, way, given.seconds, seed) for name, seed, way in runs), measure)


if __name__ == "__main__":
    main()
