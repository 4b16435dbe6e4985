"""The findings of "Do Vision Transformers See Like Convolutional Neural Networks?" on networks trained on CIFAR-10.

Claim: the paper's findings, in sign and shape, on a vision transformer and a residual network of similar accuracy;
    where small networks on small images disagree, the table says so.
Data: ../shared/data/images/cifar10.parquet, 50,000 training and 10,000 test images; flowers and traffic_signs of the
    same folder for fine-tuning.
Networks: a vision transformer (patch 4) with a class token; the same with average pooling; without the skips of its
    middle block; on 1 % of the images for the same number of steps; fine-tuned twice. A residual network of
    about as many multiply-adds.
Rule: an effect is positive where the paper's finding holds. With several seeds its 95 % interval decides, with one it
    has to exceed what `RULES` in `inside_findings.py` says. An analysis whose network on all images has a test accuracy
    below 60 % is left out.
Hardware: one thread a network, which takes 20 minutes with `--size cpu` on a CPU with AVX-512 BF16 (`plan` says how
    long); `--size gpu` one large GPU, about 20 minutes in all by estimate; `--size toy` half a minute anywhere, without
    meaningful findings.
Repeats: one seed.
Commands:
    python -m benchmarks.inspect.inside_networks plan --seeds 0 1 2          # networks, steps left, minutes
    python -m benchmarks.inspect.inside_networks train vit                   # one network or several; resumes
    python -m benchmarks.inspect.inside_networks train vit --minutes 20      # until then, with a checkpoint
    python -m benchmarks.inspect.inside_networks run                         # the rest of the training, all analyses
    python -m benchmarks.inspect.inside_networks run --finished              # analyses whose networks are trained
    python -m benchmarks.inspect.inside_networks table                       # the findings
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.command_line import make_parser
from benchmarks.data import IMAGES, ROOT
from benchmarks.inspect import inside_training as training
from benchmarks.inspect.inside_findings import PARTS, RULES, Trained
from benchmarks.inspect.inside_training import SHARES, SIZES, Labelled, Spec
from benchmarks.markdown import line_below, print_head
from benchmarks.result_table import ResultTable, Row
from benchmarks.verdicts import over_seeds, verdict
from windvane.inspect import Examples
from windvane.pages.texts import counted

RECORDED, SEEDS = "cpu", (0,)  # of the results
PICTURES = ROOT / "docs" / "findings" / "inside_networks"
CACHE = Path.home() / ".cache" / "windvane-inside"
TUNED = ("flowers", "traffic_signs")
# In this order: the others start from the first one, or are compared to it.
ON_ALL_IMAGES = ("vit", "resnet", "vit_average", "vit_no_skip")
NAMES = (*ON_ALL_IMAGES, *(f"vit_{share}" for share in SHARES), *(f"tuned_{name}" for name in TUNED))
TIMED_STEPS = 6


class Makers:
    """The networks of a seed by name, with their data; `cache` holds checkpoints and decoded images."""

    def __init__(self, size: str, seed: int, data_folder: Path, cache_folder: Path, deadline: float = math.inf) -> None:
        self.size, self.seed, self.data_folder, self.deadline = SIZES[size], seed, data_folder, deadline
        self.images, self.networks = cache_folder / "images", cache_folder / size / f"seed-{seed}"
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.read = cache(self._read)
        self.trained = cache(self._trained)

    def _read(self, name: str) -> list[Labelled]:
        """Training and test images of a data set."""
        parts = (training.read_images(name, split, self.data_folder, self.images) for split in ("train", "test"))
        return [part.to(self.device) for part in parts]

    def spec(self, name: str) -> Spec:
        """How a network is trained; trains the transformer first where the network depends on it."""
        size, seed, (whole, _) = self.size, self.seed, self.read("cifar10")
        data = whole.part(0, size.n_train)
        make: Callable[[], nn.Module] = partial(training.make_vit, size, seed=seed)
        if name.startswith("tuned_"):
            own, _ = self.read(name.removeprefix("tuned_"))
            make = partial(training.with_new_head, self.trained("vit"), int(own.labels.max()) + 1, seed)
            return Spec(name, make, own, size.batch, size.tuning_steps, flip=name == "tuned_flowers", seed=seed)
        if name == "resnet":
            make = partial(training.make_resnet, size, seed)
        elif name == "vit_average":
            make = partial(training.make_vit, size, pool="avg", seed=seed)
        elif name == "vit_no_skip":
            make = partial(training.make_without_skip, size, seed)
        elif name != "vit":
            data = data.part(0, size.n_train * int(name.removeprefix("vit_")) // 100)
        return Spec(name, make, data, size.batch, size.steps, seed=seed)

    def _trained(self, name: str) -> nn.Module:
        return training.train(self.spec(name), self.networks, self.deadline)

    def accuracy(self, name: str) -> float:
        """Accuracy on the first test images of its data set."""
        _, test = self.read(name.removeprefix("tuned_") if name.startswith("tuned_") else "cifar10")
        return training.accuracy(self.trained(name), test.part(0, 4 * self.size.n_inspected))

    def steps_left(self, name: str) -> int:
        """Steps that a network still needs at most."""
        steps = self.size.tuning_steps if name.startswith("tuned_") else self.size.steps
        return steps - int(self.checkpoint(name).get("step", 0))

    def checkpoint(self, name: str) -> dict[str, Any]:
        """Read the checkpoint of a network, empty without one."""
        path = self.networks / f"{name}.pt"
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {}
        return found


def table_of(size: str) -> ResultTable:
    """Return the table of results of a size; a row is a finding or the accuracy of a network."""
    path = Path(__file__).with_name("inside_networks.jsonl") if size == RECORDED else CACHE / size / "results.jsonl"
    return ResultTable(path, ("size", "seed", "kind", "name"), json.loads(json.dumps(asdict(SIZES[size]))))


RESULTS = table_of(RECORDED)


def plan() -> list[tuple[Any, ...]]:
    parts = {"finding": RULES, "network": NAMES}
    return [(RECORDED, seed, kind, name) for seed in SEEDS for kind, names in parts.items() for name in names]


def print_plan(makers: Sequence[Makers]) -> None:
    """Print the networks, their remaining steps and the time that these take."""
    whole, _ = makers[0].read("cifar10")
    seconds, size = {}, makers[0].size
    for kind, make in (("vit", training.make_vit), ("resnet", training.make_resnet)):
        spec = Spec(kind, partial(make, size), whole, size.batch, TIMED_STEPS)
        seconds[kind] = training.seconds_of_a_step(spec)
    print_head("| seed | network | steps left | minutes at most |")
    total = 0.0
    for one in makers:
        for name in NAMES:
            left = one.steps_left(name)
            minutes = left * seconds["resnet" if name == "resnet" else "vit"] / 60
            total += minutes
            print(f"| {one.seed} | {name} | {left} | {minutes:.0f} |")
    print(f"\n{total / 60:.1f} hours on one thread.")


def run(makers: Makers, size: str, *, finished: bool) -> None:
    """Finish the training, or leave out what is not trained; run the analyses, write findings and figures."""
    left = {name for name in NAMES if finished and makers.steps_left(name)}
    shown = size == RECORDED and makers.seed == SEEDS[0]
    folder = PICTURES if shown else makers.networks / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    accuracy = {name: makers.accuracy(name) for name in NAMES if name not in left}
    print("\n".join(f"{name:20} {value:.3f}" for name, value in accuracy.items()), flush=True)
    poor = {name for name in ON_ALL_IMAGES if accuracy.get(name, 1.0) < makers.size.least_accuracy}
    (whole, test), n = makers.read("cifar10"), makers.size.n_inspected
    to_train, to_test = (
        Examples(part.scaled, part.labels.cpu().numpy()) for part in (whole.part(0, 2 * n), test.part(0, n))
    )
    networks = {name: makers.trained(name) for name in accuracy}
    nets = Trained(networks, accuracy, to_test.images, to_train, to_test, folder)
    common = {"size": size, "seed": makers.seed, "device": nets.images.device.type}
    for part, names in PARTS.items():
        if missing := set(names) & (left | poor):
            print(f"{part.__name__:20} needs a better {', '.join(sorted(missing))}", flush=True)
            continue
        part_begun = time.monotonic()
        table_of(size).put(*({**common, "kind": "finding", **asdict(one)} for one in part(nets)))
        print(f"{part.__name__:20} {time.monotonic() - part_begun:6.0f} s", flush=True)
    for name, value in accuracy.items():
        seconds = round(makers.checkpoint(name)["seconds"])
        reached = {"kind": "network", "name": name, "accuracy": round(value, 4), "seconds": seconds}
        table_of(size).put({**common, **reached})


def table(rows: Sequence[Row], size: str) -> str:
    """Findings as a Markdown table, and how the networks were trained."""
    rows = [row for row in rows if row["size"] == size]
    head = "| finding | paper | ours | effect | verdict |"
    lines = [head, line_below(head)]
    for name, rule in RULES.items():
        found = [row for row in rows if row["kind"] == "finding" and row["name"] == name]
        if not found:
            continue
        one, effect = found[0], over_seeds([row["effect"] for row in found])
        linked = f"[{one['finding']}]({PICTURES.name}/{one['picture']})" if one["picture"] else one["finding"]
        ours = one["ours"] if len(found) == 1 else f"{one['ours']} (seed {one['seed']})"
        lines.append(f"| {linked} | {one['paper']} | {ours} | {effect.written(rule.unit)} | {verdict(effect, rule)} |")
    reached = []
    for name in NAMES:
        accuracy = [row["accuracy"] for row in rows if row["kind"] == "network" and row["name"] == name]
        if accuracy:
            between = "" if len(accuracy) == 1 else f" ({min(accuracy):.3f} to {max(accuracy):.3f})"
            reached.append(f"{name} {sum(accuracy) / len(accuracy):.3f}{between}")
    taken, seeds = SIZES[size], counted(len({row["seed"] for row in rows}), "seed")
    steps = f"{taken.steps:,} steps of {taken.batch} images, {taken.tuning_steps} for fine-tuning; {seeds}."
    lines += ["", f"{steps} Test accuracy, each on its data set: {', '.join(reached)}."]
    return "\n".join(lines).replace("||", "‖")


def main(words: Sequence[str] | None = None) -> None:
    parser = make_parser(__doc__, "plan", "train", "run", "table")
    parser.add_argument("names", nargs="*", metavar="NETWORK", help=f"to train: {', '.join(NAMES)}")
    parser.add_argument("--size", choices=tuple(SIZES), default=RECORDED)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--finished", action="store_true", help="run only analyses whose networks are trained")
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
    deadline = time.monotonic() + 60 * given.minutes
    makers = [Makers(given.size, seed, given.data, given.cache, deadline) for seed in given.seeds]
    if given.command == "plan":
        print_plan(makers)
    elif given.command == "train":
        for one, name in product(makers, given.names or NAMES):
            one.trained(name)
    else:
        for one in makers:
            run(one, given.size, finished=given.finished)
        print(table(table_of(given.size).rows(), given.size))


if __name__ == "__main__":
    main()
