"""CIFAR-10 from scratch in ten minutes on two cores: the advised AugReg level against none, on the same network.

Claim: none yet; this script is to decide. Hardware: 2 cores, no GPU. Repeats: a seed each.

    python benchmarks/train_small.py run --seeds 0 1 2
    python benchmarks/train_small.py table

The validation images choose the state that is kept; the accuracy in the table is that on the 10,000 test images.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

import windvane.nn as nn
from windvane.data.images import read_images

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT.parent / "shared" / "data" / "images" / "cifar10.parquet"
RESULTS = ROOT / "benchmarks" / "results" / "train_small"


def run(model: str, seconds: float, seeds: list[int]) -> None:
    """Train with both levels from each seed; what is there already is left."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    data = read_images(IMAGES)
    if data.test is None:
        raise SystemExit(f"{IMAGES} has no test images")
    for seed in seeds:
        plain = nn.Recipe(model, image_size=32, seconds=seconds, crop="shift", seed=seed)
        advised, advice = nn.advised(plain, data.train)
        for name, recipe in {"advised": advised, "none": replace(advised, augreg="none", regularisation=0.0)}.items():
            file = RESULTS / f"{model}_{name}_{seed}.json"
            if file.exists():
                continue
            trained = nn.train(recipe, data)
            right = nn.predict_proba(trained.model, data.test).argmax(axis=1) == data.test.labels
            record = {
                "model": model,
                "choice": name,
                "augreg": recipe.augreg,
                "seed": seed,
                "seconds": trained.seconds,
                "epochs": trained.history[-1].epoch,
                "valid_accuracy": trained.best.valid_accuracy,
                "test_accuracy": float(right.mean()),
                "reason": advice.reason,
            }
            file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def table() -> None:
    """Print the mean and the spread over seeds."""
    rows = pd.DataFrame([json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("*.json"))])
    groups = rows.groupby(["model", "choice", "augreg"])
    print(groups[["seconds", "epochs", "test_accuracy"]].mean().join(groups["test_accuracy"].std().rename("spread")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["run", "table"])
    parser.add_argument("--model", default="cct_2_3x2")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    table() if given.command == "table" else run(given.model, given.seconds, given.seeds)
