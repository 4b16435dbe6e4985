"""Transfer: fine-tune weights that were learned on other images, by the paper's protocol.

SGD with momentum 0.9, gradients clipped at a norm of 1, a short cosine schedule with a warmup, no weight decay, no
AugReg, the head reset to zero ("How to train your ViT", arXiv 2106.10270, section 3.5 and Table 4). In a given time the
same optimiser, but what is trained at which size is chosen by what it costs (see `windvane.nn.adapt`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from windvane.data.images import Images
from windvane.errors import InputError
from windvane.nn.adapt import adapt
from windvane.nn.networks import usual_size
from windvane.nn.place import find_place
from windvane.nn.recipe import Recipe
from windvane.nn.run import Trained
from windvane.nn.train import train
from windvane.nn.weights import CARRIED, earlier_recipe

# The published code's default for new data: 500 steps of 512 images at a rate of 0.03, 100 of them warmup.
STEPS, BATCH, RATE, WARMUP = 500, 512, 0.03, 0.2
TIMED_BATCH, TIMED_RATE, TIMED_CROP = 32, 0.01, 0.5  # from the head of a probe, in few steps
CPU_SECONDS = 600.0  # where no length is given: the 256,000 images of 500 steps would take hours there


def transfer(
    weights: str,
    data: Images,
    *,
    model: str | None = None,
    seconds: float | None = None,
    out: str | Path | None = None,
    quiet: bool = False,
) -> Trained:
    """Fine-tune weights on images; `adapt` and `train` with the recipe of `transfer_recipe` have more to set.

    Parameters
    ----------
    weights
        As in `Recipe`.
    data
        Training images, and validation images or None.
    model
        Name of the network; None where the weights say it.
    seconds
        For the whole call: size, layers and epochs are then chosen by what they cost here. None for the paper's 500
        steps of 512 images on a GPU, for ten minutes on a CPU.
    out
        Folder of the run; None to keep nothing.
    quiet
        Say nothing on the standard error stream.

    Returns
    -------
    Trained
        The best model and how it came about.

    Raises
    ------
    InputError
        Where weights, data or folder are not usable.
    """
    recipe = transfer_recipe(weights, model=model, seconds=usual_seconds() if seconds is None else seconds)
    return (train if recipe.seconds is None else adapt)(recipe, data, out=out, quiet=quiet)


def usual_seconds(device: str | None = None) -> float | None:
    """Say how long a transfer takes where nobody says it.

    Parameters
    ----------
    device
        As torch names it; None for a GPU where there is one.

    Returns
    -------
    float or None
        None where the paper's steps count.
    """
    return CPU_SECONDS if find_place(device, "float32").device.type == "cpu" else None


def transfer_recipe(
    weights: str,
    *,
    model: str | None = None,
    image_size: int | None = None,
    steps: int | None = None,
    seconds: float | None = None,
    seed: int = 0,
) -> Recipe:
    """Make the recipe of a transfer; ``dataclasses.replace`` changes what is not asked for here.

    Parameters
    ----------
    weights
        As in `Recipe`.
    model
        Name of the network; None where the weights say it: those of packages, and folders of runs.
    image_size
        Pixels a side; None for the size that the weights were learned at. Position embeddings are resized.
    steps, seconds
        How long; 500 steps where neither is given. With seconds, batch, rate and crops are those of short schedules
        that begin with a probe.
    seed
        Root of all randomness.

    Returns
    -------
    Recipe
        By the paper's protocol.

    Raises
    ------
    InputError
        Where the model is not known.
    """
    earlier = earlier_recipe(weights)
    options = {} if earlier is None else earlier.options
    name = model or (CARRIED.get(weights) if earlier is None else earlier.model)
    if name is None:
        raise InputError(f"weights={weights!r} do not say which network they are of; give model.")
    if image_size is None:
        image_size = usual_size(name) if earlier is None else earlier.image_size
    paper = Recipe(
        model=name,
        options=options,
        weights=weights,
        image_size=image_size,
        steps=STEPS if steps is None and seconds is None else steps,
        seconds=seconds,
        batch=BATCH,
        optimiser="sgd",
        rate=RATE,
        warmup=WARMUP,
        weight_decay=0.0,
        seed=seed,
    )
    if seconds is None:
        return paper
    return replace(paper, batch=TIMED_BATCH, rate=TIMED_RATE, smallest_crop=TIMED_CROP)
