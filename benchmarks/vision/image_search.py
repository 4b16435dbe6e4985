"""AutoImageClassifier in two minutes against frozen EfficientNet-Lite0 features with logistic regression.

Claim: none yet. These runs shared two cores with a dozen other programs; what a search reaches on a quiet machine is to
be measured. Hardware: 2 cores, no GPU; the load when a run began is in its row. Repeats: one seed.

    python -m benchmarks.vision.image_search run
    python -m benchmarks.vision.image_search table

Ways: "search" is `AutoImageClassifier` with its defaults and 120 s; "frozen" are features at 96 pixels of all training
images, standardized, and scikit-learn's logistic regression with C = 0.01, which takes as long as it takes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.data import IMAGES
from benchmarks.result_table import ResultTable
from windvane import AutoImageClassifier
from windvane.data.images.checks import decode_squares
from windvane.vision.transfer.frozen_features import USUAL_SIZE, FeatureExtractor, compute_views

SECONDS, SEED, WEIGHTS, STRENGTH = 120.0, 0, "efficientnet_lite0", 0.01
RESULTS = ResultTable(Path(__file__).with_name("image_search.jsonl"), ("set", "way", "budget", "seed"))
SETS = ("trash", "flowers", "magnetic_tiles", "clothing", "traffic_signs", "math_symbols", "brain_mri")
WAYS = ("search", "frozen")
DONE_SETS = ("trash", "flowers", "magnetic_tiles")
GROUPS = {
    "traffic_signs": lambda name: name.rsplit("_", 1)[0],  # frames of a track
    "magnetic_tiles": lambda name: name.partition("_num_")[2],  # a tile at several exposures
}


def plan() -> list[tuple[Any, ...]]:
    """Return the runs behind the page."""
    return list(product(DONE_SETS, WAYS, (SECONDS,), (SEED,)))


def search(name: str, train: pd.DataFrame, test: pd.DataFrame) -> dict[str, Any]:
    """Search with the defaults."""
    started = time.monotonic()
    model = AutoImageClassifier(SECONDS, random_state=SEED, verbose=0)
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
    with tempfile.TemporaryDirectory() as folder:
        extractor = FeatureExtractor((WEIGHTS,), Path(folder))
        features = []
        for part in (train, test):
            pixels = np.zeros((len(part), USUAL_SIZE, USUAL_SIZE, 3), dtype=np.uint8)
            decode_squares(list(part["image"]), pixels, np.arange(len(part)))
            features.append(compute_views(extractor, pixels)[0])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=300))
    model.fit(features[0], train["label"].astype(str))
    right = model.predict(features[1]) == test["label"].astype(str).to_numpy()
    return {"seconds": time.monotonic() - started, "right": right, "images": len(train)}


def run(sets: list[str]) -> None:
    """Train what has no result yet."""
    for name, way in product(sets, WAYS):
        if RESULTS.find(name, way, SECONDS, SEED) is not None:
            continue
        table = pd.read_parquet(IMAGES / f"{name}.parquet")
        train, test = table[table["split"] == "train"], table[table["split"] == "test"]
        load = os.getloadavg()[0]
        facts = search(name, train, test) if way == "search" else frozen(train, test)
        record = {"set": name, "way": way, "budget": SECONDS, "seed": SEED, "test": float(facts.pop("right").mean())}
        RESULTS.put({**record, **facts, "load": load})
        print({**record, **facts}, flush=True)


def table() -> None:
    """Print a row a set."""
    print("| set | search | seconds | frozen features | seconds | load |")
    print("|---|---|---|---|---|---|")
    for name in DONE_SETS:
        found, fixed = (RESULTS.find(name, way, SECONDS, SEED) for way in WAYS)
        assert found is not None and fixed is not None
        scores = f"{found['test']:.1%} | {found['seconds']:.0f} | {fixed['test']:.1%} | {fixed['seconds']:.0f}"
        print(f"| {name} | {scores} | {max(found['load'], fixed['load']):.0f} |")


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(DONE_SETS))
    given = parser.parse_args(words)
    table() if given.command == "table" else run(given.sets)


if __name__ == "__main__":
    main()
