"""What a transfer can afford in its time: pixels, layers, epochs, or a linear probe alone. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from windvane.vision.networks.profiling import Timing

FROZEN = (0.0, 0.5)  # shares of the layers that may stay as they are, the costliest first
ENOUGH, FEWEST = 6.0, 1.0  # epochs: at which more pixels come before more epochs, and below which none is trained
SMALLEST, LEAST = 64, 0.4  # pixels a side, and share of the size of the weights, below which no size is tried
_JUDGING = 0.05  # of the time, for evaluations beside the first and the last
HEAD_SHARE = 0.1  # of the time, at most, for the regressions of the probe
_PROBE = 0.8  # of the time, at most, for looking at images where nothing else is done


@dataclass(frozen=True)
class FinetunePlan:
    """How a transfer uses its time.

    Attributes
    ----------
    image_size
        Pixels a side.
    freeze_fraction
        Share of the layers that stay as they are.
    n_train, n_valid
        Images that are used of the two parts; fewer than there are only where time is short.
    epochs
        Of fine-tuning after the probe, about; 0 for the probe alone.
    """

    image_size: int
    freeze_fraction: float
    n_train: int
    n_valid: int
    epochs: float


def candidate_image_sizes(most: int, unit: int) -> list[int]:
    """List the sizes that are tried.

    Parameters
    ----------
    most
        Pixels a side that the weights were learned at; the first of the list.
    unit
        Of which the smaller ones are multiples: the pixels that become one token or one cell.

    Returns
    -------
    list of int
        From the largest on.
    """
    least = max(SMALLEST, LEAST * most)
    return [most, *(size for size in range((most - 1) // unit * unit, 0, -unit) if size >= least)]


def plan_finetuning(costs: Timing, sizes: Sequence[int], n_train: int, n_valid: int, seconds: float) -> FinetunePlan:
    """Choose the first way that leaves enough epochs, of all sizes and shares of layers, the costliest first.

    Parameters
    ----------
    costs
        Of an image.
    sizes
        Pixels a side, from the largest on.
    n_train, n_valid
        Images of the two parts.
    seconds
        That are left.

    Returns
    -------
    Way
        Where none leaves an epoch, a probe alone: at the largest size that lets it see all images, else of fewer.
    """
    ways = [
        FinetunePlan(size, frozen, n_train, n_valid, _epochs(costs, size, frozen, (n_train, n_valid), seconds))
        for size in sizes
        for frozen in FROZEN
    ]
    chosen = next((way for way in ways if way.epochs >= ENOUGH), max(ways, key=lambda way: way.epochs))
    if chosen.epochs >= FEWEST:
        return chosen
    time = _PROBE * seconds
    for size in sizes:
        each = costs.decode + costs.scale(size) * costs.look
        share = time / (each * (n_train + 2 * n_valid))
        if share >= 1.0 or size == sizes[-1]:
            break
    used_train, used_valid = (max(1, int(n * min(1.0, share))) if n else 0 for n in (n_train, n_valid))
    return FinetunePlan(size, 0.0, used_train, used_valid, 0.0)


def _epochs(costs: Timing, size: int, frozen: float, n: tuple[int, int], seconds: float) -> float:
    """Count the epochs that are left after the probe and the evaluations; below 0 where there is no time for these."""
    (n_train, n_valid), scale = n, costs.scale(size)
    probe = costs.decode * (n_train + n_valid) + scale * costs.look * (n_train + 2 * n_valid)
    judging = 2 * scale * costs.look * n_valid + _JUDGING * seconds
    left = seconds - probe - judging - HEAD_SHARE * seconds
    return left / (n_train * scale * costs.learn[frozen])


def format_plan(way: FinetunePlan, costs: Timing, n_train: int, n_valid: int, seconds: float) -> str:
    """Say what was chosen and why.

    Parameters
    ----------
    way
        From `afford`.
    costs, n_train, n_valid, seconds
        What it was chosen by.

    Returns
    -------
    str
        Sentences.
    """
    learn = 1e3 * costs.learn[0.0]
    words = (
        f"{seconds:.0f} s are left for {n_train:,} images. At {costs.size} pixels one takes {1e3 * costs.look:.3g} ms"
        f" to look at and {learn:.3g} ms to learn from here. Chosen: {way.image_size} pixels,"
    )
    if way.epochs:
        layers = (
            "the whole network"
            if not way.freeze_fraction
            else f"all but the first {way.freeze_fraction:.0%} of the layers"
        )
        why = f"more pixels or layers would leave fewer than {ENOUGH:g} epochs"
        if (way.image_size, way.freeze_fraction) == (costs.size, 0.0):
            why = "nothing had to be saved"
        elif way.epochs < ENOUGH:
            why = "the cheapest there is"
        return f"{words} a linear probe, then about {way.epochs:.0f} epochs of {layers}; {why}."
    few = [
        f"{used:,} of {given:,} {name} images"
        for used, given, name in ((way.n_train, n_train, "training"), (way.n_valid, n_valid, "validation"))
        if used < given
    ]
    fewer = f" of {' and '.join(few)}" if few else ""
    return f"{words} a linear probe{fewer} alone; there is no time for one epoch of fine-tuning."
