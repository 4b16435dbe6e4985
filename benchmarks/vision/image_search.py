"""AutoImageClassifier against frozen features, timm's fine-tuning and a ResNet-18 from scratch, in the same time.

Claim: the search is ahead of the others on every set. Hardware: 2 cores, no GPU; the load when a run began is in
its row. Repeats: by `--seeds`.

    python -m benchmarks.vision.image_search run --sets all --budgets 60 300 600 --seeds 0 1 2
    python -m benchmarks.vision.image_search compare --budgets 60 300 600 --seeds 0 1 2
    python -m benchmarks.vision.image_search table

Ways: "search" is `AutoImageClassifier` with its defaults; "frozen" are EfficientNet-Lite0 features at 96 pixels of all
training images, standardized, and scikit-learn's logistic regression with C = 0.01, which takes as long as it takes and
is run once for all budgets and seeds; "timm" fine-tunes EfficientNet-Lite0 as timm's script does at its defaults
(`timm_training`), and "resnet18" trains one from scratch in that way; both hold out a tenth of the training images, and
take the largest of `TIMM_SIZES` at which five epochs fit: at timm's 224 pixels five minutes are often less than one. A
run that has a row is not repeated, so that an interrupted comparison continues. Seven sets, three budgets and three
seeds take 7 x 3 x 3 ways x (60 + 300 + 600) s, 17 hours, and half an hour for the frozen features; 300 s alone takes
five and a half hours.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from benchmarks.command_line import make_parser
from benchmarks.data import IMAGES
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from benchmarks.vision.image_sets import GROUPS
from windvane import AutoImageClassifier
from windvane.data.images.checks import decode_squares
from windvane.torch_utils import map_batches
from windvane.vision.augment.batch import normalize
from windvane.vision.networks.block_features import pre_logits
from windvane.vision.networks.folding import fold_batch_norm
from windvane.vision.transfer.frozen_features import MAX_BATCH, USUAL_SIZE, load_frozen_network

SEED, WEIGHTS, STRENGTH = 0, "efficientnet_lite0", 0.01
SETTINGS = {"weights": WEIGHTS, "strength": STRENGTH}
RESULTS = results_of(__file__, ("set", "way", "budget", "seed"), SETTINGS)
SETS = ("trash", "flowers", "magnetic_tiles", "clothing", "traffic_signs", "math_symbols", "brain_mri")
WAYS = ("search", "frozen", "timm", "resnet18")
DONE = (  # ways and seconds, one seed
    *(("frozen", 120.0), ("search", 60.0), ("search", 120.0), ("search", 300.0)),
    *(("timm", 60.0), ("timm", 300.0), ("resnet18", 300.0)),
)
TIMM_SIZES = (64, 96, 128, 160, 224)  # of images
HELD_OUT = 0.1  # of the training images, by which timm's ways choose the epoch


def plan() -> list[tuple[Any, ...]]:
    return [(name, way, seconds, SEED) for name in SETS for way, seconds in DONE]


def search(name: str, train: pd.DataFrame, test: pd.DataFrame, seconds: float, seed: int) -> dict[str, Any]:
    """Search with the defaults."""
    budget = seconds
    started = time.monotonic()
    model = AutoImageClassifier(budget, random_state=seed, verbose=0)
    model.fit(train[["image", "label", "name"]], groups=GROUPS.get(name))
    seconds = time.monotonic() - started
    predictor = model.predictor_
    assert predictor.images is not None
    return {
        "seconds": seconds,
        "right": model.predict(test[["image"]]).astype(str) == test["label"].astype(str).to_numpy(),
        "views": [f"{view.weights} {view.size}" for view in predictor.images.views],
        "members": [f"{member.family} {member.weight:.2f}" for member in predictor.ensemble.members],
        "images": predictor.task.n_rows,
    }


def frozen(train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Any]:
    """Train logistic regression on the features of all training images."""
    started = time.monotonic()
    trained = load_frozen_network(WEIGHTS)
    network = fold_batch_norm(trained.network)

    def see(batch: Tensor) -> Tensor:
        with torch.inference_mode():
            return pre_logits(network, normalize(batch.permute(0, 3, 1, 2).float(), trained.recipe))

    features = []
    for part in (train, test):
        pixels = np.zeros((len(part), USUAL_SIZE, USUAL_SIZE, 3), dtype=np.uint8)
        decode_squares(list(part["image"]), pixels, np.arange(len(part)))
        batches = torch.from_numpy(pixels).split(MAX_BATCH)
        features.append(torch.cat(list(map_batches(see, batches, torch.device("cpu")))).numpy())
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=300))
    model.fit(features[0], train["label"].astype(str))
    right = model.predict(features[1]) == test["label"].astype(str).to_numpy()
    return {"seconds": time.monotonic() - started, "right": right, "images": len(train)}


def by_timm(way: str, name: str, train: pd.DataFrame, test: pd.DataFrame, seconds: float, seed: int) -> dict[str, Any]:
    """Train as timm's script does: EfficientNet-Lite0 from its weights, or ResNet-18 from random ones."""
    from benchmarks.vision.timm_training import predict_timm, train_timm
    from windvane.data.images import ImageDataset, ImageSplits
    from windvane.vision.networks.weights import load_pretrained_model
    from windvane.vision.transfer.frozen_features import pretrained_recipe

    started = time.monotonic()
    labels = train["label"].astype(str).to_numpy()
    classes, codes = np.unique(labels, return_inverse=True)
    items, names = train["image"].tolist(), train["name"].astype(str).to_numpy()
    find_group = GROUPS.get(name)
    groups = np.arange(len(names)) if find_group is None else np.array([find_group(one) for one in names])
    order = np.random.default_rng(seed).permutation(np.unique(groups))
    held = np.isin(groups, order[: max(1, round(HELD_OUT * len(order)))])

    def dataset(rows: Any) -> ImageDataset:
        return ImageDataset(tuple(items[i] for i in rows), codes[rows], tuple(classes), tuple(names[rows]))

    data = ImageSplits(dataset(np.flatnonzero(~held)), dataset(np.flatnonzero(held)), None, (), ())
    start = None
    if way == "timm":
        start = load_pretrained_model(pretrained_recipe(WEIGHTS), len(classes))
    left = seconds - (time.monotonic() - started)
    found = train_timm("resnet18", data, left, seed, start=start, sizes=TIMM_SIZES)
    spent = time.monotonic() - started
    known = dict(zip(classes.tolist(), range(len(classes)), strict=True))
    truth = test["label"].astype(str).map(known).fillna(-1).to_numpy()
    tested = ImageDataset(tuple(test["image"]), None, tuple(classes), tuple(test["name"].astype(str)))
    right = predict_timm(found.network, tested, found.image_size) == truth
    return {"seconds": spent, "right": right, "images": len(train), "epochs": found.epochs, "size": found.image_size}


def key_of(name: str, way: str, budget: float, seed: int) -> tuple[Any, ...]:
    """Return the key of a run; frozen features know neither budget nor seed."""
    return (name, *DONE[0], SEED) if way == "frozen" else (name, way, budget, seed)


def measure(name: str, way: str, budget: float, seed: int) -> dict[str, Any]:
    """Train in one way, and evaluate on the test images."""
    table = pd.read_parquet(IMAGES / f"{name}.parquet")
    train, test = table[table["split"] == "train"], table[table["split"] == "test"]
    load = os.getloadavg()[0]
    if way == "search":
        facts = search(name, train, test, budget, seed)
    elif way == "frozen":
        facts = frozen(train, test)
    else:
        facts = by_timm(way, name, train, test, budget, seed)
    record = {"set": name, "way": way, "budget": budget, "seed": seed, "test": float(facts.pop("right").mean())}
    return {**record, **facts, "load": load}


def compare(sets: Sequence[str], budgets: Sequence[float], seeds: Sequence[int]) -> None:
    """Print mean test accuracy of each way, for each budget and set, and the longest time of the search."""
    print_head(f"| seconds | set | {' | '.join(WAYS)} | search took at most |")
    for budget, name in product(budgets, sets):
        cells, longest = [], float("nan")
        for way in WAYS:
            rows = [RESULTS.find(*key_of(name, way, budget, seed)) for seed in seeds]
            known = [row for row in rows if row is not None]
            cells.append(f"{np.mean([row['test'] for row in known]):.1%}" if known else "-")
            if way == "search" and known:
                longest = max(row["seconds"] for row in known)
        print(f"| {budget:.0f} | {name} | {' | '.join(cells)} | {longest:.0f} |")


def table() -> None:
    """Print the accuracy on each set, and how long the searches took."""
    columns = [f"{way}, {seconds:.0f} s" if way != "frozen" else "frozen features" for way, seconds in DONE]
    print_head(f"| set | training images | {' | '.join(columns)} |")
    scores = []
    for name in SETS:
        rows = [row for way, seconds in DONE if (row := RESULTS.find(name, way, seconds, SEED)) is not None]
        assert len(rows) == len(DONE), f"{name} has {len(rows)} of {len(DONE)} results"
        scores.append([row["test"] for row in rows])
        print(f"| {name} | {rows[0]['images']:,} | {' | '.join(f'{score:.1%}' for score in scores[-1])} |")
    print(f"| mean | | {' | '.join(f'{score:.1%}' for score in np.mean(scores, axis=0))} |")
    print()
    budgets = [seconds for way, seconds in DONE if way == "search"]
    print_head(
        f"| set | {' | '.join(f'search, {seconds:.0f} s: took' for seconds in budgets)} | timm, 300 s: epochs, pixels |"
    )
    for name in SETS:
        found = [RESULTS.find(name, "search", seconds, SEED) for seconds in budgets]
        timm = RESULTS.find(name, "timm", 300.0, SEED)
        assert timm is not None
        cells = " | ".join(f"{row['seconds']:.1f} s" for row in found if row is not None)
        print(f"| {name} | {cells} | {timm['epochs']}, {timm['size']} |")


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "table", "compare")
    parser.add_argument("--sets", nargs="+", choices=[*SETS, "all"], default=list(SETS))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--budgets", nargs="+", type=float, default=[300.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[SEED])
    given = parser.parse_args(words)
    sets = SETS if "all" in given.sets else given.sets
    if given.command == "run":
        runs = product(given.seeds, given.budgets, sets, given.ways)
        RESULTS.fill((key_of(name, way, budget, seed) for seed, budget, name, way in runs), measure)
    elif given.command == "compare":
        compare(sets, given.budgets, given.seeds)
    else:
        table()


if __name__ == "__main__":
    main()
