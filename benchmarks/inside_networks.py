"""The findings of "Do Vision Transformers See Like Convolutional Neural Networks?" on networks trained on CIFAR-10.

Claim: the paper's findings, in sign and shape, on a vision transformer and a residual network of similar accuracy;
    where small networks on small images disagree, the table says so.
Data: ../shared/data/images/cifar10.parquet, 48,000 training images, 2,000 held out, 10,000 test images; flowers and
    traffic_signs of the same folder for fine-tuning.
Networks: a vision transformer (patch 4) with a class token; the same with average pooling; without the skips of its
    middle block; on 3, 10 and 30 % of the images for the same number of steps; fine-tuned twice. A residual network
    stops as soon as it is as accurate on the held-out images as the transformer.
Hardware: `--size cpu` one thread a network (`plan` says how long); `--size gpu` one large GPU, about 20 minutes by
    estimate; `--size toy` half a minute anywhere, without meaningful findings. Repeats: 1; seed 0.
Commands:
    python benchmarks/inside_networks.py plan                    # networks, steps left, minutes
    python benchmarks/inside_networks.py train vit               # one network or several; resumes
    python benchmarks/inside_networks.py train vit --minutes 20  # until then, with a checkpoint
    python benchmarks/inside_networks.py run                     # the rest of the training, then all analyses
    python benchmarks/inside_networks.py docs                    # fills the table of docs/findings/inside_networks.md
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import inside_training as training
import torch
from inside_findings import PARTS, Trained
from inside_training import SHARES, SIZES, Labelled, Spec
from torch import nn

from windvane.inspect import Examples

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "inside"
PAGE = ROOT / "docs" / "findings" / "inside_networks.md"
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


def plan(makers: Makers) -> None:
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
    folder = RESULTS / size
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    accuracy = {name: makers.accuracy(name) for name in NAMES}
    print("\n".join(f"{name:20} {value:.3f}" for name, value in accuracy.items()), flush=True)
    (whole, test), n = makers.read("cifar10"), makers.size.n_inspected
    examples = (Examples(part.scaled, part.labels.cpu().numpy()) for part in (whole.part(0, 2 * n), test.part(0, n)))
    has = Trained({name: makers.trained(name) for name in NAMES}, accuracy, test.part(0, n).scaled, *examples, folder)
    findings = []
    for part in PARTS:
        part_begun = time.monotonic()
        findings += part(has)
        print(f"{part.__name__:20} {time.monotonic() - part_begun:6.0f} s", flush=True)
    what = {
        "size": asdict(SIZES[size]),
        "seconds": round(time.monotonic() - begun, 1),
        "device": has.images.device.type,
        "accuracy": {name: round(value, 4) for name, value in has.accuracy.items()},
        "findings": [{**asdict(finding), "agrees": bool(finding.agrees)} for finding in findings],
    }
    (folder / "findings.json").write_text(json.dumps(what, indent=1) + "\n", encoding="utf-8")
    print(table(what, size))


def table(what: dict[str, Any], size: str) -> str:
    """Findings as a Markdown table."""
    lines = ["| finding | paper | ours | agree |", "|---|---|---|---|"]
    for one in what["findings"]:
        link = f"[{one['finding']}](../../benchmarks/results/inside/{size}/{one['picture']})"
        name = link if one["picture"] else one["finding"]
        lines.append(f"| {name} | {one['paper']} | {one['ours']} | {'yes' if one['agrees'] else 'no'} |")
    reached = ", ".join(f"{name} {value:.3f}" for name, value in what["accuracy"].items())
    return "\n".join([*lines, "", f"Test accuracy, each on its data set: {reached}."]).replace("||", "‖")


def fill_page(size: str) -> None:
    """Replace the table between the markers of the page."""
    what = json.loads((RESULTS / size / "findings.json").read_text(encoding="utf-8"))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- findings -->")
    _, _, after = rest.partition("<!-- end of findings -->")
    filled = f"{before}<!-- findings -->\n{table(what, size)}\n<!-- end of findings -->{after}"
    PAGE.write_text(filled, encoding="utf-8")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("plan", "train", "run", "docs"))
    parser.add_argument("names", nargs="*", metavar="NETWORK", help=f"to train: {', '.join(NAMES)}")
    parser.add_argument("--size", choices=tuple(SIZES), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="train no longer than that")
    parser.add_argument("--cache", type=Path, default=CACHE, help="checkpoints and decoded images")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "images", help="Parquet files")
    given = parser.parse_args()
    if unknown := set(given.names) - set(NAMES):
        parser.error(f"no such network: {', '.join(sorted(unknown))}")
    torch.set_num_threads(given.threads)
    makers = Makers(given.size, given.data, given.cache / given.size, time.monotonic() + 60 * given.minutes)
    if given.command == "plan":
        plan(makers)
    elif given.command == "train":
        for name in given.names or NAMES:
            makers.trained(name)
    elif given.command == "run":
        run(makers, given.size)
    else:
        fill_page(given.size)


if __name__ == "__main__":
    main()
