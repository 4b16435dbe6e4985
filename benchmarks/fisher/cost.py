"""What the tracker and the penalty cost: time of a step and peak memory, beside plain steps of the same run.

Claim: with finite differences every 10 steps a step takes at most 1.25 times as long as a plain one (goal 1.2), with
the tracker every 50 steps at most 1.02 times (CNN with batch norm, vision transformer with fused attention).
Hardware: 2 cores, no GPU, nothing else running; or the GPU that torch finds. Repeats: so many rounds, in each of which
every variant runs a whole cycle (10 steps; 50 with the tracker) in turn, in an order that changes; the figure is the
median over rounds of the ratio to the plain steps of the same round, with its quartiles.
Memory: the largest resident set of a separate process for each variant (on a GPU, torch's peak), over plain.

    python -m benchmarks.fisher.cost run
    python -m benchmarks.fisher.cost run --rounds 9 --nets cnn      other networks' results are kept
    python -m benchmarks.fisher.cost table
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.command_line import make_parser
from benchmarks.data import ROOT
from benchmarks.fisher.nets import norm_cnn, vit
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from windvane.curvature import FisherPenalty, FisherTracker

NETS: dict[str, Callable[[], nn.Module]] = {"cnn": norm_cnn, "vit": vit}
VARIANTS = {
    "plain": "plain",
    "finite differences every 10": "finite_difference",
    "double backward every 10": "double_backward",
    "tracker every 50": "tracker",
}
BATCH, THREADS = 128, 2
RESULTS = results_of(__file__, ("device", "net", "variant"), {"batch": BATCH, "threads": THREADS})
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def plan() -> list[tuple[Any, ...]]:
    return list(product(("cpu",), NETS, VARIANTS))


class Loop:
    """Training steps of one variant on one batch."""

    def __init__(self, net: str, variant: str) -> None:
        torch.manual_seed(0)
        self.model = NETS[net]().to(DEVICE).to(memory_format=torch.channels_last)
        self.x = torch.randn(BATCH, 3, 32, 32, device=DEVICE).contiguous(memory_format=torch.channels_last)
        self.y = torch.randint(10, (BATCH,), device=DEVICE)
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.01, momentum=0.9)
        kind = VARIANTS[variant]
        self.tracker = FisherTracker(self.model, every=50) if kind == "tracker" else None
        self.penalty = None
        if kind in ("finite_difference", "double_backward"):
            self.penalty = FisherPenalty(self.model, 0.01, mode=kind)  # type: ignore[arg-type]
        self.cycle = 50 if kind == "tracker" else 10
        self.kernels = [SDPBackend.MATH] if kind == "double_backward" else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
        self.count = 0

    def steps(self, n: int) -> float:
        """Return the seconds that `n` steps take."""
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(n):
            self.one()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    def one(self) -> None:
        """Train one step."""
        logits = self.model(self.x)
        if self.tracker is not None:
            self.tracker.update(logits, self.count)
        self.optimizer.zero_grad()
        functional.cross_entropy(logits, self.y).backward()
        if self.penalty is not None:
            computed = self.count % 10 == 0
            with sdpa_kernel(self.kernels) if computed else nullcontext():
                self.penalty(lambda: self.model(self.x))
        self.optimizer.step()
        self.count += 1


def ratios(net: str, rounds: int) -> dict[str, dict[str, float]]:
    """Return the quartiles of the time of each variant over that of the plain steps beside it."""
    loops = {name: Loop(net, name) for name in VARIANTS}
    for loop in loops.values():
        for _ in range(loop.cycle):  # whole cycles: what is measured begins where one begins
            loop.one()
    random = np.random.default_rng(0)
    found: dict[str, list[float]] = {name: [] for name in VARIANTS if name != "plain"}
    plain = []
    for _ in range(rounds):
        for name in random.permutation(list(found)):
            loop, beside = loops[name], loops["plain"]
            seconds, reference = 0.0, 0.0
            for _ in range(loop.cycle // 10):  # ten steps of one, ten of the other: what else happens hits both
                reference += beside.steps(5)
                seconds += loop.steps(10)
                reference += beside.steps(5)
            found[name].append(seconds / reference)
            plain.append(reference / loop.cycle)
        print(net, {name: round(values[-1], 3) for name, values in found.items()}, flush=True)
    quartiles = {name: np.quantile(values, (0.25, 0.5, 0.75)) for name, values in found.items()}
    result = {name: dict(zip(("low", "median", "high"), map(float, q), strict=True)) for name, q in quartiles.items()}
    return {"plain": {"seconds": float(np.median(plain))}, **result}


def resident() -> float:
    """Return the peak memory of this process in MiB; `resource` would also count that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def peak(net: str, variant: str) -> float:
    """Return the peak memory in MiB of a process that trains 12 steps."""
    command = [sys.executable, "-m", "benchmarks.fisher.cost", "one", net, variant]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(done.stdout.splitlines()[-1])


def run(nets: list[str], rounds: int) -> None:
    """Measure networks again."""
    for net in nets:
        for name, found in ratios(net, rounds).items():
            found["peak_mib"] = peak(net, name)
            RESULTS.put({"device": DEVICE.type, "net": net, "variant": name, "rounds": rounds, **found})


def table() -> None:
    """Print times over plain steps, and memory."""
    rows = {RESULTS.key_of(row): row for row in RESULTS.rows()}
    print_head("| network | variant | time / plain (quartiles) | peak memory MiB | rounds |")
    for key in product(("cpu", "cuda"), NETS, VARIANTS):
        if key not in rows:
            continue
        found, (_, net, variant) = rows[key], key
        if variant == "plain":
            shown = f"{found['seconds']:.3f} s"
        else:
            shown = f"{found['median']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
        print(f"| {net} | {variant} | {shown} | {found['peak_mib']:.0f} | {found['rounds']} |")


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "run", "table", "one")
    parser.add_argument(
        "variant", nargs="*", metavar="NET VARIANT", help="of one, which prints the memory of a variant"
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    arguments = parser.parse_args(words)
    if arguments.command == "table":
        table()
        return
    torch.set_num_threads(THREADS)
    if arguments.command == "one":
        Loop(*arguments.variant).steps(12)
        print(torch.cuda.max_memory_allocated() / 2**20 if DEVICE.type == "cuda" else resident())
        return
    run(arguments.nets, arguments.rounds)
    table()


if __name__ == "__main__":
    main()
