"""The findings of "Do Vision Transformers See Like Convolutional Neural Networks?" on networks trained on CIFAR-10.

Claim: the paper's findings, in sign and shape, on a vision transformer and a residual network of similar accuracy;
    where small networks on small images disagree, the table says so.
Data: ../shared/data/images/cifar10.parquet, 48,000 training images, 2,000 held out, 10,000 test images; flowers and
    traffic_signs of the same folder for fine-tuning.
Networks: a vision transformer (patch 4) with a class token; the same with average pooling; without the skips of its
    middle block; on 3, 10 and 30 % of the images for the same number of steps; fine-tuned twice. A residual network
    stops as soon as it is as accurate on the held-out images as the transformer.
Hardware: `--size cpu` one thread a network (`plan` says how long); `--size longer` five times the
    steps, not run yet; `--size gpu` one large GPU, about 20 minutes by
    estimate; `--size toy` half a minute anywhere, without meaningful findings. Repeats: 1; seed 0.
Commands:
    python -m benchmarks.inspect.inside_networks plan                    # networks, steps left, minutes
    python -m benchmarks.inspect.inside_networks train vit               # one network or several; resumes
    python -m benchmarks.inspect.inside_networks train vit --minutes 20  # until then, with a checkpoint
    python -m benchmarks.inspect.inside_networks run                     # the rest of the training, then all analyses
    python -m benchmarks.inspect.inside_networks table                   # the findings
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.data import IMAGES, ROOT
from benchmarks.inspect import inside_training as training
from benchmarks.inspect.inside_findings import PARTS, Trained
from benchmarks.inspect.inside_training import SHARES, SIZES, Labelled, Spec
from benchmarks.result_table import ResultTable, Row
from windvane.inspect import Examples

RECORDED = "cpu"  # the size of the results
PICTURES = ROOT / "docs" / "findings" / "inside_networks"
CACHE = Path.home() / ".cache" / "windvane" / "inside"
TUNED = ("flowers", "traffic_signs")
# In this order: the others start from the first one, or are compared to it.
NAMES = (
    "vit",
    "resnet",
    "vit_average",
    "vit_no_skip",
    *(f"vit_{s}" for s in SHARES),
    *(f"tuned_{name}" for name in TUNED),
)
TIMED_STEPS = 6
N_FINDINGS = 16


class Makers:
    """The networks by name, with their data; `folder` holds checkpoints and decoded images."""

    def __init__(self, size: str, data_folder: Path, folder: Path, deadline: float = math.inf) -> None:
        self.size, self.data_folder, self.folder, self.deadline = SIZES[size], data_folder, folder, deadline
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.read = cache(self._read)
        self.trained = cache(self._trained)

    def _read(self, name: str) -> list[Labelled]:
        """Training and test images of a data set."""
        parts = (training.read_images(name, split, self.data_folder, self.folder) for split in ("train", "test"))
        return [part.to(self.device) for part in parts]

    @cached_property
    def held_out(self) -> Labelled:
        """Images on which the residual network is trained until it is as accurate as the transformer."""
        whole, _ = self.read("cifar10")
        return whole.part(len(whole.labels) - training.HELD_OUT, len(whole.labels))

    def spec(self, name: str) -> Spec:
        """How a network is trained; trains the transformer first where the network depends on it."""
        size, (whole, _) = self.size, self.read("cifar10")
        data = whole.part(0, size.n_train)
        if name.startswith("tuned_"):
            own, _ = self.read(name.removeprefix("tuned_"))
            make = tuned_from(self.trained("vit"), int(own.labels.max()) + 1)
            return Spec(name, make, own, size.batch, size.tuning_steps, flip=name == "tuned_flowers")
        if name == "resnet":
            until = training.accuracy(self.trained("vit"), self.held_out)
            return Spec(name, lambda: training.make_resnet(size), data, size.batch, size.steps, until)
        if name == "vit_average":
            return Spec(name, lambda: training.make_vit(size, pool="avg"), data, size.batch, size.steps)
        if name == "vit_no_skip":
            return Spec(name, lambda: training.make_without_skip(size), data, size.batch, size.steps)
        share = int(name.removeprefix("vit_")) if name != "vit" else 100
        part = data.part(0, size.n_train * share // 100)
        return Spec(name, lambda: training.make_vit(size), part, size.batch, size.steps)

    def _trained(self, name: str) -> nn.Module:
        return training.train(self.spec(name), self.held_out, self.folder / "networks", self.deadline)

    def accuracy(self, name: str) -> float:
        """Accuracy on the first test images of its data set."""
        _, test = self.read(name.removeprefix("tuned_") if name.startswith("tuned_") else "cifar10")
        return training.accuracy(self.trained(name), test.part(0, 4 * self.size.n_inspected))

    def steps_left(self, name: str) -> int:
        """Steps that a network still needs at most."""
        path = self.folder / "networks" / f"{name}.pt"
        steps = self.size.tuning_steps if name.startswith("tuned_") else self.size.steps
        return steps - (int(torch.load(path, map_location="cpu", weights_only=True)["step"]) if path.exists() else 0)


def tuned_from(model: nn.Module, n_classes: int) -> Callable[[], nn.Module]:
    """Return a function that copies a trained network with a new head."""
    return lambda: training.with_new_head(copy.deepcopy(model), n_classes)


def table_of(size: str) -> ResultTable:
    """Return the table of results, for rows of a size; a row is a finding or the accuracy of a network."""
    path = Path(__file__).with_name("inside_networks.jsonl")
    return ResultTable(path, ("size", "kind", "place"), json.loads(json.dumps(asdict(SIZES[size]))))


RESULTS = table_of(RECORDED)


def plan() -> list[tuple[Any, ...]]:
    """Return the rows behind the page."""
    parts = {"finding": N_FINDINGS, "network": len(NAMES)}
    return [(RECORDED, kind, place) for kind, n in parts.items() for place in range(n)]


def print_plan(makers: Makers) -> None:
    """Print the networks, their remaining steps and the time that these take."""
    whole, _ = makers.read("cifar10")
    seconds = {}
    for kind, make in (("vit", training.make_vit), ("resnet", training.make_resnet)):
        spec = Spec(kind, lambda make=make: make(makers.size), whole, makers.size.batch, TIMED_STEPS)  # type: ignore[misc]
        seconds[kind] = training.seconds_of_a_step(spec)
    print("| network | steps left | minutes at most |\n|---|---|---|")
    for name in NAMES:
        left = makers.steps_left(name)
        print(f"| {name} | {left} | {left * seconds['resnet' if name == 'resnet' else 'vit'] / 60:.0f} |")


def run(makers: Makers, size: str) -> None:
    """Finish the training, run all analyses, write findings and figures."""
    folder = PICTURES if size == RECORDED else makers.folder
    folder.mkdir(parents=True, exist_ok=True)
    accuracy = {name: makers.accuracy(name) for name in NAMES}
    print("\n".join(f"{name:20} {value:.3f}" for name, value in accuracy.items()), flush=True)
    (whole, test), n = makers.read("cifar10"), makers.size.n_inspected
    examples = [Examples(part.scaled, part.labels.cpu().numpy()) for part in (whole.part(0, 2 * n), test.part(0, n))]
    networks = {name: makers.trained(name) for name in NAMES}
    has = Trained(networks, accuracy, test.part(0, n).scaled, examples[0], examples[1], folder)
    findings = []
    for part in PARTS:
        part_begun = time.monotonic()
        findings += part(has)
        print(f"{part.__name__:20} {time.monotonic() - part_begun:6.0f} s", flush=True)
    rows = [{"kind": "finding", **asdict(one), "agrees": bool(one.agrees)} for one in findings]
    rows += [{"kind": "network", "network": name, "accuracy": round(value, 4)} for name, value in accuracy.items()]
    common = {"size": size, "device": has.images.device.type}
    places = [*range(len(findings)), *range(len(accuracy))]
    table_of(size).put(*({**common, "place": place, **row} for place, row in zip(places, rows, strict=True)))
    print(table(RESULTS.rows(), size))


def table(rows: Sequence[Row], size: str) -> str:
    """Findings as a Markdown table."""
    rows = [row for row in rows if row["size"] == size]
    lines = ["| finding | paper | ours | agree |", "|---|---|---|---|"]
    for one in (row for row in rows if row["kind"] == "finding"):
        name = f"[{one['finding']}]({PICTURES.name}/{one['picture']})" if one["picture"] else one["finding"]
        lines.append(f"| {name} | {one['paper']} | {one['ours']} | {'yes' if one['agrees'] else 'no'} |")
    reached = ", ".join(f"{row['network']} {row['accuracy']:.3f}" for row in rows if row["kind"] == "network")
    return "\n".join([*lines, "", f"Test accuracy, each on its data set: {reached}."]).replace("||", "‖")


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("plan", "train", "run", "table"))
    parser.add_argument("names", nargs="*", metavar="NETWORK", help=f"to train: {', '.join(NAMES)}")
    parser.add_argument("--size", choices=tuple(SIZES), default=RECORDED)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="train no longer than that")
    parser.add_argument("--cache", type=Path, default=CACHE, help="checkpoints and decoded images")
    parser.add_argument("--data", type=Path, default=IMAGES, help="Parquet files")
    given = parser.parse_args(words)
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no such network: {', '.join(sorted(unknown))}")
    if given.command == "table":
        print(table(RESULTS.rows(), given.size))
        return
    torch.set_num_threads(given.threads)
    makers = Makers(given.size, given.data, given.cache / given.size, time.monotonic() + 60 * given.minutes)
    if given.command == "plan":
        print_plan(makers)
    elif given.command == "train":
        for name in given.names or NAMES:
            makers.trained(name)
    else:
        run(makers, given.size)


if __name__ == "__main__":
    main()
