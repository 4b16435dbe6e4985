"""A training step on a CPU in float32, in bfloat16 with torch's own layers, and with the layers of windvane.

Claim: bfloat16 with windvane's layers is the fastest of the three for every network; with torch's own layers it is not.
Hardware: one thread of a CPU with AVX-512 BF16; CPU seconds count, so that other programs matter little. Repeats: 5
rounds of 4 steps, ways in turn; the median.

    python -m benchmarks.throughput.bfloat16 run      # all networks, some minutes
    python -m benchmarks.throughput.bfloat16 table

A step is the forward pass, cross entropy and the backward pass on noise; EfficientNets with frozen statistics of batch
normalization, as in fine-tuning.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import nn
from torch.nn import functional as F

import windvane.vision  # noqa: F401 - timm then knows ViT-Lite and CCT
from benchmarks.command_line import make_parser
from benchmarks.markdown import print_head
from benchmarks.result_table import results_of
from windvane.vision.networks.cpu_bfloat16 import replace_slow_layers
from windvane.vision.networks.profiling import count_macs
from windvane.vision.training.optimizer import set_train_mode

ROUNDS, STEPS = 5, 4
WAYS = ("float32", "torch", "windvane")
NETWORKS = (  # model, pixels, images a step, whether it is fine-tuned
    ("tf_efficientnet_lite0", 96, 32, True),
    ("tf_efficientnet_lite0", 160, 32, True),
    ("tf_efficientnet_lite2", 160, 16, True),
    ("mobilenetv3_large_100", 160, 16, True),
    ("convnext_atto", 128, 16, True),
    ("resnet18", 64, 64, False),
    ("cct_2_3x2", 32, 64, False),
    ("vit_lite_7_4", 32, 32, False),
    ("vit_lite_7_8", 32, 64, False),
    ("vit_tiny_patch16_224", 224, 8, True),
)
RESULTS = results_of(__file__, ("model", "size", "way"), {"rounds": ROUNDS, "steps": STEPS})


def plan() -> list[tuple[Any, ...]]:
    return [(model, size, way) for model, size, _, _ in NETWORKS for way in WAYS]


def step(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, bfloat16: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = network(images)
    F.cross_entropy(logits.float(), labels).backward()
    network.zero_grad()


def run(model: str, size: int, batch: int, tuned: bool) -> None:
    """Time the three ways of one network in turn."""
    networks = {}
    for way in WAYS:
        network = timm.create_model(model, num_classes=10).to(memory_format=torch.channels_last)
        set_train_mode(network, from_weights=tuned)
        if way == "windvane":
            replace_slow_layers(network)
        networks[way] = network
    images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(batch) % 10
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way, network in networks.items():
            step(network, images, labels, way != "float32")
            started = time.process_time()
            for _ in range(STEPS):
                step(network, images, labels, way != "float32")
            seconds[way].append((time.process_time() - started) / STEPS)
    macs = count_macs(networks["float32"], size)
    RESULTS.put(
        *(
            {
                "model": model,
                "size": size,
                "way": way,
                "batch": batch,
                "macs": macs,
                "images_per_second": round(batch / statistics.median(found), 1),
            }
            for way, found in seconds.items()
        )
    )


def table() -> None:
    """Print images a second by network, and how much faster windvane's layers are than float32."""
    print_head("| network | pixels | float32 | bfloat16, torch's | bfloat16, windvane's | times float32 |")
    for model, size, _, _ in NETWORKS:
        rows = [RESULTS.find(model, size, way) for way in WAYS]
        speeds = [row["images_per_second"] for row in rows if row is not None]
        if len(speeds) == len(WAYS):
            shown = " | ".join(f"{speed:,.0f}" for speed in speeds)
            print(f"| {model} | {size} | {shown} | {speeds[2] / speeds[0]:.2f} |")


def main(words: Sequence[str] | None = None) -> None:
    given = make_parser(__doc__, "run", "table").parse_args(words)
    if given.command == "run":
        torch.set_num_threads(1)
        for network in NETWORKS:
            run(*network)
    table()


if __name__ == "__main__":
    main()
