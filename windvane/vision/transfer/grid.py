"""A small grid of learning rates and lengths within the time of a fine-tuning, compared on the validation images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pandas as pd

from windvane.data.images import ImageSplits
from windvane.errors import InputError, check_number
from windvane.vision.recipe import Recipe
from windvane.vision.training.run import TrainingResult
from windvane.vision.transfer.timed import finetune_timed

# Three learning rates a factor of about three apart and two lengths, as in "How to train your ViT?", table 4, for small
# sets. The paper's rates are for a classifier layer that starts at zero; these are for one that starts as a probe.
LEARNING_RATES, LENGTHS = (0.03, 0.1, 0.3), (1.0, 5.0)


@dataclass(frozen=True)
class FinetuneGrid:
    """The fine-tuning runs of a grid."""

    # One row for each run: learning_rate, seconds, valid_accuracy. The validation score of the best chose it, so it is
    # slightly too good.
    table: pd.DataFrame
    best: TrainingResult  # of the highest validation accuracy; the first of equally good ones


def finetune_grid(
    recipe: Recipe,
    data: ImageSplits,
    *,
    learning_rates: Sequence[float] = LEARNING_RATES,
    lengths: Sequence[float] = LENGTHS,
    out: str | Path | None = None,
    device: str | None = None,
    quiet: bool = False,
) -> FinetuneGrid:
    """Fine-tune with every learning rate and length within one time budget, and keep the best.

    Parameters
    ----------
    recipe
        Of `finetune_recipe` with a time budget, which all runs share in proportion to their lengths. Its learning rate
        is replaced.
    data
        Training images, and validation images, which choose.
    learning_rates
        Peak learning rates.
    lengths
        Lengths relative to each other.
    out
        Folder with one run for each pair; None to write nothing.
    device, quiet
        As in `train`.

    Returns
    -------
    FinetuneGrid
        The best fine-tuned network, and how good each was.

    Examples
    --------
    >>> grid = finetune_grid(finetune_recipe("efficientnet_lite0", time_budget=600), data)  # doctest: +SKIP
    >>> grid.table.sort_values("valid_accuracy")  # doctest: +SKIP
    """
    if recipe.time_budget is None:
        raise InputError("recipe has no time_budget. Allowed: one with the seconds of all fine-tunings together.")
    if data.valid is None or not len(data.valid):
        raise InputError("data has no validation images, which choose. Allowed: data with some.")
    if not learning_rates or not lengths:
        raise InputError("learning_rates and lengths are not usable. Allowed: at least one of each.")
    for length in lengths:
        check_number("lengths", length, above=0)
    rows, best = [], None
    seconds_per_length = recipe.time_budget / (len(learning_rates) * math.fsum(lengths))
    for length, rate in product(sorted(lengths), learning_rates):
        one = replace(recipe, learning_rate=rate, time_budget=seconds_per_length * length)
        folder = None if out is None else Path(out) / f"rate-{rate:g}-length-{length:g}"
        result = finetune_timed(one, data, out=folder, device=device, quiet=quiet)
        rows.append((rate, result.seconds, result.best.valid_accuracy))
        if best is None or result.best.valid_accuracy > best.best.valid_accuracy:
            best = result
    assert best is not None
    return FinetuneGrid(pd.DataFrame(rows, columns=["learning_rate", "seconds", "valid_accuracy"]), best)
