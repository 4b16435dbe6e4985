"""Recipe: everything that decides how one network is trained, checked when it is made."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import timm

from windvane.errors import InputError, check_choice, check_number, check_usable, unknown_name_error
from windvane.vision.augment.augreg import AUGREG_LEVELS
from windvane.vision.networks import vit_lite

FOLDER = Path(__file__).parent / "recipes"

Triple = tuple[float, float, float]

_HALF: Triple = (0.5, 0.5, 0.5)  # the paper's range of pixels: [-1, 1]


@dataclass(frozen=True)
class Recipe:
    """Settings of one training run; exactly one of `epochs`, `steps` and `time_budget` sets its length.

    The defaults follow "How to train your ViT?" (Steiner et al., arXiv 2106.10270, section 3.4), except for the batch
    size and the image size, which fit one small device.

    Examples
    --------
    >>> recipe = Recipe("vit_lite_7_4", image_size=32, epochs=50, augreg="light2")
    >>> recipe.learning_rate
    0.001
    """

    # Any name that timm knows, such as ``vit_tiny_patch16_224``; windvane adds ViT-Lite and CCT, such as
    # ``vit_lite_7_4`` and ``cct_7_3x1``.
    model: str
    # Further arguments of ``timm.create_model``, such as ``{"patch_size": 8}``. JSON values.
    model_kwargs: Mapping[str, Any] = field(default_factory=dict)
    # Pre-trained weights: "timm" for the weights of its hub; the path of a .safetensors, .npz or .pth file; the folder
    # of a windvane run; "efficientnet_lite0" to "efficientnet_lite2" for those of installed packages. None for random
    # weights. With pre-trained weights the classifier layer is reset to zero.
    weights: str | None = None
    image_size: int = 224  # width and height of the square images, in pixels
    # Mean of each color channel, for pixels in [0, 1]: the network sees (pixel - mean) / std. None for the values that
    # the weights were trained with, or 0.5 without weights.
    mean: Triple | None = None
    std: Triple | None = None  # standard deviation of each color channel, as for `mean`
    epochs: float | None = None  # passes over the training images; fractions are allowed
    steps: int | None = None  # optimizer steps
    time_budget: float | None = None  # wall-clock seconds of the whole run, including its evaluations
    batch_size: int = 128  # images per step, summed over all devices
    # Images per forward and backward pass on a device; the gradients of a step are summed over its passes. None for one
    # pass. A network with batch normalization then sees the statistics of so many images.
    micro_batch_size: int | None = None
    optimizer: str = "adamw"  # "adamw" (betas 0.9 and 0.999) or "sgd" (momentum 0.9)
    learning_rate: float = 1e-3  # peak learning rate
    # Fraction of the run in which the learning rate rises linearly; then it falls to zero along a cosine.
    warmup_fraction: float = 0.1
    # Applied to weight matrices only. With "adamw" it is decoupled and multiplied by the learning rate, as in torch
    # (the paper uses 0.03 or 0.1); with "sgd" it is a plain L2 penalty.
    weight_decay: float = 0.1
    grad_clip: float | None = 1.0  # maximum global norm of the gradient; None for no limit
    # Decay of an exponential moving average of the weights, which is then evaluated and saved; None for no average.
    ema_decay: float | None = None
    augreg: str = "none"  # AugReg level, a key of `windvane.vision.AUGREG_LEVELS`
    # "random_resized_crop" (random area and aspect ratio), "random_shift" (by up to an eighth of the image size; for
    # small images) or "none".
    crop: str = "random_resized_crop"
    min_crop_area: float = 0.05  # smallest fraction of the image area that "random_resized_crop" keeps
    # What is evaluated of an image: "center" (the short side is resized to 8/7 of the image size, 256 for 224, and the
    # central square is cropped) or "squeeze" (all of it, stretched to a square). None for "center" where training takes
    # random_resized_crop, else "squeeze".
    eval_crop: str | None = None
    # Flip half of the images. Not for digits, letters and signs.
    horizontal_flip: bool = True
    dropout: float = 0.0  # the paper uses 0 or 0.1
    drop_path: float = 0.0  # highest rate of stochastic depth, which rises linearly with depth; the paper uses 0 or 0.1
    label_smoothing: float = 0.0  # label smoothing; the paper uses none
    # Principal components of what all blocks see that the classifier layer reads; None for a layer that reads the last
    # features, as networks of timm have it. Fine-tuning in a given time sets it, as it has to learn the components.
    block_components: int | None = None
    # Fraction of the layers, counted from the input, that are not trained; for pre-trained weights.
    freeze_fraction: float = 0.0
    # "cross_entropy", or "binary_cross_entropy" (one yes-or-no decision per class, summed over the classes).
    loss: str = "cross_entropy"
    # Alpha of `windvane.curvature.FisherPenalty`, 0.001 to 0.1 in its paper; None or 0 for no penalty. With "adamw" it
    # starts where the warmup ends, with "sgd" at the first step.
    fisher_penalty: float | None = None
    track_fisher: bool = False  # measure the Fisher trace every 50 steps, and more often early on
    fisher_interval: int | None = None  # steps from one measurement to the next, instead
    # Folder of an earlier run that tracked the trace and trained well, with the same network (model, model_kwargs,
    # image size, loss, number of classes) and other settings. This run then tracks the trace too, and an alarm compares
    # both at equal entropy of their predictions.
    fisher_reference: str | None = None
    # "float32", "bfloat16", or "auto": bfloat16 on GPUs that support it, and on CPUs that support it for networks of
    # more than 20 million multiply-adds per image without depthwise convolutions (up to twice as fast).
    precision: str = "auto"
    compile: bool = False  # use ``torch.compile``; costs about a minute at the start
    seed: int = 0  # root of all randomness

    def __post_init__(self) -> None:
        check_model_name(self.model)
        check_usable(
            "model_kwargs", self.model_kwargs, _is_json(self.model_kwargs), "a mapping of names to JSON values"
        )
        _check_text("weights", self.weights, "the name or path of weights")
        check_number("image_size", self.image_size, at_least=1, whole=True)
        _check_triple("mean", self.mean, positive=False)
        _check_triple("std", self.std, positive=True)
        check_number("epochs", self.epochs, above=0, optional=True)
        check_number("steps", self.steps, at_least=1, whole=True, optional=True)
        check_number("time_budget", self.time_budget, above=0, optional=True)
        check_number("batch_size", self.batch_size, at_least=1, whole=True)
        check_number("micro_batch_size", self.micro_batch_size, at_least=1, whole=True, optional=True)
        check_choice("optimizer", self.optimizer, ("adamw", "sgd"))
        check_number("learning_rate", self.learning_rate, above=0)
        check_number("warmup_fraction", self.warmup_fraction, at_least=0, below=1)
        check_number("weight_decay", self.weight_decay, at_least=0)
        check_number("grad_clip", self.grad_clip, above=0, optional=True)
        check_number("ema_decay", self.ema_decay, above=0, below=1, optional=True)
        check_choice("augreg", self.augreg, AUGREG_LEVELS)
        check_choice("crop", self.crop, ("random_resized_crop", "random_shift", "none"))
        check_number("min_crop_area", self.min_crop_area, above=0, below=1)
        if self.eval_crop is not None:
            check_choice("eval_crop", self.eval_crop, ("center", "squeeze"))
        check_number("block_components", self.block_components, at_least=1, whole=True, optional=True)
        check_choice("loss", self.loss, ("cross_entropy", "binary_cross_entropy"))
        for name in ("dropout", "drop_path", "label_smoothing", "freeze_fraction"):
            check_number(name, getattr(self, name), at_least=0, below=1)
        check_number("fisher_penalty", self.fisher_penalty, at_least=0, optional=True)
        check_number("fisher_interval", self.fisher_interval, at_least=1, whole=True, optional=True)
        _check_text("fisher_reference", self.fisher_reference, "the path of a run")
        check_choice("precision", self.precision, ("auto", "float32", "bfloat16"))
        for name in ("horizontal_flip", "track_fisher", "compile"):
            check_usable(name, getattr(self, name), isinstance(getattr(self, name), bool), "True or False")
        check_number("seed", self.seed, at_least=0, below=2**32, whole=True)
        lengths = {name: getattr(self, name) for name in ("epochs", "steps", "time_budget")}
        if sum(value is not None for value in lengths.values()) != 1:
            given = ", ".join(f"{name}={value!r}" for name, value in lengths.items())
            raise InputError(f"{given}: exactly one of them sets the length of the training.")

    @property
    def normalization(self) -> tuple[Triple, Triple]:
        """Mean and standard deviation of each channel, for pixels in [0, 1]."""
        return self.mean or _HALF, self.std or _HALF

    @property
    def crops_center(self) -> bool:
        """Whether the central square of an image is evaluated, or all of it."""
        return self.eval_crop == "center" or (self.eval_crop is None and self.crop == "random_resized_crop")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, for `recipe_from_json`."""
        values = {**vars(self), "model_kwargs": dict(self.model_kwargs)}
        content: dict[str, Any] = json.loads(json.dumps(values))  # tuples become lists, as in a file
        return content


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe that comes with windvane, and what is known about it."""

    name: str
    recipe: Recipe
    command: str  # the shell command that trains it
    cost: str  # of the whole run: operations, as 3 x 2 x MACs x images x epochs, or time
    expected: str  # accuracy, and who measured it


def recipe_from_json(content: Any) -> Recipe:
    """Read what `Recipe.to_json` wrote; missing fields take their defaults."""
    if not isinstance(content, Mapping) or "model" not in content:
        raise InputError(f"{content!r} is no recipe. Allowed: a mapping of the fields of Recipe, with model.")
    known = [one.name for one in fields(Recipe)]
    for name in content:
        check_choice("field of the recipe", name, known)
    triples = {name: tuple(content[name]) for name in ("mean", "std") if isinstance(content.get(name), list)}
    return Recipe(**{**content, **triples})


def list_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with windvane."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.json")))


def load_recipe(name: str) -> NamedRecipe:
    """Load a recipe that comes with windvane.

    Parameters
    ----------
    name
        One of `list_recipes`.

    Returns
    -------
    NamedRecipe
        The recipe, its cost and the accuracy to expect.

    Examples
    --------
    >>> load_recipe("vit_lite_7_4_cifar10").recipe.epochs
    200
    """
    check_choice("recipe", name, list_recipes())
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return NamedRecipe(name, recipe_from_json(content.pop("recipe")), **content)


def check_model_name(name: Any) -> None:
    """Raise if timm has no model, or no pre-trained tag, of this name."""
    if not isinstance(name, str) or not timm.is_model(name.partition(".")[0]):
        raise unknown_name_error("model", name, [*timm.list_models(), *vit_lite.NAMES])
    try:
        timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise unknown_name_error("model", name, timm.list_pretrained(name.partition(".")[0] + ".*")) from error


def _is_json(value: Any) -> bool:
    try:
        json.dumps(dict(value))
    except (TypeError, ValueError):
        return False
    return isinstance(value, Mapping)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_text(argument: str, given: Any, allowed: str) -> None:
    check_usable(argument, given, given is None or (isinstance(given, str) and given != ""), f"{allowed}, or None")


def _check_triple(argument: str, given: Any, *, positive: bool) -> None:
    usable = isinstance(given, tuple) and len(given) == 3
    usable = usable and all(_is_number(x) and (x > 0 if positive else x >= 0) for x in given)
    limit = "above 0" if positive else "of at least 0"
    check_usable(argument, given, given is None or usable, f"a tuple of three numbers {limit}, or None")
