"""Which of several pre-trained checkpoints to adapt.

The paper's finding (arXiv 2106.10270, section 4.5): the one with the best score upstream, adapted alone, is about as
good as the best of all of them adapted: in 36 of 45 cells within 0.7 points, at worst 3.6 below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from windvane.data.images import ImageSplits
from windvane.errors import InputError, unknown
from windvane.vision.recipe import Recipe
from windvane.vision.training.run import TrainingResult
from windvane.vision.training.train import train

STRATEGIES = ("upstream", "adapt")


@dataclass(frozen=True)
class PretrainedCheckpoint:
    """Pre-trained weights that may be adapted.

    Attributes
    ----------
    name
        For people.
    recipe
        How it is adapted; its weights are the checkpoint.
    upstream_score
        On the validation images of its own training; larger is better.
    """

    name: str
    recipe: Recipe
    upstream_score: float


@dataclass(frozen=True)
class CheckpointSelection:
    """The checkpoint that was chosen.

    Attributes
    ----------
    checkpoint
        The one.
    reason
        In words.
    scores
        Validation accuracy of each checkpoint that was adapted, by name.
    trained
        The adapted one, where the choice adapted it.
    """

    checkpoint: PretrainedCheckpoint
    reason: str
    scores: dict[str, float] = field(default_factory=dict)
    trained: TrainingResult | None = None


def select_checkpoint(
    checkpoints: Sequence[PretrainedCheckpoint],
    *,
    strategy: str = "upstream",
    data: ImageSplits | None = None,
    time_budget: float | None = None,
    out: str | Path | None = None,
    quiet: bool = True,
) -> CheckpointSelection:
    """Choose the checkpoint to adapt.

    Parameters
    ----------
    checkpoints
        At least one.
    strategy
        "upstream": the one with the best score of its own training; costs nothing. "adapt": every one is adapted, and
        the best validation accuracy decides.
    data
        For "adapt": training and validation images.
    time_budget
        For "adapt": of all of them together, in equal parts; None for what their recipes say.
    out
        For "adapt": a folder with a run a checkpoint; None to keep nothing.
    quiet
        Say nothing on the standard error stream.

    Returns
    -------
    CheckpointSelection
        The checkpoint, why, and its adapted network where there is one.

    Raises
    ------
    InputError
        Where an argument is not usable.
    """
    if strategy not in STRATEGIES:
        raise unknown("strategy", strategy, STRATEGIES)
    names = [one.name for one in checkpoints]
    if not names or len(set(names)) < len(names):
        raise InputError(f"checkpoints={names!r} are not usable. Allowed: at least one, each with its own name.")
    if strategy == "upstream":
        odd = [one.name for one in checkpoints if not math.isfinite(one.upstream_score)]
        if odd:
            raise InputError(f"checkpoints without an upstream score: {', '.join(odd)}.")
        best = max(checkpoints, key=lambda one: one.upstream_score)
        return CheckpointSelection(best, f"the best upstream score of {len(names)}: {best.upstream_score:.4g}")
    if data is None or data.valid is None:
        raise InputError("strategy='adapt' needs data with validation images, which decide.")
    adapted: dict[str, TrainingResult] = {}
    for one in checkpoints:
        recipe = one.recipe
        if time_budget is not None:
            recipe = replace(recipe, epochs=None, steps=None, time_budget=time_budget / len(names))
        adapted[one.name] = train(recipe, data, out=None if out is None else Path(out) / one.name, quiet=quiet)
    scores = {name: trained.best.valid_accuracy for name, trained in adapted.items()}
    best = max(checkpoints, key=lambda one: scores[one.name])
    reason = f"the best validation accuracy of {len(names)} adapted: {scores[best.name]:.4g}"
    return CheckpointSelection(best, reason, scores, adapted[best.name])
