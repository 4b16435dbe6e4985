"""Recipe: all that decides how one network is trained, in one frozen value that is checked when made.

The defaults follow "How to train your ViT" (Steiner et al., arXiv 2106.10270, section 3.4), except for the batch and
the size of images, which fit one small device. Notation: rates, shares and decays are plain numbers, sizes are pixels.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import timm

from windvane.errors import InputError, unknown
from windvane.nn import lite  # registers its networks with timm
from windvane.nn.augment import AUGREG_LEVELS

FOLDER = Path(__file__).parent / "recipes"

OPTIMISERS = ("adamw", "sgd")
CROPS = ("inception", "shift", "none")
LOSSES = ("softmax", "sigmoid")
PRECISIONS = ("auto", "float32", "bfloat16")
MOST_SEED = 2**32 - 1

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Recipe:
    """How one network is trained.

    Exactly one of `epochs`, `steps` and `seconds` says for how long.

    Attributes
    ----------
    model
        Any name that timm knows, as in ``vit_tiny_patch16_224``; windvane adds ViT-Lite and CCT, as in
        ``vit_lite_7_4`` and ``cct_7_3x1``.
    options
        Further arguments of that network for ``timm.create_model``, as in ``{"patch_size": 8}``. JSON values.
    weights
        Where training starts from: "timm" for those of a hub, the path of a .safetensors, .npz or .pth file, a folder
        of a windvane run, or "efficientnet_lite0" to "efficientnet_lite2" for those of the installed packages. None
        for random ones. With weights the head is reset to zero.
    image_size
        Images are squares of this many pixels a side.
    mean, std
        Of each colour, in pixels between 0 and 1: what the network sees is (pixel - mean) / std. With weights, those
        that they were trained with replace the default here. The paper's range is
        [-1, 1].
    epochs, steps, seconds
        Passes over the training images (also parts of one), steps of the optimiser, or the wall-clock time of a whole
        run with its evaluations.
    batch
        Images a step, over all devices.
    optimiser
        "adamw" (b1 = 0.9, b2 = 0.999) or "sgd" (momentum 0.9).
    rate
        Peak learning rate.
    warmup
        Share of the run in which the rate rises linearly; then it falls to zero along a cosine.
    weight_decay
        Of weight matrices alone. It is decoupled and multiplied by the rate, as in torch's AdamW (the paper's 0.03 or
        0.1); with "sgd" it is the plain L2 penalty.
    clip
        Largest global norm of the gradient; None for no limit.
    augreg
        AugReg level, a name in `windvane.nn.AUGREG_LEVELS`.
    regularisation
        Dropout and the largest drop rate of stochastic depth, which rises linearly with depth; the paper's are 0 and
        0.1.
    crop
        "inception" (random area and aspect ratio), "shift" (by up to an eighth of the size; for small images) or
        "none".
    smallest_crop
        Smallest share of an image's area that "inception" keeps.
    flip
        Whether half of the images are mirrored; not for digits, letters and signs.
    frozen
        Share of the layers, counted from the image on, that stay as they are; for weights that were learned elsewhere.
    loss
        "softmax", or "sigmoid" (a yes or no for each class, summed over classes).
    smoothing
        Label smoothing; the paper has none.
    ema
        Decay of a moving average of the weights, which then is what is judged and kept; None for none.
    fisher_penalty
        Alpha of `windvane.curvature.FisherPenalty`, 0.001 to 0.1 in its paper; None or 0 for no penalty. With "adamw"
        it starts where the warmup ends, with "sgd" at once.
    track_fisher
        Whether the Fisher trace is measured, every 50 steps and more often early on.
    fisher_reference
        Folder of an earlier run that tracked it and went well, with other settings but the same network (model,
        options, image size, loss, number of classes): this run tracks it too, and the alarm compares the two where they
        are equally certain.
    precision
        "float32", "bfloat16", or "auto": bfloat16 on a GPU that has it, and on a CPU that has it for networks of more
        than 20 million products an image and no depthwise convolutions (up to twice as fast).
    compile
        Whether torch.compile makes the network faster; a minute at the start.
    seed
        Root of all randomness.

    Raises
    ------
    InputError
        Where a field is not usable; names it, what came and what is allowed.
    """

    model: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    image_size: int = 224
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)
    epochs: float | None = None
    steps: int | None = None
    seconds: float | None = None
    batch: int = 128
    optimiser: str = "adamw"
    rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.1
    clip: float | None = 1.0
    augreg: str = "none"
    regularisation: float = 0.0
    crop: str = "inception"
    smallest_crop: float = 0.05
    flip: bool = True
    frozen: float = 0.0
    loss: str = "softmax"
    smoothing: float = 0.0
    ema: float | None = None
    fisher_penalty: float | None = None
    track_fisher: bool = False
    fisher_reference: str | None = None
    precision: str = "auto"
    compile: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_model(self.model)
        for name, allowed in _NAMES.items():
            if getattr(self, name) not in allowed:
                raise unknown(name, getattr(self, name), allowed)
        for name, (fits, words) in _RULES.items():
            value = getattr(self, name)
            if not (fits(value) or (value is None and name in _OPTIONAL)):
                none = ", or None" if name in _OPTIONAL else ""
                raise InputError(f"{name}={value!r} is not usable. Allowed: {words}{none}.")
        lengths = {name: getattr(self, name) for name in ("epochs", "steps", "seconds")}
        if sum(value is not None for value in lengths.values()) != 1:
            given = ", ".join(f"{name}={value!r}" for name, value in lengths.items())
            raise InputError(f"{given}: exactly one of them says how long to train.")

    def to_json(self) -> dict[str, Any]:
        """Make a dictionary that JSON can hold; `recipe_from_json` reads it."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std), "options": dict(self.options)}


@dataclass(frozen=True)
class NamedRecipe:
    """A recipe with what is known of it.

    Attributes
    ----------
    name
        What it is called.
    recipe
        The recipe.
    command
        How the shell trains it.
    cost
        Of the whole run: operations, as 3 x 2 x MACs x images x epochs, or time.
    expected
        What comes out, and who measured that.
    """

    name: str
    recipe: Recipe
    command: str
    cost: str
    expected: str


def recipe_from_json(content: Any) -> Recipe:
    """Read what `Recipe.to_json` made.

    Parameters
    ----------
    content
        The dictionary; fields that are missing have their defaults.

    Returns
    -------
    Recipe
        The same recipe.

    Raises
    ------
    InputError
        Where a field is not known or not usable.
    """
    if not isinstance(content, Mapping) or "model" not in content:
        raise InputError(f"{content!r} is no recipe. Allowed: a mapping of the fields of Recipe, with model.")
    known = [one.name for one in fields(Recipe)]
    for name in content:
        if name not in known:
            raise unknown("field of the recipe", name, known)
    triples = {name: tuple(content[name]) for name in ("mean", "std") if isinstance(content.get(name), list)}
    return Recipe(**{**content, **triples})


def named_recipes() -> tuple[str, ...]:
    """List the recipes that come with windvane."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.json")))


def read_recipe(name: str) -> NamedRecipe:
    """Read a recipe that comes with windvane.

    Parameters
    ----------
    name
        One of `named_recipes`.

    Returns
    -------
    NamedRecipe
        The recipe, and what is known of it.

    Raises
    ------
    InputError
        Where there is none of that name.
    """
    if name not in named_recipes():
        raise unknown("recipe", name, named_recipes())
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return NamedRecipe(name, recipe_from_json(content.pop("recipe")), **content)


def check_model(name: Any) -> None:
    """Refuse what is no name of a network.

    Parameters
    ----------
    name
        Of timm, with or without the tag of its weights.

    Raises
    ------
    InputError
        Naming the nearest that there are.
    """
    if not isinstance(name, str) or not timm.is_model(name.partition(".")[0]):
        raise unknown("model", name, [*timm.list_models(), *lite.NAMES])
    try:
        timm.models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise unknown("model", name, timm.list_pretrained(name.partition(".")[0] + ".*")) from error


def _is_number(low: float, high: float, *, open_low: bool = False) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return low < value < high if open_low else low <= value < high

    return fits


def _is_whole(low: int, high: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_triple(positive: bool) -> Callable[[Any], bool]:
    number = _is_number(0.0, math.inf, open_low=positive)
    return lambda value: isinstance(value, tuple) and len(value) == 3 and all(map(number, value))


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_options(value: Any) -> bool:
    try:
        return isinstance(value, Mapping) and json.loads(json.dumps(dict(value))) is not None
    except (TypeError, ValueError):
        return False


_NAMES = {
    "optimiser": OPTIMISERS,
    "augreg": tuple(AUGREG_LEVELS),
    "crop": CROPS,
    "loss": LOSSES,
    "precision": PRECISIONS,
}
_OPTIONAL = {"weights", "epochs", "steps", "seconds", "clip", "ema", "fisher_penalty", "fisher_reference"}
_ABOVE_ZERO = (_is_number(0.0, math.inf, open_low=True), "a number above 0")
_SHARE = (_is_number(0.0, 1.0), "a number of at least 0 and below 1")
_YES_OR_NO = (_is_bool, "True or False")
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "options": (_is_options, "a mapping of names to JSON values"),
    "weights": (lambda value: isinstance(value, str) and value != "", "the name or path of weights"),
    "image_size": (_is_whole(1), "a whole number of at least 1"),
    "mean": (_is_triple(positive=False), "a tuple of three numbers of at least 0"),
    "std": (_is_triple(positive=True), "a tuple of three numbers above 0"),
    "epochs": _ABOVE_ZERO,
    "steps": (_is_whole(1), "a whole number of at least 1"),
    "seconds": _ABOVE_ZERO,
    "batch": (_is_whole(1), "a whole number of at least 1"),
    "rate": _ABOVE_ZERO,
    "warmup": _SHARE,
    "weight_decay": (_is_number(0.0, math.inf), "a number of at least 0"),
    "clip": _ABOVE_ZERO,
    "regularisation": _SHARE,
    "smallest_crop": (_is_number(0.0, 1.0, open_low=True), "a number above 0 and below 1"),
    "flip": _YES_OR_NO,
    "frozen": _SHARE,
    "smoothing": _SHARE,
    "ema": (_is_number(0.0, 1.0, open_low=True), "a number above 0 and below 1"),
    "fisher_penalty": (_is_number(0.0, math.inf), "a number of at least 0"),
    "track_fisher": _YES_OR_NO,
    "fisher_reference": (lambda value: isinstance(value, str) and value != "", "the path of a run"),
    "compile": _YES_OR_NO,
    "seed": (_is_whole(0, MOST_SEED), f"a whole number up to {MOST_SEED}"),
}
