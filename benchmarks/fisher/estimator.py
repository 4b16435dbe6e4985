"""Bias and spread of the estimate of the Fisher trace, against the exact trace.

Claim: n times the squared norm of the mean gradient with sampled labels is unbiased for every kind of network, also
with the statistics of a batch; one draw is within a factor of two, and the spread falls with the root of the draws.
Hardware: any; about a minute with one thread. Repeats: so many estimates for each number of draws.

    python -m benchmarks.fisher.estimator run
    python -m benchmarks.fisher.estimator table
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from benchmarks.command_line import make_main
from benchmarks.fisher.nets import norm_cnn, vit
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from windvane.curvature import FisherTracker, exact_fisher_trace

DRAWS = (1, 4, 16)
EXAMPLES, REPEATS = 32, 200
RESULTS = results_of(__file__, ("net", "draws"), {"examples": EXAMPLES, "repeats": REPEATS})


def mlp() -> nn.Module:
    """Make a network of two layers."""
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 10))


NETS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "MLP": (mlp, True),
    "CNN with batch norm, training": (lambda: norm_cnn(8), True),
    "CNN with batch norm, evaluation": (lambda: norm_cnn(8), False),
    "transformer": (lambda: vit(24, 2, size=8, patch=2), True),
}


def plan() -> list[tuple[Any, ...]]:
    return list(product(NETS, DRAWS))


def measure(name: str) -> list[dict[str, Any]]:
    """Train for a moment, then compare on one batch: a row for each number of draws."""
    maker, training = NETS[name]
    torch.manual_seed(0)
    model = maker()
    x, y = torch.randn(EXAMPLES, 3, 8, 8), torch.randint(10, (EXAMPLES,))
    optimizer = torch.optim.SGD(model.parameters(), 0.02)
    for _ in range(20):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.train(training)
    exact = exact_fisher_trace(model, model(x)).trace
    rows = []
    for draws in DRAWS:
        tracker = FisherTracker(model, every=1, draws=draws, per_layer=False, random_state=draws)
        for step in range(REPEATS):
            tracker.update(model(x), step)
        ratios = torch.tensor([record.trace / exact for record in tracker.records_])
        spread = ratios.std().item()
        row = {"net": name, "draws": draws, "exact": exact, "bias": ratios.mean().item() - 1}
        rows.append({**row, "error_of_bias": spread / math.sqrt(REPEATS), "spread": spread})
    return rows


def table() -> None:
    """Print bias and spread."""
    rows = {RESULTS.key_of(row): row for row in RESULTS.rows()}
    print_head("| network | exact Tr(F) | " + " | ".join(f"{d} draw(s): bias, spread" for d in DRAWS) + " |")
    for name in NETS:
        found = [rows[name, draws] for draws in DRAWS]
        cells = [
            f"{100 * one['bias']:+.1f} ± {100 * one['error_of_bias']:.1f} %, {100 * one['spread']:.0f} %"
            for one in found
        ]
        print(f"| {name} | {found[0]['exact']:.4g} | " + " | ".join(cells) + " |")


def run() -> None:
    """Measure all networks again."""
    torch.set_num_threads(1)
    for name in NETS:
        RESULTS.put(*measure(name))
    table()


main = make_main(__doc__, {"run": run, "table": table})


if __name__ == "__main__":
    main()
