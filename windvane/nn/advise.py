"""Advice before training: transfer or scratch, AugReg level, regularisation, weight decay, each with its reason.

The rules stand on Steiner et al., "How to train your ViT?", arXiv 2106.10270, and on the defaults that its authors
published (big_vision, configs/vit_i1k.py and vit_i21k.py). The paper trained networks of 6 to 330 million parameters on
1.3 and 14 million images. Its best levels rise with *pressure*, the parameters for each training image, times the part
of a schedule of 300 epochs: one number that orders the published defaults of all sizes and both sets. That number is
ours. A network that sees few images in all learns too slowly from augmented ones, whatever the pressure: that is
measured on small sets (`MEASURED`). `Advice.sources` says for each part which is which.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from windvane.errors import InputError
from windvane.nn.augment import AUGREG_LEVELS, REGULARISATION

# The pressure up to which each level is advised, and published defaults in between.
_LEVELS = (
    (1.0, "none"),  # Ti/16 on ImageNet-21k: 0.41
    (5.0, "light1"),  # S/16 on ImageNet-21k: 1.6; Ti/16 on ImageNet-1k: 4.5
    (10.0, "light2"),  # B/16 and B/32 on ImageNet-21k: 6.1
    (16.0, "medium1"),
    (math.inf, "medium2"),  # S/16 on ImageNet-1k: 17; L/16 on ImageNet-21k: 22; B/16 and L/16 on ImageNet-1k: 67, 240
)

# Images shown in all, up to which no more than a level is advised, whatever the pressure.
_SHOWN = ((500_000, "none"), (5_000_000, "light2"), (math.inf, "medium2"))

# What the paper found at which pressure (Figures 4 and 7, Table 6); percent are top-1, without regularisation.
_FOUND = (
    (0.41, "Ti/16 on ImageNet-21k lost by every level"),
    (0.61, "B/16 on ImageNet-21k, 30 epochs, lost by every level, as all but the largest networks did"),
    (4.5, "Ti/16 on ImageNet-1k: 72 % with none, 76 % with light1, 71 % with strong2"),
    (6.1, "B/32 on ImageNet-21k: 41.6 % with none, 47.7 % as recommended, 43.5 % with strong2 and dropout"),
    (17.0, "S/16 on ImageNet-1k: 71 % with none, 82 % with medium2, 80 % with strong2"),
    (67.0, "B/16 on ImageNet-1k: 70 % with none, 81 % with medium2, 80 % with strong2"),
    (240.0, "L/16 on ImageNet-1k: 69 % with none, 78 % with medium2, 76 % with strong2"),
)

_LONG = 300  # epochs of the schedules that the published defaults are for
_COMPARED = 31_500  # images of Resisc45, the larger of the two sets where the paper compares transfer with scratch
_LARGE = 30_000_000  # parameters: of R26+S/32, which gained by dropout, 36.6 million; of S/16, which lost, 22.2 million
_PRESSED = 25.0  # R26+S/32 on ImageNet-1k (29) gained by dropout, L/16 on ImageNet-21k (22) did not

_FEW = (
    "On 5,000 images of CIFAR-10 a ViT of 0.3 million parameters reached 48.1 % with none, 35.9 % with light2, 31.8 %"
    " with medium2 after 150,000 images shown; 50.8 %, 53.4 % and 49.0 % after 1.5 million."
)

_GAINS = (
    "Dropout and stochastic depth of 0.1: beside the best level they gained 2 points for B/16 and R26+S/32 on"
    " ImageNet-1k."
)
_LOSES = (
    "No dropout or stochastic depth: beside the best level they cost 4 points for Ti/16 and 2 for S/16 on ImageNet-1k,"
    " and gained nothing for networks below L/16 on ImageNet-21k; on 5,000 images of CIFAR-10 they cost a small ViT 2"
    " (measured by us)."
)
_WEIGHT_DECAY = 0.1

PARTS = ("transfer", "level", "regularisation", "weight_decay")
PAPER = "the paper"
OURS = "a rule of ours that gives the authors' published defaults"
MEASURED = "measured by us on small sets (benchmarks/miniature.py)"


@dataclass(frozen=True)
class Advice:
    """What to do, and why.

    Attributes
    ----------
    transfer
        Whether to start from pre-trained weights.
    level
        AugReg level, a name in `windvane.nn.augment.AUGREG_LEVELS`. Where weights are advised and not at hand, for
        training from scratch meanwhile.
    regularisation
        Dropout and largest drop rate of stochastic depth: 0 or 0.1.
    weight_decay
        Decoupled, multiplied by the learning rate (torch's AdamW). 0 for transfer.
    reasons
        For each of the attributes above, in words, with the paper's numbers.
    sources
        For each of them, where its rule comes from.
    """

    transfer: bool
    level: str
    regularisation: float
    weight_decay: float
    reasons: Mapping[str, str]
    sources: Mapping[str, str]

    @property
    def reason(self) -> str:
        """All reasons in one text."""
        return " ".join(self.reasons.values())


def pressure(n_images: int, n_params: int, epochs: float) -> float:
    """Compute the parameters for each training image, times the part of 300 epochs that is trained.

    Parameters
    ----------
    n_images, n_params, epochs
        As in `advise`.

    Returns
    -------
    float
        Above 0; the larger, the more an image network of that size overfits.
    """
    return n_params / n_images * min(1.0, epochs / _LONG)


def advise(n_images: int, n_params: int, epochs: float, pretrained: bool = False) -> Advice:
    """Advise how to train an image classification network.

    Parameters
    ----------
    n_images
        Training images.
    n_params
        Parameters of the network.
    epochs
        Passes over the images.
    pretrained
        Whether weights of the network, trained on another and larger set, are at hand.

    Returns
    -------
    Advice
        With reasons and their sources.

    Raises
    ------
    InputError
        Where a number is not above 0.
    """
    for name, value in (("n_images", n_images), ("n_params", n_params), ("epochs", epochs)):
        if not 0 < value < math.inf:
            raise InputError(f"{name}={value!r} is not usable. Allowed: a number above 0.")
    if pretrained:
        return _advise_transfer()
    pressed = pressure(n_images, n_params, epochs)
    transfer, why_transfer, source = _scratch_or_weights(n_images)
    level, why_level, level_source = _level(n_images, n_params, epochs)
    regularised = n_params >= _LARGE and pressed >= _PRESSED
    reasons = (
        why_transfer,
        why_level,
        _GAINS if regularised else _LOSES,
        f"Weight decay {_WEIGHT_DECAY} is the authors' own; the paper compares 0.03 and 0.1.",
    )
    return Advice(
        transfer=transfer,
        level=level,
        regularisation=REGULARISATION[regularised],
        weight_decay=_WEIGHT_DECAY,
        reasons=dict(zip(PARTS, reasons, strict=True)),
        sources=dict(zip(PARTS, (source, level_source, OURS, PAPER), strict=True)),
    )


def _level(n_images: int, n_params: int, epochs: float) -> tuple[str, str, str]:
    """Say which level, why, and where the rule comes from."""
    pressed, shown = pressure(n_images, n_params, epochs), n_images * epochs
    level = next(name for most, name in _LEVELS if pressed < most)
    bearable = next(name for most, name in _SHOWN if shown < most)
    given = f"{n_params / 1e6:.2g} million parameters, {n_images:,} images and {epochs:g} epochs make"
    order = list(AUGREG_LEVELS)
    if order.index(bearable) < order.index(level):
        why = f"{given} {shown:,.0f} images shown, too few for {level}: from scratch {bearable}. {_FEW}"
        return bearable, why, MEASURED
    nearest = min(_FOUND, key=lambda found: abs(math.log(found[0] / pressed)))[1]
    return level, f"{given} a pressure of {pressed:.2g}: from scratch {level}. Nearest in the paper: {nearest}.", OURS


def _advise_transfer() -> Advice:
    reasons = (
        "Weights are at hand. On Pets37 (3,312 images) training from scratch never came near transfer at any budget;"
        " even on ImageNet-1k a B/16 adapted from ImageNet-21k reaches 85.5 % (384 pixels), 81.6 % without.",
        "Augmentation while adapting did not help.",
        "The paper adapts without dropout and stochastic depth.",
        "The paper adapts without weight decay.",
    )
    return Advice(True, "none", 0.0, 0.0, dict(zip(PARTS, reasons, strict=True)), dict.fromkeys(PARTS, PAPER))


def _scratch_or_weights(n_images: int) -> tuple[bool, str, str]:
    """Say whether to look for weights, why, and where the rule comes from."""
    if n_images <= _COMPARED:
        reason = (
            "Find weights first. On Pets37 (3,312 images) training from scratch never came near transfer at"
            f" any budget; on Resisc45 ({_COMPARED:,}) 100 times the compute and a long search came close."
        )
        return True, reason, PAPER
    reason = (
        "No weights are at hand. With weights transfer would likely win: on ImageNet-1k a B/16 adapted from"
        f" ImageNet-21k reaches 85.5 % (384 pixels), 81.6 % without; between {_COMPARED:,} and 1.3 million images the"
        " paper compares nothing."
    )
    return False, reason, OURS
