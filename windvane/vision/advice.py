"""Advice before training: transfer or scratch, AugReg level, dropout, weight decay, each with its reason.

The rules stand on Steiner et al., "How to train your ViT?", arXiv 2106.10270, and on the defaults that its authors
published (big_vision, configs/vit_i1k.py and vit_i21k.py). The paper trained networks of 6 to 330 million parameters on
1.3 and 14 million images. Its best levels rise with *pressure*, the parameters per training image times the fraction
of a schedule of 300 epochs: one number that orders the published defaults of all sizes and both sets. That number is
ours. A network that sees few images in all learns too slowly from augmented ones, whatever the pressure: measured on
small sets (`MEASURED`). `Advice.sources` says for each part where its rule comes from.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace

from windvane.data.images import ImageDataset, ImageSplits
from windvane.errors import check_usable
from windvane.vision.augment.augreg import AUGREG_LEVELS
from windvane.vision.networks.create import create_model, default_image_size
from windvane.vision.networks.profiling import count_parameters, measure_training_speed
from windvane.vision.recipe import Recipe
from windvane.vision.training.device import find_device

# The pressure up to which each level is advised, and published defaults in between.
_LEVEL_BY_PRESSURE = (
    (1.0, "none"),  # Ti/16 on ImageNet-21k: 0.41
    (5.0, "light1"),  # S/16 on ImageNet-21k: 1.6; Ti/16 on ImageNet-1k: 4.5
    (10.0, "light2"),  # B/16 and B/32 on ImageNet-21k: 6.1
    (16.0, "medium1"),
    (math.inf, "medium2"),  # S/16 on ImageNet-1k: 17; L/16 on ImageNet-21k: 22; B/16 and L/16 on ImageNet-1k: 67, 240
)

# Images shown (training images times epochs) up to which no higher level is advised, whatever the pressure.
_HIGHEST_LEVEL_BY_IMAGES_SHOWN = ((500_000, "none"), (5_000_000, "light2"), (math.inf, "medium2"))

# Results of the paper by pressure (Figures 4 and 7, Table 6); percent are top-1 accuracy, without regularization.
_PAPER_RESULTS = (
    (0.41, "Ti/16 on ImageNet-21k lost by every level"),
    (0.61, "B/16 on ImageNet-21k, 30 epochs, lost by every level, as all but the largest networks did"),
    (4.5, "Ti/16 on ImageNet-1k: 72 % with none, 76 % with light1, 71 % with strong2"),
    (6.1, "B/32 on ImageNet-21k: 41.6 % with none, 47.7 % as recommended, 43.5 % with strong2 and dropout"),
    (17.0, "S/16 on ImageNet-1k: 71 % with none, 82 % with medium2, 80 % with strong2"),
    (67.0, "B/16 on ImageNet-1k: 70 % with none, 81 % with medium2, 80 % with strong2"),
    (240.0, "L/16 on ImageNet-1k: 69 % with none, 78 % with medium2, 76 % with strong2"),
)

_PUBLISHED_EPOCHS = 300  # of the schedules that the published defaults are for
_RESISC45_IMAGES = 31_500  # the larger of the two sets on which the paper compares transfer with training from scratch
# Dropout is advised where both are reached: R26+S/32 on ImageNet-1k (36.6 million parameters, pressure 29) gained,
# S/16 (22.2 million parameters) and L/16 on ImageNet-21k (pressure 22) did not.
_DROPOUT_PARAMETERS, _DROPOUT_PRESSURE = 30_000_000, 25.0

_FEW_IMAGES_SHOWN = (
    "On 5,000 images of CIFAR-10 a ViT of 0.3 million parameters reached 48.1 % with none, 35.9 % with light2, 31.8 %"
    " with medium2 after 150,000 images shown; 50.8 %, 53.4 % and 49.0 % after 1.5 million."
)

_DROPOUT_GAINS = (
    "Dropout and stochastic depth of 0.1: beside the best level they gained 2 points for B/16 and R26+S/32 on"
    " ImageNet-1k."
)
_DROPOUT_LOSES = (
    "No dropout or stochastic depth: beside the best level they cost 4 points for Ti/16 and 2 for S/16 on ImageNet-1k,"
    " and gained nothing for networks below L/16 on ImageNet-21k; on 5,000 images of CIFAR-10 they cost a small ViT 2"
    " (measured by us)."
)
SMALL_SIZE = 64  # pixels, up to which images are shifted rather than cropped
_WEIGHT_DECAY, _DROPOUT_RATE = 0.1, 0.1  # the paper compares dropout and stochastic depth of 0 and of 0.1

_LARGER_PATCHES = (
    "Where the network is too slow, larger patches come before a narrower network: B/32 reaches 79.1 % on ImageNet-1k"
    " at 3,597 images a second, Ti/16 73.8 % at 3,097; S/32 73.5 % at 8,342, R+Ti/16 69.7 % at 9,371."
)

PAPER = "the paper"
OURS = "a rule of ours that gives the authors' published defaults"
MEASURED = "measured by us on small sets (benchmarks/vision/miniature.py)"


@dataclass(frozen=True)
class Advice:
    """Recommended settings, each with a reason and its source."""

    # Start from pre-trained weights. If none are at hand, the other fields are for training from scratch meanwhile.
    transfer: bool
    level: str  # AugReg level, a key of `windvane.vision.AUGREG_LEVELS`
    dropout: float  # 0 or 0.1
    drop_path: float  # highest rate of stochastic depth, 0 or 0.1
    weight_decay: float  # decoupled and multiplied by the learning rate, as in torch's AdamW; 0 for transfer
    # Reason of each part, with the numbers of the paper: "transfer", "level", "regularization", "weight_decay", "size".
    reasons: Mapping[str, str]
    sources: Mapping[str, str]  # where the rule of each part comes from

    @property
    def reason(self) -> str:
        """All reasons in one text."""
        return " ".join(self.reasons.values())


def pressure(n_images: int, n_params: int, epochs: float) -> float:
    """Return the parameters per training image times the fraction of 300 epochs; the larger, the more it overfits."""
    return n_params / n_images * min(1.0, epochs / _PUBLISHED_EPOCHS)


def advise(n_images: int, n_params: int, epochs: float, pretrained: bool = False) -> Advice:
    """Recommend how to train an image classification network.

    Parameters
    ----------
    n_images
        Number of training images.
    n_params
        Number of parameters of the network.
    epochs
        Passes over the images.
    pretrained
        Whether weights of the network are at hand that were trained on another, larger set.

    Returns
    -------
    Advice
        Settings, with reasons and their sources.

    Examples
    --------
    >>> advise(1_280_000, 22_100_000, 300).level
    'medium2'
    """
    for name, value in (("n_images", n_images), ("n_params", n_params), ("epochs", epochs)):
        check_usable(name, value, 0 < value < math.inf, "a number above 0")
    if pretrained:
        reasons = {
            "transfer": "Weights are at hand. On Pets37 (3,312 images) training from scratch never came near transfer"
            " at any budget; even on ImageNet-1k a B/16 adapted from ImageNet-21k reaches 85.5 % (384 pixels), 81.6 %"
            " without.",
            "level": "Augmentation while adapting did not help.",
            "regularization": "The paper adapts without dropout and stochastic depth.",
            "weight_decay": "The paper adapts without weight decay.",
            "size": _LARGER_PATCHES,
        }
        return Advice(True, "none", 0.0, 0.0, 0.0, reasons, dict.fromkeys(reasons, PAPER))
    transfer, why_transfer, transfer_source = _advise_transfer(n_images)
    level, why_level, level_source = _advise_level(n_images, n_params, epochs)
    regularized = n_params >= _DROPOUT_PARAMETERS and pressure(n_images, n_params, epochs) >= _DROPOUT_PRESSURE
    why_decay = f"Weight decay {_WEIGHT_DECAY} is the authors' own; the paper compares 0.03 and 0.1."
    parts = {  # reason and source
        "transfer": (why_transfer, transfer_source),
        "level": (why_level, level_source),
        "regularization": (_DROPOUT_GAINS if regularized else _DROPOUT_LOSES, OURS),
        "weight_decay": (why_decay, PAPER),
        "size": (_LARGER_PATCHES, PAPER),
    }
    return Advice(
        transfer=transfer,
        level=level,
        dropout=_DROPOUT_RATE * regularized,
        drop_path=_DROPOUT_RATE * regularized,
        weight_decay=_WEIGHT_DECAY,
        reasons={name: reason for name, (reason, _) in parts.items()},
        sources={name: source for name, (_, source) in parts.items()},
    )


def apply_advice(recipe: Recipe, images: ImageDataset, device: str | None = None) -> tuple[Recipe, Advice]:
    """Set AugReg level, dropout, stochastic depth and weight decay of a recipe as advised.

    Parameters
    ----------
    recipe
        Model, weights and length determine the advice; of a time budget the epochs that fit in, by the speed of
        training steps, which is measured in a second or two.
    images
        Training images.
    device
        Where the speed is measured, as named by torch; None for a GPU if there is one.

    Returns
    -------
    recipe, advice
        The recipe with these settings, and the advice with its reasons.

    Examples
    --------
    >>> recipe, advice = apply_advice(recipe, data.train)  # doctest: +SKIP
    """
    advice, _ = _advise_recipe(recipe, images, device)
    changed = replace(
        recipe,
        augreg=advice.level,
        dropout=advice.dropout,
        drop_path=advice.drop_path,
        weight_decay=advice.weight_decay,
    )
    return changed, advice


def default_recipe(
    model: str,
    data: ImageSplits,
    *,
    image_size: int | None = None,
    epochs: float = 50.0,
    time_budget: float | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    horizontal_flip: bool = True,
    augreg: str | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Recipe:
    """Return a recipe that trains a network from scratch on these images: advised settings, and crops by image size.

    Parameters
    ----------
    model
        Any name that timm knows, as in `Recipe`.
    data
        The training images determine the advice.
    image_size
        Width and height in pixels; None for the size that the network was made for.
    epochs, time_budget
        Length of the run; a time budget in seconds replaces the epochs.
    batch_size, learning_rate, horizontal_flip, seed
        As in `Recipe`.
    augreg
        AugReg level; None for the advised one.
    device
        As in `apply_advice`.

    Returns
    -------
    Recipe
        For `train`.

    Examples
    --------
    >>> result = train(default_recipe("vit_lite_7_4", data), data, out="run")  # doctest: +SKIP
    """
    size = default_image_size(model) if image_size is None else image_size
    plain = Recipe(
        model,
        image_size=size,
        epochs=epochs if time_budget is None else None,
        time_budget=time_budget,
        batch_size=batch_size,
        learning_rate=learning_rate,
        crop="random_shift" if size <= SMALL_SIZE else "random_resized_crop",
        horizontal_flip=horizontal_flip,
        seed=seed,
    )
    recipe, _ = apply_advice(plain, data.train, device)
    return recipe if augreg is None else replace(recipe, augreg=augreg)


def format_advice(recipe: Recipe, images: ImageDataset, width: int = 80, device: str | None = None) -> str:
    """Format the advice for a recipe: each choice, whether its rule comes from the paper, and the reason.

    Parameters
    ----------
    recipe
        Model, weights and length determine the advice.
    images
        Training images.
    width
        Characters per line.
    device
        As in `apply_advice`.

    Returns
    -------
    str
        Lines of text.

    Examples
    --------
    >>> print(format_advice(recipe, data.train))  # doctest: +SKIP
    """
    advice, epochs = _advise_recipe(recipe, images, device)
    budget = "" if recipe.time_budget is None else f"{recipe.time_budget:g} s, on this device about "
    head = f"{recipe.model}, {len(images):,} training images of {len(images.classes)} classes, {budget}"
    lines = textwrap.wrap(f"{head}{epochs:.3g} epochs", width)
    dropout = f"dropout and stochastic depth {advice.dropout:g}" if advice.dropout else "none"
    titles = {
        "transfer": f"Start from: {'pre-trained' if advice.transfer else 'random'} weights",
        "level": f"AugReg level: {advice.level}",
        "regularization": f"Regularization: {dropout}",
        "weight_decay": f"Weight decay: {advice.weight_decay:g}",
        "size": "Faster: larger patches",
    }
    for part, title in titles.items():
        mark = "[paper]" if advice.sources[part] == PAPER else "[ours]"
        lines += ["", f"{title:{width - len(mark)}}{mark}"]
        lines += textwrap.wrap(advice.reasons[part], width, initial_indent="    ", subsequent_indent="    ")
    notes = ['[paper] shown in "How to train your ViT" (arXiv 2106.10270).']
    notes += sorted({f"[ours] {source}." for source in advice.sources.values() if source != PAPER})
    lines.append("")
    for note in notes:
        lines += textwrap.wrap(note, width, subsequent_indent=" " * (note.index("]") + 2))
    return "\n".join(lines)


def _advise_recipe(recipe: Recipe, images: ImageDataset, device: str | None) -> tuple[Advice, float]:
    """Return the advice for a recipe, and the epochs that it trains."""
    network = create_model(recipe, len(images.classes))
    n_params = count_parameters(network)
    if recipe.time_budget is not None:
        speed = measure_training_speed(network, recipe, find_device(device, recipe.precision))
        epochs = recipe.time_budget * speed / len(images)
    elif recipe.epochs is not None:
        epochs = recipe.epochs
    else:
        steps_per_epoch = max(1, len(images) // recipe.batch_size)
        epochs = (recipe.steps or 0) / steps_per_epoch
    return advise(len(images), n_params, epochs, recipe.weights is not None), epochs


def _advise_level(n_images: int, n_params: int, epochs: float) -> tuple[str, str, str]:
    """Return the AugReg level, the reason and the source of the rule."""
    pressed, shown = pressure(n_images, n_params, epochs), n_images * epochs
    level = next(name for limit, name in _LEVEL_BY_PRESSURE if pressed < limit)
    highest = next(name for limit, name in _HIGHEST_LEVEL_BY_IMAGES_SHOWN if shown < limit)
    given = f"{n_params / 1e6:.2g} million parameters, {n_images:,} images and {epochs:.3g} epochs make"
    order = list(AUGREG_LEVELS)
    if order.index(highest) < order.index(level):
        why = f"{given} {shown:,.0f} images shown, too few for {level}: from scratch {highest}. {_FEW_IMAGES_SHOWN}"
        return highest, why, MEASURED
    nearest = min(_PAPER_RESULTS, key=lambda result: abs(math.log(result[0] / pressed)))[1]
    return level, f"{given} a pressure of {pressed:.2g}: from scratch {level}. Nearest in the paper: {nearest}.", OURS


def _advise_transfer(n_images: int) -> tuple[bool, str, str]:
    """Return whether to look for pre-trained weights, the reason and the source of the rule."""
    if n_images <= _RESISC45_IMAGES:
        reason = (
            "Find weights first. On Pets37 (3,312 images) training from scratch never came near transfer at"
            f" any budget; on Resisc45 ({_RESISC45_IMAGES:,}) 100 times the compute and a long search came close."
        )
        return True, reason, PAPER
    reason = (
        "No weights are at hand. With weights transfer would likely win: on ImageNet-1k a B/16 adapted from"
        " ImageNet-21k reaches 85.5 % (384 pixels), 81.6 % without; between"
        f" {_RESISC45_IMAGES:,} and 1.3 million images the paper compares nothing."
    )
    return False, reason, OURS
