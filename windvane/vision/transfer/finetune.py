"""Fine-tune pre-trained weights by the protocol of "How to train your ViT?" (arXiv 2106.10270, section 3.5, Table 4).

SGD with momentum 0.9, gradients clipped to norm 1, a short cosine schedule with a warmup, no weight decay, no AugReg,
the classifier layer reset to zero. With a time budget the optimizer stays, and `windvane.vision.transfer.timed` chooses
image size, layers and epochs by what they cost on this device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from windvane.data.images import ImageSplits
from windvane.errors import InputError
from windvane.vision.networks.create import default_image_size
from windvane.vision.networks.weights import PACKAGED_WEIGHTS, recipe_of_run
from windvane.vision.recipe import Recipe
from windvane.vision.training.device import find_device
from windvane.vision.training.run import TrainingResult
from windvane.vision.training.train import train
from windvane.vision.transfer.select_checkpoint import select_run
from windvane.vision.transfer.timed import finetune_timed

# The default of the published code for new data: 500 steps of 512 images at 0.03, 100 of them warmup.
STEPS, BATCH_SIZE, LEARNING_RATE, WARMUP_FRACTION = 500, 512, 0.03, 0.2
# With a time budget: few steps, which start from the classifier layer of a linear probe.
TIMED_BATCH_SIZE, TIMED_LEARNING_RATE, TIMED_CROP_AREA = 32, 0.05, 0.5
CPU_TIME_BUDGET = 600.0  # seconds; the 256,000 images of 500 steps would take hours on a CPU


def finetune(
    weights: str | Sequence[str],
    data: ImageSplits,
    *,
    model: str | None = None,
    time_budget: float | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> TrainingResult:
    """Fine-tune pre-trained weights on labelled images.

    For more settings, change the recipe of `finetune_recipe` and pass it to `train` or `finetune_timed`.

    Parameters
    ----------
    weights
        Pre-trained weights, as in `finetune_recipe`. Of several folders of runs the one with the best validation
        accuracy is fine-tuned, as with `select_run`.
    data
        Training images; the validation images, if any, choose the best checkpoint.
    model
        Name of the network; None if the weights determine it (installed packages, folders of runs).
    time_budget
        Seconds of the whole call; image size, layers and epochs are then chosen by what they cost on this device. None
        for the 500 steps of 512 images of the paper on a GPU, and for ten minutes on a CPU.
    out, resume, device, quiet
        As in `train`.

    Returns
    -------
    TrainingResult
        The best model and the history of its training.

    Examples
    --------
    >>> result = finetune("efficientnet_lite0", read_images("flowers/"), time_budget=300)  # doctest: +SKIP
    """
    budget = default_time_budget(device) if time_budget is None else time_budget
    chosen = weights if isinstance(weights, str) else select_run(weights).checkpoint.name
    recipe = finetune_recipe(chosen, model=model, time_budget=budget)
    run = train if budget is None else finetune_timed
    return run(recipe, data, out=out, resume=resume, device=device, quiet=quiet)


def default_time_budget(device: str | None = None) -> float | None:
    """Return the time budget of a fine-tuning that sets none.

    Parameters
    ----------
    device
        As named by torch; None for a GPU if there is one.

    Returns
    -------
    float or None
        Seconds; None on a GPU, where the steps of the paper apply.

    Examples
    --------
    >>> default_time_budget("cpu")
    600.0
    """
    return CPU_TIME_BUDGET if find_device(device, "float32").device.type == "cpu" else None


def finetune_recipe(
    weights: str,
    *,
    model: str | None = None,
    image_size: int | None = None,
    steps: int | None = None,
    time_budget: float | None = None,
    seed: int = 0,
) -> Recipe:
    """Return a recipe that fine-tunes by the protocol of the paper; ``dataclasses.replace`` changes other fields.

    Parameters
    ----------
    weights
        Pre-trained weights, as in `Recipe`, or with their network: "timm/NAME", "NAME=FILE".
    model
        Name of the network; None if the weights determine it (installed packages, folders of runs, texts with it).
    image_size
        Width and height in pixels; None for the size of the pre-training. Position embeddings are resized.
    steps, time_budget
        Length of the run, as in `Recipe`; 500 steps if neither is given. With a time budget, batch size, learning rate
        and crops are those of short schedules that start from a linear probe.
    seed
        Root of all randomness.

    Returns
    -------
    Recipe
        For `train`, or with a time budget for `finetune_timed`.

    Examples
    --------
    >>> finetune_recipe("efficientnet_lite0").model
    'tf_efficientnet_lite0'
    """
    if model is None:
        model, weights = _split_weights(weights)
    earlier = recipe_of_run(weights)
    name = model or (PACKAGED_WEIGHTS.get(weights) if earlier is None else earlier.model)
    if name is None:
        raise InputError(
            f"weights={weights!r} do not say of which network they are. Allowed: {', '.join(PACKAGED_WEIGHTS)}, "
            "timm/NAME, NAME=FILE, the folder of a run, or others with model=."
        )
    if image_size is None:
        image_size = default_image_size(name) if earlier is None else earlier.image_size
    paper = Recipe(
        model=name,
        model_kwargs={} if earlier is None else earlier.model_kwargs,
        weights=weights,
        image_size=image_size,
        steps=STEPS if steps is None and time_budget is None else steps,
        time_budget=time_budget,
        batch_size=BATCH_SIZE,
        optimizer="sgd",
        learning_rate=LEARNING_RATE,
        warmup_fraction=WARMUP_FRACTION,
        weight_decay=0.0,
        seed=seed,
    )
    if time_budget is None:
        return paper
    return replace(paper, batch_size=TIMED_BATCH_SIZE, learning_rate=TIMED_LEARNING_RATE, min_crop_area=TIMED_CROP_AREA)


def _split_weights(text: str) -> tuple[str | None, str]:
    """Return the network that a text names, if it does, and the weights: "timm/NAME" or "NAME=FILE"."""
    if text.startswith("timm/"):
        return text.removeprefix("timm/"), "timm"
    name, equals, file = text.partition("=")
    return (name, file) if equals and not Path(text).exists() else (None, text)
