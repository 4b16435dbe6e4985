"""What fine-tuning can afford in its time: image size, layers, epochs, or a linear probe only. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from windvane.data.images import ImageDataset, ImageSplits
from windvane.vision.networks.profiling import Timing
from windvane.vision.recipe import Recipe

FREEZE_FRACTIONS = (0.0, 0.5)  # of the layers, the costliest first
# At so many images shown in training, and epochs between these, more pixels come before more epochs.
ENOUGH_IMAGES, FEWEST_EPOCHS, MOST_EPOCHS = 4_000, 1.2, 6.0
MIN_EPOCHS = 1.0  # below which none is trained
START_IMAGES = 1_000  # that a fine-tuning starts from, at most, where classes are not many
FLIPPED_IMAGES = 200  # that decide whether images may be flipped
MIN_SIZE, MIN_SIZE_FRACTION = 64, 0.4  # pixels, and fraction of the size of the weights, of the smallest images
ALWAYS_USEFUL_SIZE, MAX_ENLARGEMENT = 96, 5  # pixels; images are enlarged to it, or up to so many times
HEAD_SHARE = 0.1  # of the time, at most, for the regressions of the probe
_EVALUATION_SHARE = 0.05  # of the time, for evaluations besides the first and the last
_PROBE_SHARE = 0.8  # of the time, at most, for extracting features where nothing else is done
_MIN_BATCHES = 8  # per epoch, where images are few


@dataclass(frozen=True)
class FinetunePlan:
    """How a fine-tuning uses its time."""

    image_size: int  # width and height in pixels
    freeze_fraction: float  # of the layers
    n_train: int  # images that are used; fewer than there are only where time is short
    n_valid: int
    epochs: float  # of fine-tuning after the probe, about; 0 for the probe only
    horizontal_flip: bool = True
    block_components: int | None = None  # that the classifier layer reads, as in `Recipe`
    notes: tuple[str, ...] = ()  # why, in words

    def apply_to(self, recipe: Recipe) -> Recipe:
        """Return the recipe that is trained."""
        batch_size = max(1, min(recipe.batch_size, self.n_train // _MIN_BATCHES))
        return replace(
            recipe,
            image_size=self.image_size,
            freeze_fraction=self.freeze_fraction,
            horizontal_flip=self.horizontal_flip,
            block_components=self.block_components,
            batch_size=batch_size,
            learning_rate=recipe.learning_rate * batch_size / recipe.batch_size,
        )

    def subsample(self, data: ImageSplits, seed: int) -> ImageSplits:
        """Return the images that are used."""
        return replace(
            data,
            train=_subsample(data.train, self.n_train, seed),
            valid=None if data.valid is None else _subsample(data.valid, self.n_valid, seed),
        )


def candidate_image_sizes(largest: int, unit: int) -> list[int]:
    """Return the sizes to consider, from the largest on."""
    # `largest` is the size of the pre-training; the others are multiples of `unit`, the pixels of a token or cell.
    smallest = max(MIN_SIZE, MIN_SIZE_FRACTION * largest)
    return [largest, *(size for size in range((largest - 1) // unit * unit, 0, -unit) if size >= smallest)]


def largest_useful_size(side: int) -> int:
    """Return the image size beyond which images that are stored with this side gain nothing."""
    return max(ALWAYS_USEFUL_SIZE, MAX_ENLARGEMENT * side)


def plan_finetuning(timing: Timing, sizes: Sequence[int], n_train: int, n_valid: int, seconds: float) -> FinetunePlan:
    """Choose the costliest combination of size and layers that leaves enough epochs in the seconds that are left."""
    # If none leaves an epoch, the plan is a probe only: at the largest size that allows all images, else of fewer
    # images.
    plans = [
        FinetunePlan(size, fraction, n_train, n_valid, _epochs(timing, size, fraction, n_train, n_valid, seconds))
        for size in sizes
        for fraction in FREEZE_FRACTIONS
    ]
    enough = enough_epochs(n_train)
    plan = next((one for one in plans if one.epochs >= enough), max(plans, key=lambda one: one.epochs))
    if plan.epochs >= MIN_EPOCHS:
        return plan
    for size in sizes:
        seconds_per_image = timing.decode + timing.scale(size) * timing.forward
        share = _PROBE_SHARE * seconds / (seconds_per_image * (n_train + 2 * n_valid))
        if share >= 1.0 or size == sizes[-1]:
            break
    used_train, used_valid = (max(1, int(n * min(1.0, share))) if n else 0 for n in (n_train, n_valid))
    return FinetunePlan(size, 0.0, used_train, used_valid, 0.0)


def enough_epochs(n_train: int) -> float:
    """Return the epochs at which more pixels come before more epochs."""
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, ENOUGH_IMAGES / n_train))


def format_plan(plan: FinetunePlan, timing: Timing, n_train: int, n_valid: int, seconds: float) -> str:
    """Describe what was planned and why, given the inputs of `plan_finetuning`."""
    words = (
        f"{seconds:.0f} s are left for {n_train:,} images. At {timing.size} pixels an image takes"
        f" {1e3 * timing.forward:.3g} ms forward and {1e3 * timing.train_step[0.0]:.3g} ms in training on this device."
        f" Chosen: {plan.image_size} pixels,"
    )
    if plan.epochs:
        layers = "the whole network"
        if plan.freeze_fraction:
            layers = f"all but the first {plan.freeze_fraction:.0%} of the layers"
        enough = enough_epochs(n_train)
        why = f"more pixels or layers would leave fewer than {enough:.2g} epochs"
        if (plan.image_size, plan.freeze_fraction) == (timing.size, 0.0):
            why = "nothing had to be saved"
        elif plan.epochs < enough:
            why = "the cheapest there is"
        return f"{words} a linear probe, then about {plan.epochs:.0f} epochs of {layers}; {why}."
    fewer = [
        f"{used:,} of {given:,} {name} images"
        for used, given, name in ((plan.n_train, n_train, "training"), (plan.n_valid, n_valid, "validation"))
        if used < given
    ]
    of_fewer = f" of {' and '.join(fewer)}" if fewer else ""
    return f"{words} a linear probe{of_fewer} alone; there is no time for one epoch of fine-tuning."


def _epochs(timing: Timing, size: int, fraction: float, n_train: int, n_valid: int, seconds: float) -> float:
    """Return the epochs left after probe and evaluations; negative if there is no time for these."""
    scale = timing.scale(size)
    probed, flipped = min(n_train, START_IMAGES) + min(n_valid, START_IMAGES), min(n_valid, FLIPPED_IMAGES)
    probe = timing.decode * (n_train + n_valid + probed + flipped) + scale * timing.forward * (probed + 2 * flipped)
    evaluations = 2 * scale * timing.forward * n_valid + _EVALUATION_SHARE * seconds
    left = seconds - probe - evaluations - HEAD_SHARE * seconds
    return left / (n_train * scale * timing.train_step[fraction])


def _subsample(images: ImageDataset, n: int, seed: int) -> ImageDataset:
    """Return n random images in their order; all of them if there are no more."""
    if n >= len(images):
        return images
    return images.take(np.sort(np.random.default_rng(seed).permutation(len(images))[:n]))
