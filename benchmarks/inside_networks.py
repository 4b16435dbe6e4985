"""The findings of "Do Vision Transformers See Like Convolutional Neural Networks?" on networks trained on CIFAR-10.

Claim: the paper's findings, in sign and shape, on a vision transformer and a residual network of similar accuracy;
    where small networks on small images disagree, the table says so.
Data: ../shared/data/images/cifar10.parquet, 48,000 training images, 2,000 held out, 10,000 test images; flowers and
    traffic_signs of the same folder for fine-tuning.
Networks: a vision transformer (patch 4) with a class token; the same with average pooling; without the skips of its
    middle block; on 3, 10 and 30 % of the images for the same number of steps; fine-tuned twice. A residual network
    stops as soon as it is as accurate on the held-out images as the transformer.
Hardware: `--size cpu` two cores, about 20 minutes by estimate; `--size gpu` one large GPU, about as long; `--size toy`
    half a minute anywhere, its findings mean nothing. Repeats: 1; seed 0.
Commands:
    python benchmarks/inside_networks.py run --size cpu    # resumable: what is trained is not trained again
    python benchmarks/inside_networks.py docs --size cpu   # fills the table of docs/inside-networks.md
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import inside_training as training
import numpy as np
import torch
from inside_training import SIZES, Labelled, Size, Spec
from scipy.stats import spearmanr
from torch import Tensor, nn

from windvane.inspect import (
    Examples,
    ProbeSettings,
    Sampling,
    attention_distance,
    compare,
    drift,
    head_similarity,
    localisation,
    partition,
    probe,
    receptive_fields,
    skip_ratios,
)

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "inside"
PAGE = ROOT / "docs" / "inside-networks.md"
CACHE = Path.home() / ".cache" / "windvane" / "inside"
SHARES = (3, 10, 30)  # % of the training images
KINDS = ["residual", "attention", "mlp", "norm"]
OF_RESNET = ["residual", "norm", "block"]
BATCH = 256


@dataclass(frozen=True)
class Finding:
    """One row of the table.

    Attributes
    ----------
    finding, paper, ours
        What it is about, what the paper found, what came out here.
    agrees
        Whether the sign is that of the paper.
    picture
        File name, empty without one.
    """

    finding: str
    paper: str
    ours: str
    agrees: bool
    picture: str = ""


@dataclass(frozen=True)
class Trained:
    """Everything that is looked at.

    Attributes
    ----------
    networks
        By name.
    accuracy
        Of each on its first 4 x `Size.n_looked_at` test images.
    look
        Test images as networks see them: (n, 3, 32, 32).
    train, test
        For probes.
    folder
        Where pictures go.
    """

    networks: dict[str, nn.Module]
    accuracy: dict[str, float]
    look: Tensor
    train: Examples
    test: Examples
    folder: Path

    def __getitem__(self, name: str) -> nn.Module:
        return self.networks[name]

    def draw(self, name: str, result: Any) -> str:
        """Keep a picture and give its name."""
        result.plot().savefig(self.folder / f"{name}.png", dpi=90)
        return f"{name}.png"


def train_all(size: Size, data_folder: Path, cache: Path, folder: Path) -> Trained:
    """Train what is not trained yet."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def read(name: str) -> list[Labelled]:
        return [training.read_images(name, split, data_folder, cache).to(device) for split in ("train", "test")]

    whole, test = read("cifar10")
    data, held_out = whole.part(0, size.n_train), whole.part(len(whole.labels) - training.HELD_OUT, len(whole.labels))
    networks: dict[str, nn.Module] = {}
    reached: dict[str, float] = {}

    def add(spec: Spec, judged: Labelled) -> None:
        begun = time.monotonic()
        networks[spec.name] = training.train(spec, held_out, cache / "networks")
        reached[spec.name] = training.accuracy(networks[spec.name], judged.part(0, 4 * size.n_looked_at))
        print(f"{spec.name:20} {reached[spec.name]:.3f} {time.monotonic() - begun:6.0f} s", flush=True)

    add(Spec("vit", lambda: training.make_vit(size), data, size.batch, size.steps), test)
    until = training.accuracy(networks["vit"], held_out)
    add(Spec("resnet", lambda: training.make_resnet(size), data, size.batch, size.steps, until), test)
    add(Spec("vit_average", lambda: training.make_vit(size, pool="avg"), data, size.batch, size.steps), test)
    add(Spec("vit_no_skip", lambda: training.make_without_skip(size), data, size.batch, size.steps), test)
    for share in SHARES:
        part = data.part(0, size.n_train * share // 100)
        add(Spec(f"vit_{share}", lambda: training.make_vit(size), part, size.batch, size.steps), test)
    for name in ("flowers", "traffic_signs"):
        own, judged = read(name)
        n_classes = int(own.labels.max()) + 1
        make = tuned_from(networks["vit"], n_classes)
        add(Spec(f"tuned_{name}", make, own, size.batch, size.tuning_steps, flip=name == "flowers"), judged)
    n = size.n_looked_at
    examples = (Examples(part.scaled, part.labels.cpu().numpy()) for part in (data.part(0, 2 * n), test.part(0, n)))
    return Trained(networks, reached, test.part(0, n).scaled, *examples, folder)


def tuned_from(model: nn.Module, n_classes: int) -> Callable[[], nn.Module]:
    """Make a maker of copies that begin with the weights of a trained network."""
    return lambda: training.with_new_head(copy.deepcopy(model), n_classes)


def similarity_within(has: Trained) -> list[Finding]:
    """Figure 1: maps of each network with itself."""
    ends = {}
    for name in ("vit", "resnet"):
        layers = KINDS if name == "vit" else OF_RESNET
        found = compare(has[name], has[name], has.look, layers, sampling=Sampling(batch_size=BATCH)).named(name, name)
        third = len(found.layers[0]) // 3
        ends[name] = float(np.nanmean(found.values[:third, -third:]))
        has.draw(f"self_{name}", found)
    return [
        Finding(
            "Lower and higher layers of one network: similarity of the first and the last third",
            "ViT high (uniform map), ResNet low (stages)",
            f"ViT {ends['vit']:.2f}, ResNet {ends['resnet']:.2f}",
            ends["vit"] > ends["resnet"],
            "self_vit.png",
        )
    ]


def similarity_across(has: Trained) -> list[Finding]:
    """Figure 2: which layers of the ResNet the lower part of the ViT is like."""
    layers = (KINDS, OF_RESNET)
    found = compare(has["vit"], has["resnet"], has.look, layers, sampling=Sampling(batch_size=BATCH))
    found = found.named("vit", "resnet")
    depth = found.matches()["depth"].to_numpy()
    half = float(np.median(depth[: len(depth) // 2]))
    best = np.nanmax(found.values, axis=1)
    thirds = [float(part.mean()) for part in np.array_split(best, 3)]
    return [
        Finding(
            "Lower half of the ResNet: where in the ViT its matches lie (median depth)",
            "in the lowest quarter: 60 of 120 layers of R50 for a quarter of ViT-L",
            f"{half:.2f}",
            half < 0.35,
            has.draw("cross", found),
        ),
        Finding(
            "Highest third of the ViT: similarity to the most similar layer of the ResNet",
            "unlike every layer",
            f"{thirds[-1]:.2f}; first third {thirds[0]:.2f}, second {thirds[1]:.2f}",
            thirds[-1] < min(thirds[:-1]),
            "cross.png",
        ),
    ]


def attention(has: Trained) -> list[Finding]:
    """Figures 3 and 4 and their appendix: local and global heads, and what little data does to them."""
    found, little = (attention_distance(has[name], has.look, batch_size=BATCH) for name in ("vit", "vit_3"))
    first, last = found.distances[0], found.distances[-1]
    nearest = [float(one.distances[0].min()) / one.uniform for one in (found, little)]
    heads = head_similarity((has["vit"], has["resnet"]), has.look[:1024], ["layer1.?", "layer2.?"], batch_size=BATCH)
    rank = float(np.mean([spearmanr(heads.distance, one).statistic for one in heads.similarity.T]))
    has.draw("heads", heads)
    return [
        Finding(
            "Attention distance in the first block: from the most local to the most global head",
            "both local and global heads; the highest blocks all global",
            f"{first.min():.1f} to {first.max():.1f} pixels; last block {last.min():.1f} to {last.max():.1f}; "
            f"uniform {found.uniform:.1f}",
            bool(first.min() < last.min() and np.ptp(first) > np.ptp(last)),
            has.draw("attention_distance", found),
        ),
        Finding(
            "The most local head of the first block on 3 % of the data",
            "with little data the low blocks of large ViTs have no local heads; B/32 keeps them",
            f"{nearest[1]:.2f} of uniform attention; {nearest[0]:.2f} on all data",
            nearest[1] > nearest[0],
        ),
        Finding(
            "Heads of the first block beside early ResNet layers: rank correlation of distance and similarity",
            "falls monotonically, 0.60 to 0.25",
            f"{rank:.2f}",
            rank < 0,
            "heads.png",
        ),
    ]


def fields(has: Trained) -> list[Finding]:
    """Figure 6: effective receptive fields, with and without the residual."""
    look = has.look[:128]
    vit, resnet = (receptive_fields(has[name], look, "residual", n_images=len(look)) for name in ("vit", "resnet"))
    branch = receptive_fields(has["vit"], look, "attention", n_images=len(look))
    whole = 2 * (len(vit.layers) // 2) - 1
    spikes = float(vit.near_share(training.PATCH)[0]), float(branch.near_share(training.PATCH)[0])
    has.draw("fields_resnet", resnet)
    return [
        Finding(
            "Half of the receptive field lies in this share of the image: first sum",
            "ViT larger than ResNet",
            f"ViT {vit.half_area[0]:.3f}, ResNet {resnet.half_area[0]:.3f}",
            vit.half_area[0] > resnet.half_area[0],
            has.draw("fields_vit", vit),
        ),
        Finding(
            "The same, middle and last sum",
            "ViT global from the middle on; ResNet grows slowly",
            f"ViT {vit.half_area[whole // 2]:.3f}, {vit.half_area[whole]:.3f}; "
            f"ResNet {resnet.half_area[len(resnet.layers) // 2]:.3f}, {resnet.half_area[-1]:.3f}",
            vit.half_area[whole // 2] > resnet.half_area[len(resnet.layers) // 2],
            "fields_resnet.png",
        ),
        Finding(
            "The unit's own patch in the first block: density of the field there over that of the image",
            "a strong spike after the residual, none before it",
            f"with the residual {spikes[0]:.1f}, attention alone {spikes[1]:.1f}",
            spikes[0] > 1.5 * spikes[1],
        ),
    ]


def skips(has: Trained) -> list[Finding]:
    """Figures 7 to 9: what skips carry, and what their absence divides."""
    vit, resnet = (skip_ratios(has[name], has.look, batch_size=BATCH) for name in ("vit", "resnet"))
    frame = vit.to_frame()
    means = {
        (tokens, half): float(np.median(rows["ratio"]))
        for tokens in ("class", "places")
        for half, rows in enumerate(_halves(frame[frame["tokens"] == tokens]))
    }
    ratios = [float(np.median([np.median(one) for one in part.ratio])) for part in (vit, resnet)]
    block = f"blocks.{len(vit.sublayers) // 4}"
    sampling = Sampling(batch_size=BATCH)
    gaps = {}
    for name in ("vit", "vit_no_skip"):
        found = partition(compare(has[name], has[name], has.look, KINDS, sampling=sampling), block)
        gaps[name] = found.gap
        has.draw(f"partition_{name}", found)
    lost = 100 * (has.accuracy["vit"] - has.accuracy["vit_no_skip"])
    return [
        Finding(
            "||skip|| / ||branch||: class token and places, first and second half (medians)",
            "class token high then low, places low then high",
            f"class {means['class', 0]:.1f}, {means['class', 1]:.1f}; places {means['places', 0]:.1f}, "
            f"{means['places', 1]:.1f}",
            means["class", 0] > means["places", 0] and means["class", 1] < means["places", 1],
            has.draw("skips", vit),
        ),
        Finding(
            "The ratio in both networks (median)",
            "ViT above ResNet",
            f"ViT {ratios[0]:.1f}, ResNet {ratios[1]:.1f}",
            ratios[0] > ratios[1],
        ),
        Finding(
            f"Trained without the skips of {block}: similarity within minus across the two parts",
            "the map falls into two groups; about 4 % less accurate",
            f"{gaps['vit_no_skip']:.2f}, with all skips {gaps['vit']:.2f}; {lost:.1f} % less accurate",
            gaps["vit_no_skip"] > gaps["vit"],
            "partition_vit_no_skip.png",
        ),
    ]


def _halves(frame: Any) -> tuple[Any, Any]:
    middle = frame["depth"].max() / 2
    return frame[frame["depth"] <= middle], frame[frame["depth"] > middle]


def places(has: Trained) -> list[Finding]:
    """Figures 10 to 15: what is kept of places, and what probes read of it."""
    found = {name: localisation(has[name], has.look, batch_size=BATCH) for name in ("vit", "vit_average")}
    settings = ProbeSettings(shots=(10, None), batch_size=BATCH)
    probes = {name: probe(has[name], has.train, has.test, settings=settings) for name in ("vit", "vit_average")}
    for name in found:
        has.draw(f"localisation_{name}", found[name])
        has.draw(f"probes_{name}", probes[name])
    drop, last = {}, {}
    for name, one in probes.items():
        mean = dict(zip(one.readouts, one.accuracy[-1, :, -1].mean(-1), strict=True))
        drop[name] = float(mean["average"] - mean["token"])
        last[name] = mean
    return [
        Finding(
            "Tokens of the last block: similarity to their own patch minus to the others",
            "with a class token clear, with average pooling much less",
            f"class token {found['vit'].contrast:.2f}, average {found['vit_average'].contrast:.2f}",
            found["vit"].contrast > found["vit_average"].contrast,
            "localisation_vit.png",
        ),
        Finding(
            "Probe on one token of the last block: what it loses against the average of all",
            "class-token ViT nearly everything, average-pooling ViT hardly anything",
            f"class token {100 * drop['vit']:.0f} points ({last['vit']['token']:.2f}), "
            f"average {100 * drop['vit_average']:.0f} points ({last['vit_average']['token']:.2f})",
            drop["vit"] > drop["vit_average"],
            "probes_vit.png",
        ),
    ]


def scale(has: Trained) -> list[Finding]:
    """Figures 16 and 21: less data, and fine-tuning, block by block."""
    less = drift(has["vit"], {f"{share} %": has[f"vit_{share}"] for share in SHARES}, has.look, batch_size=BATCH)
    tuned = drift(has["vit"], {n: has[f"tuned_{n}"] for n in ("flowers", "traffic_signs")}, has.look, batch_size=BATCH)
    third = max(1, len(less.layers) // 3)
    low, high = float(less.similarity[0, :third].mean()), float(less.similarity[0, -third:].mean())
    kept = {
        name: (float(row[:third].mean()), float(row[-1]))
        for name, row in zip(tuned.networks, tuned.similarity, strict=True)
    }
    return [
        Finding(
            "3 % of the data beside all of it: similarity of the lowest and the highest third",
            "low layers are learned from 3 %, high layers need more",
            f"{low:.2f} and {high:.2f}",
            low > high,
            has.draw("data_scale", less),
        ),
        Finding(
            "Fine-tuning: similarity of the lowest third and of the last block before and after",
            "low layers stay, high ones change; natural images less than others",
            "; ".join(f"{name} {first:.2f}, {last:.2f}" for name, (first, last) in kept.items()),
            all(first > last for first, last in kept.values()) and kept["flowers"][1] > kept["traffic_signs"][1],
            has.draw("fine_tuning", tuned),
        ),
    ]


PARTS = (similarity_within, similarity_across, attention, fields, skips, places, scale)


def run(size: str, data_folder: Path, cache: Path) -> None:
    """Train, look, keep the findings and pictures."""
    folder = RESULTS / size
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    has = train_all(SIZES[size], data_folder, cache / size, folder)
    findings = []
    for part in PARTS:
        part_begun = time.monotonic()
        findings += part(has)
        print(f"{part.__name__:20} {time.monotonic() - part_begun:6.0f} s", flush=True)
    what = {
        "size": asdict(SIZES[size]),
        "seconds": round(time.monotonic() - begun, 1),
        "device": has.look.device.type,
        "accuracy": {name: round(value, 4) for name, value in has.accuracy.items()},
        "findings": [{**asdict(finding), "agrees": bool(finding.agrees)} for finding in findings],
    }
    (folder / "findings.json").write_text(json.dumps(what, indent=1) + "\n", encoding="utf-8")
    print(table(what, size))


def table(what: dict[str, Any], size: str) -> str:
    """Lay the findings out in Markdown."""
    lines = ["| finding | paper | ours | agree |", "|---|---|---|---|"]
    for one in what["findings"]:
        link = f"[{one['finding']}](../benchmarks/results/inside/{size}/{one['picture']})"
        name = link if one["picture"] else one["finding"]
        lines.append(f"| {name} | {one['paper']} | {one['ours']} | {'yes' if one['agrees'] else 'no'} |")
    reached = ", ".join(f"{name} {value:.3f}" for name, value in what["accuracy"].items())
    return "\n".join([*lines, "", f"Accuracy on test images of its own set: {reached}."]).replace("||", "‖")


def fill_page(size: str) -> None:
    """Write the table between the marks of the page."""
    what = json.loads((RESULTS / size / "findings.json").read_text(encoding="utf-8"))
    before, _, rest = PAGE.read_text(encoding="utf-8").partition("<!-- findings -->")
    _, _, after = rest.partition("<!-- end of findings -->")
    filled = f"{before}<!-- findings -->\n{table(what, size)}\n<!-- end of findings -->{after}"
    PAGE.write_text(filled, encoding="utf-8")


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("run", "docs"))
    parser.add_argument("--size", choices=tuple(SIZES), default="cpu")
    parser.add_argument("--cache", type=Path, default=CACHE, help="checkpoints and decoded images")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "images", help="Parquet files")
    given = parser.parse_args()
    if given.command == "run":
        run(given.size, given.data, given.cache)
    else:
        fill_page(given.size)


if __name__ == "__main__":
    main()
