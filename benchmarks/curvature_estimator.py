"""Bias and spread of the estimate of the Fisher trace, against the exact trace.

Claim: n times the squared norm of the mean gradient with sampled labels is unbiased for every kind of network, also
with the statistics of a batch; one draw is within a factor of two, and the spread falls with the root of the draws.
Hardware: any; about a minute with one thread. Repeats: so many estimates for each number of draws.

    python benchmarks/curvature_estimator.py
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable

import torch
from curvature_nets import RESULTS, norm_cnn, vit
from torch import nn
from torch.nn import functional

from windvane.curvature import FisherTracker, exact_fisher_trace

DRAWS = (1, 4, 16)


def mlp() -> nn.Module:
    """Make a network of two layers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 10))


NETS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "MLP": (mlp, True),
    "CNN with batch norm, training": (lambda: norm_cnn(8), True),
    "CNN with batch norm, evaluation": (lambda: norm_cnn(8), False),
    "transformer": (lambda: vit(24, 2, size=8, patch=2), True),
}


def measure(name: str, n: int, repeats: int) -> dict[str, float]:
    """Train for a moment, then compare on one batch."""
    maker, training = NETS[name]
    torch.manual_seed(0)
    model = maker()
    x, y = torch.randn(n, 3, 8, 8), torch.randint(10, (n,))
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    for _ in range(20):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.train(training)
    exact = exact_fisher_trace(model, model(x)).trace
    found: dict[str, float] = {"exact": exact}
    for draws in DRAWS:
        tracker = FisherTracker(model, every=1, draws=draws, per_layer=False, random_state=draws)
        for i in range(repeats):
            tracker.update(model(x), i)
        ratios = torch.tensor([record.trace / exact for record in tracker.records_])
        found[f"bias {draws}"] = ratios.mean().item() - 1
        found[f"error of bias {draws}"] = ratios.std().item() / math.sqrt(repeats)
        found[f"spread {draws}"] = ratios.std().item()
    return found


def main() -> None:
    """Measure, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    print("| network | exact Tr(F) | " + " | ".join(f"{d} draw(s): bias, spread" for d in DRAWS) + " |")
    print("|---" * (2 + len(DRAWS)) + "|")
    for name in NETS:
        one = results[name] = measure(name, arguments.examples, arguments.repeats)
        cells = [
            f"{100 * one[f'bias {d}']:+.1f} ± {100 * one[f'error of bias {d}']:.1f} %, {100 * one[f'spread {d}']:.0f} %"
            for d in DRAWS
        ]
        print(f"| {name} | {one['exact']:.4g} | " + " | ".join(cells) + " |", flush=True)
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "estimator.json").write_text(json.dumps({"settings": vars(arguments), "nets": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
