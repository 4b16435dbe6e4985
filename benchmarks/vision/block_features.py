"""What logistic regression gains from what all blocks of a frozen network see, in place of its last features.

Claim: mean and spread of every channel in every block, as 512 principal components, beat the last features on most
sets. Hardware: any CPU; no time is measured. Repeats: three draws of 1,000 training and 500 test images.

    python -m benchmarks.vision.block_features run
    python -m benchmarks.vision.block_features table

EfficientNet-Lite0 sees the images at 96 pixels. Three ways: "last" are the features before the classifier layer, "all"
the several thousand numbers of `windvane.vision.networks.block_features`, "projected" their projection, as searches
over images use it. All are standardized; C is the best of four by three folds of the training images.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.command_line import make_main
from benchmarks.data import IMAGES
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from benchmarks.vision.image_search import SETS
from windvane.data.images.checks import decode_squares
from windvane.vision.augment.batch import normalize
from windvane.vision.networks.block_features import Projection, block_features, watch_blocks
from windvane.vision.transfer.frozen_features import load_frozen_network

WEIGHTS, SIZE, N_TRAIN, N_TEST, DRAWS = "efficientnet_lite0", 96, 1000, 500, (0, 1, 2)
STRENGTHS, BATCH = (0.003, 0.01, 0.03, 0.1), 32
WAYS = ("last", "all", "projected")
SETTINGS = {"weights": WEIGHTS, "size": SIZE, "train": N_TRAIN, "test": N_TEST, "strengths": list(STRENGTHS)}
RESULTS = results_of(__file__, ("set", "draw"), SETTINGS)


def plan() -> list[tuple[str, int]]:
    return list(product(SETS, DRAWS))


def features_of(images: Sequence[Any]) -> tuple[NDArray[np.float32], int]:  # (n, p)
    """Return what the blocks see, and how many of the columns, the first, are the last features."""
    model = load_frozen_network(WEIGHTS)
    network: Any = model.network
    watch_blocks(network)
    pixels = np.zeros((len(images), SIZE, SIZE, 3), dtype=np.uint8)
    decode_squares(images, pixels, np.arange(len(images)))
    batches = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().split(BATCH)
    with torch.inference_mode():
        seen = [block_features(network, normalize(batch, model.recipe)) for batch in batches]
    return torch.cat(seen).numpy(), int(network.head_hidden_size)


def measure(name: str, draw: int) -> dict[str, Any]:
    """Fit on a draw of the training images, and evaluate on one of the test images."""
    table = pd.read_parquet(IMAGES / f"{name}.parquet")
    parts = [table[table["split"] == split] for split in ("train", "test")]
    train, test = (
        part.sample(min(n, len(part)), random_state=draw) for part, n in zip(parts, (N_TRAIN, N_TEST), strict=True)
    )
    test = test[test["label"].isin(train["label"].value_counts().loc[lambda n: n >= 5].index)]
    train = train[train.groupby("label")["label"].transform("size") >= 5]
    seen, width = features_of([*train["image"], *test["image"]])
    before, after = np.split(seen, [len(train)])
    projection = Projection.fit(before)
    ways = {
        "last": (before[:, :width], after[:, :width]),
        "all": (before, after),
        "projected": (projection(before), projection(after)),
    }
    record: dict[str, Any] = {"set": name, "draw": draw, "n_train": len(train), "n_test": len(test)}
    for way, (x, unseen) in ways.items():
        model = make_pipeline(
            StandardScaler(),
            LogisticRegressionCV(
                Cs=list(STRENGTHS),
                cv=3,
                scoring="neg_log_loss",
                max_iter=300,
                l1_ratios=(0,),
                use_legacy_attributes=False,
            ),
        )
        model.fit(x, train["label"].astype(str))
        probabilities = model.predict_proba(unseen)
        found = model.classes_[probabilities.argmax(axis=1)]
        record |= {
            f"{way}.accuracy": float((found == test["label"].astype(str)).mean()),
            f"{way}.log_loss": float(log_loss(test["label"].astype(str), probabilities, labels=model.classes_)),
            f"{way}.columns": x.shape[1],
        }
    return record


def table() -> None:
    """Print a row a set: means over the draws."""
    print_head(f"| set | {' | '.join(f'{way}: accuracy, log loss' for way in WAYS)} | projected ahead in log loss |")
    for name in SETS:
        rows = [row for draw in DRAWS if (row := RESULTS.find(name, draw)) is not None]
        means = [
            f"{np.mean([row[f'{way}.accuracy'] for row in rows]):.1%}, "
            f"{np.mean([row[f'{way}.log_loss'] for row in rows]):.3f}"
            for way in WAYS
        ]
        ahead = sum(row["projected.log_loss"] < row["last.log_loss"] for row in rows)
        print(f"| {name} | {' | '.join(means)} | {ahead} of {len(rows)} |")


main = make_main(__doc__, {"run": lambda: RESULTS.fill(plan(), measure), "table": table})

if __name__ == "__main__":
    main()
