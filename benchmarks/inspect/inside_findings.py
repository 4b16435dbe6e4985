"""The analyses of `inside_networks.py`: each finding of the paper, as an effect that is positive where it holds.

`RULES` says what counts as an effect (`benchmarks.verdicts`); it was written before the networks were trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.inspect import inside_training as training
from benchmarks.verdicts import TIMES, Rule
from windvane.inspect import (
    Examples,
    ProbeSettings,
    Sampling,
    attention_distance,
    compare,
    drift,
    head_similarity,
    localization,
    partition,
    probe,
    receptive_fields,
    skip_ratios,
)

KINDS = ["residual", "attention", "mlp", "norm"]
OF_RESNET = ["residual", "norm", "block"]
BATCH = 256
SAMPLING = Sampling(batch_size=BATCH)
LITTLE = f"vit_{training.SHARES[0]}"  # trained on the fewest images

SIMILARITY = Rule("similarity", 0.05)
SHARE = Rule("of the image", 0.01)
RULES = {
    "ends": SIMILARITY,
    "lower_half": Rule("of the depth", 0.25),
    "highest_third": SIMILARITY,
    "local_heads": Rule("pixels", 1.0),
    "local_heads_on_little_data": Rule("of uniform attention", 0.05),
    "heads_like_resnet": Rule("rank correlation", 0.2),
    "first_field": SHARE,
    "middle_field": SHARE,
    "center_spike": Rule(TIMES, math.log(1.5)),
    "class_token_ratio": Rule("ratio", 0.5),
    "skip_ratio": Rule("ratio", 0.5),
    "removed_skip": Rule("similarity", 0.1),
    "localization": Rule("similarity", 0.1),
    "token_probe": Rule("points", 1.0),
    "data_scale": SIMILARITY,
    "fine_tuning": SIMILARITY,
}


@dataclass(frozen=True)
class Finding:
    """One row of the table."""

    name: str  # of its rule
    finding: str  # what is compared
    paper: str
    ours: str
    effect: float  # positive in the direction of the paper
    picture: str = ""  # file name, if there is one


@dataclass(frozen=True)
class Trained:
    """The trained networks and the images of the analyses."""

    networks: dict[str, nn.Module]
    accuracy: dict[str, float]  # of each network, on its first 4 x `Size.n_inspected` test images
    images: Tensor  # normalized test images, (n, 3, 32, 32)
    train: Examples  # for probes
    test: Examples
    folder: Path  # of the figures

    def __getitem__(self, name: str) -> nn.Module:
        return self.networks[name]

    def draw(self, name: str, result: Any) -> str:
        """Write a figure and return its file name."""
        result.plot().savefig(self.folder / f"{name}.png", dpi=90)
        return f"{name}.png"


def similarity_within(nets: Trained) -> list[Finding]:
    """Figure 1: each network with itself."""
    ends = {}
    for name in ("vit", "resnet"):
        layers = KINDS if name == "vit" else OF_RESNET
        found = compare(nets[name], nets[name], nets.images, layers, sampling=SAMPLING).renamed(name, name)
        third = len(found.layers[0]) // 3
        ends[name] = float(np.nanmean(found.values[:third, -third:]))
        nets.draw(f"self_{name}", found)
    return [
        Finding(
            "ends",
            "Lower and higher layers of one network: similarity of the first and the last third",
            "ViT high (uniform map), ResNet low (stages)",
            f"ViT {ends['vit']:.2f}, ResNet {ends['resnet']:.2f}",
            ends["vit"] - ends["resnet"],
            "self_vit.png",
        )
    ]


def similarity_across(nets: Trained) -> list[Finding]:
    """Figure 2: which layers of the ResNet the lower part of the ViT is like."""
    found = compare(nets["vit"], nets["resnet"], nets.images, (KINDS, OF_RESNET), sampling=SAMPLING)
    found = found.renamed("vit", "resnet")
    depth = found.matches()["depth"].to_numpy()
    half = float(np.median(depth[: len(depth) // 2]))
    best = np.nanmax(found.values, axis=1)
    thirds = [float(part.mean()) for part in np.array_split(best, 3)]
    return [
        Finding(
            "lower_half",
            "Lower half of the ResNet: where in the ViT its matches lie (median depth)",
            "in the lowest quarter: 60 of 120 layers of R50 for a quarter of ViT-L",
            f"{half:.2f}",
            0.5 - half,
            nets.draw("cross", found),
        ),
        Finding(
            "highest_third",
            "Highest third of the ViT: similarity to the most similar layer of the ResNet",
            "unlike every layer",
            f"{thirds[-1]:.2f}; first third {thirds[0]:.2f}, second {thirds[1]:.2f}",
            min(thirds[:-1]) - thirds[-1],
            "cross.png",
        ),
    ]


def attention(nets: Trained) -> list[Finding]:
    """Figures 3 and 4 and their appendix: local and global heads, and what little data does to them."""
    found, little = (attention_distance(nets[name], nets.images, batch_size=BATCH) for name in ("vit", LITTLE))
    first, last = found.distances[0], found.distances[-1]
    nearest = [float(one.distances[0].min()) / one.uniform_distance for one in (found, little)]
    heads = head_similarity(
        (nets["vit"], nets["resnet"]), nets.images[:1024], ["layer1.?", "layer2.?"], batch_size=BATCH
    )
    rank = float(np.mean([spearmanr(heads.distance, one).statistic for one in heads.similarity.T]))
    nets.draw("heads", heads)
    return [
        Finding(
            "local_heads",
            "Attention distance in the first block: from the most local to the most global head",
            "both local and global heads; the highest blocks all global",
            f"{first.min():.1f} to {first.max():.1f} pixels; last block {last.min():.1f} to {last.max():.1f}; "
            f"uniform {found.uniform_distance:.1f}",
            float(min(last.min() - first.min(), np.ptp(first) - np.ptp(last))),
            nets.draw("attention_distance", found),
        ),
        Finding(
            "local_heads_on_little_data",
            f"The most local head of the first block on {training.SHARES[0]} % of the data",
            "with little data the low blocks of large ViTs have no local heads; B/32 keeps them",
            f"{nearest[1]:.2f} of uniform attention; {nearest[0]:.2f} on all data",
            nearest[1] - nearest[0],
        ),
        Finding(
            "heads_like_resnet",
            "Heads of the first block beside early ResNet layers: rank correlation of distance and similarity",
            "falls monotonically, 0.60 to 0.25",
            f"{rank:.2f}",
            -rank,
            "heads.png",
        ),
    ]


def fields(nets: Trained) -> list[Finding]:
    """Figure 6: effective receptive fields, with and without the residual."""
    look = nets.images[:128]
    vit, resnet = (receptive_fields(nets[name], look, "residual", n_images=len(look)) for name in ("vit", "resnet"))
    branch = receptive_fields(nets["vit"], look, "attention", n_images=len(look))
    whole = 2 * (len(vit.layers) // 2) - 1
    spikes = float(vit.center_concentration(training.PATCH)[0]), float(branch.center_concentration(training.PATCH)[0])
    nets.draw("fields_resnet", resnet)
    return [
        Finding(
            "first_field",
            "Half of the receptive field lies in this share of the image: first sum",
            "ViT larger than ResNet",
            f"ViT {vit.half_area[0]:.3f}, ResNet {resnet.half_area[0]:.3f}",
            float(vit.half_area[0] - resnet.half_area[0]),
            nets.draw("fields_vit", vit),
        ),
        Finding(
            "middle_field",
            "The same, middle and last sum",
            "ViT global from the middle on; ResNet grows slowly",
            f"ViT {vit.half_area[whole // 2]:.3f}, {vit.half_area[whole]:.3f}; "
            f"ResNet {resnet.half_area[len(resnet.layers) // 2]:.3f}, {resnet.half_area[-1]:.3f}",
            float(vit.half_area[whole // 2] - resnet.half_area[len(resnet.layers) // 2]),
            "fields_resnet.png",
        ),
        Finding(
            "center_spike",
            "The unit's own patch in the first block: density of the field there over that of the image",
            "a strong spike after the residual, none before it",
            f"with the residual {spikes[0]:.1f}, attention alone {spikes[1]:.1f}",
            math.log(spikes[0] / spikes[1]),
        ),
    ]


def skips(nets: Trained) -> list[Finding]:
    """Figures 7 and 9: what skip connections carry."""
    vit, resnet = (skip_ratios(nets[name], nets.images, batch_size=BATCH) for name in ("vit", "resnet"))
    frame = vit.to_frame()
    means = {
        (tokens, half): float(np.median(rows["ratio"]))
        for tokens in ("cls", "spatial")
        for half, rows in enumerate(_halves(frame[frame["tokens"] == tokens]))
    }
    ratios = [float(np.median([np.median(one) for one in part.ratio])) for part in (vit, resnet)]
    return [
        Finding(
            "class_token_ratio",
            "||skip|| / ||branch||: class token and places, first and second half (medians)",
            "class token high then low, places low then high",
            f"class {means['cls', 0]:.1f}, {means['cls', 1]:.1f}; places {means['spatial', 0]:.1f}, "
            f"{means['spatial', 1]:.1f}",
            min(means["cls", 0] - means["spatial", 0], means["spatial", 1] - means["cls", 1]),
            nets.draw("skips", vit),
        ),
        Finding(
            "skip_ratio",
            "The ratio in both networks (median)",
            "ViT above ResNet",
            f"ViT {ratios[0]:.1f}, ResNet {ratios[1]:.1f}",
            ratios[0] - ratios[1],
        ),
    ]


def without_a_skip(nets: Trained) -> list[Finding]:
    """Figure 8: the network without the skips of its middle block."""
    block = f"blocks.{len(nets['vit'].blocks) // 2}"  # type: ignore[arg-type]
    gaps = {}
    for name in ("vit", "vit_no_skip"):
        found = partition(compare(nets[name], nets[name], nets.images, KINDS, sampling=SAMPLING), block)
        gaps[name] = found.gap
        nets.draw(f"partition_{name}", found)
    lost = 100 * (nets.accuracy["vit"] - nets.accuracy["vit_no_skip"])
    return [
        Finding(
            "removed_skip",
            f"Trained without the skips of {block}: similarity within minus across the two parts",
            "the map falls into two groups; about 4 % less accurate",
            f"{gaps['vit_no_skip']:.2f}, with all skips {gaps['vit']:.2f}; {lost:.1f} % less accurate",
            gaps["vit_no_skip"] - gaps["vit"],
            "partition_vit_no_skip.png",
        ),
    ]


def _halves(frame: Any) -> tuple[Any, Any]:
    middle = frame["depth"].max() / 2
    return frame[frame["depth"] <= middle], frame[frame["depth"] > middle]


def places(nets: Trained) -> list[Finding]:
    """Figures 10 to 15: localization of tokens, and probes on single tokens."""
    found = {name: localization(nets[name], nets.images, batch_size=BATCH) for name in ("vit", "vit_average")}
    settings = ProbeSettings(shots=(10, None), batch_size=BATCH)
    probes = {name: probe(nets[name], nets.train, nets.test, settings=settings) for name in ("vit", "vit_average")}
    for name in found:
        nets.draw(f"localization_{name}", found[name])
        nets.draw(f"probes_{name}", probes[name])
    # Of each network, accuracy on the last block by what the probe sees, with all examples.
    last = {
        name: dict(zip(one.poolings, one.accuracy[-1, :, -1].mean(-1), strict=True)) for name, one in probes.items()
    }
    drop = {name: float(accuracy["mean"] - accuracy["center"]) for name, accuracy in last.items()}
    return [
        Finding(
            "localization",
            "Tokens of the last block: similarity to their own patch minus to the others",
            "with a class token clear, with average pooling much less",
            f"class token {found['vit'].contrast:.2f}, average {found['vit_average'].contrast:.2f}",
            found["vit"].contrast - found["vit_average"].contrast,
            "localization_vit.png",
        ),
        Finding(
            "token_probe",
            "Probe on one token of the last block: what it loses against the average of all",
            "class-token ViT nearly everything, average-pooling ViT hardly anything",
            f"class token {100 * drop['vit']:.0f} points ({last['vit']['center']:.2f}), "
            f"average {100 * drop['vit_average']:.0f} points ({last['vit_average']['center']:.2f})",
            100 * (drop["vit"] - drop["vit_average"]),
            "probes_vit.png",
        ),
    ]


def scale(nets: Trained) -> list[Finding]:
    """Figures 16 and 21: less data, and fine-tuning, block by block."""
    on_less_data = {f"{share} %": nets[f"vit_{share}"] for share in training.SHARES}
    fine_tuned = {name: nets[f"tuned_{name}"] for name in ("flowers", "traffic_signs")}
    less, tuned = (drift(nets["vit"], others, nets.images, batch_size=BATCH) for others in (on_less_data, fine_tuned))
    third = max(1, len(less.layers) // 3)
    low, high = float(less.similarity[0, :third].mean()), float(less.similarity[0, -third:].mean())
    kept = {
        name: (float(row[:third].mean()), float(row[-1]))
        for name, row in zip(tuned.networks, tuned.similarity, strict=True)
    }
    return [
        Finding(
            "data_scale",
            f"{training.SHARES[0]} % of the data beside all of it: similarity of the lowest and the highest third",
            "low layers are learned from 3 %, high layers need more",
            f"{low:.2f} and {high:.2f}",
            low - high,
            nets.draw("data_scale", less),
        ),
        Finding(
            "fine_tuning",
            "Fine-tuning: similarity of the lowest third and of the last block before and after",
            "low layers stay, high ones change; natural images less than others",
            "; ".join(f"{name} {first:.2f}, {last:.2f}" for name, (first, last) in kept.items()),
            min(*(first - last for first, last in kept.values()), kept["flowers"][1] - kept["traffic_signs"][1]),
            nets.draw("fine_tuning", tuned),
        ),
    ]


# Each analysis and the networks that it needs.
PARTS: dict[Callable[[Trained], list[Finding]], tuple[str, ...]] = {
    similarity_within: ("vit", "resnet"),
    similarity_across: ("vit", "resnet"),
    attention: ("vit", "resnet", LITTLE),
    fields: ("vit", "resnet"),
    skips: ("vit", "resnet"),
    without_a_skip: ("vit", "vit_no_skip"),
    places: ("vit", "vit_average"),
    scale: ("vit", *(f"vit_{share}" for share in training.SHARES), "tuned_flowers", "tuned_traffic_signs"),
}
