"""Which of several pre-trained checkpoints to fine-tune.

"How to train your ViT?" (arXiv 2106.10270, section 4.5) found that the checkpoint with the best upstream score, fine-
tuned alone, is about as good as the best of all fine-tuned ones: in 36 of 45 cells within 0.7 points, at worst 3.6
below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from windvane.data.images import ImageSplits
from windvane.errors import InputError, check_choice
from windvane.runtime.serialization import read_json
from windvane.vision.recipe import Recipe, recipe_from_json
from windvane.vision.saved_model import MANIFEST, is_image_model
from windvane.vision.training.run import TrainingResult
from windvane.vision.training.train import train


@dataclass(frozen=True)
class PretrainedCheckpoint:
    """Pre-trained weights that may be fine-tuned."""

    name: str  # name in reports and of the folder
    recipe: Recipe  # how to fine-tune; its weights are the checkpoint
    upstream_score: float  # validation score of the pre-training; higher is better


@dataclass(frozen=True)
class CheckpointSelection:
    """The selected checkpoint."""

    checkpoint: PretrainedCheckpoint  # the selected one
    reason: str  # why, in words
    scores: dict[str, float] = field(default_factory=dict)  # validation accuracy of each fine-tuned checkpoint, by name
    trained: TrainingResult | None = None  # the fine-tuned model, if the selection trained it


def select_run(folders: Sequence[str | Path]) -> CheckpointSelection:
    """Select the run whose best model has the highest validation accuracy, to fine-tune it.

    Parameters
    ----------
    folders
        Folders of runs with validation images, trained on the same classes.

    Returns
    -------
    CheckpointSelection
        Its `checkpoint.name` is the folder; the recipe is that of the run.

    Examples
    --------
    >>> select_run(["run/none", "run/light1"]).reason  # doctest: +SKIP
    'the best upstream score of 2: 0.667'
    """
    found, classes = [], []
    for folder in map(str, folders):
        if not is_image_model(folder):
            raise InputError(f"weights={folder!r} is no folder of a run. Allowed, where there are several: runs only.")
        manifest = read_json(Path(folder) / MANIFEST)
        score = manifest.get("best", {}).get("valid_accuracy", math.nan)
        found.append(PretrainedCheckpoint(folder, recipe_from_json(manifest["recipe"]), score))
        classes.append(manifest["classes"])
    if any(one != classes[0] for one in classes):
        raise InputError("weights: the runs were trained on different classes. Allowed: runs whose scores compare.")
    return select_checkpoint(found)


def select_checkpoint(
    checkpoints: Sequence[PretrainedCheckpoint],
    *,
    strategy: str = "upstream",
    data: ImageSplits | None = None,
    time_budget: float | None = None,
    out: str | Path | None = None,
    quiet: bool = True,
) -> CheckpointSelection:
    """Select the pre-trained checkpoint to fine-tune.

    Parameters
    ----------
    checkpoints
        At least one, with different names.
    strategy
        "upstream": the one with the best upstream score, which costs nothing. "adapt": fine-tune all and take the one
        with the best validation accuracy.
    data
        For "adapt": training and validation images.
    time_budget
        For "adapt": seconds of all runs together, in equal parts; None for the lengths of their recipes.
    out
        For "adapt": folder with one run per checkpoint; None to write nothing.
    quiet
        Print no progress.

    Returns
    -------
    CheckpointSelection
        The checkpoint, the reason, and its fine-tuned network if there is one.

    Examples
    --------
    >>> a, b = (PretrainedCheckpoint(n, Recipe("resnet18", steps=1), s) for n, s in (("a", 0.7), ("b", 0.8)))
    >>> select_checkpoint([a, b]).checkpoint.name
    'b'
    """
    check_choice("strategy", strategy, ("upstream", "adapt"))
    names = [one.name for one in checkpoints]
    if not names or len(set(names)) < len(names):
        raise InputError(f"checkpoints={names!r} are not usable. Allowed: at least one, each with its own name.")
    if strategy == "upstream":
        missing = [one.name for one in checkpoints if not math.isfinite(one.upstream_score)]
        if missing:
            raise InputError(f"checkpoints without an upstream score: {', '.join(missing)}.")
        best = max(checkpoints, key=lambda one: one.upstream_score)
        return CheckpointSelection(best, f"the best upstream score of {len(names)}: {best.upstream_score:.4g}")
    if data is None or data.valid is None:
        raise InputError("strategy='adapt' needs data with validation images, which decide.")
    results: dict[str, TrainingResult] = {}
    for one in checkpoints:
        recipe = one.recipe
        if time_budget is not None:
            recipe = replace(recipe, epochs=None, steps=None, time_budget=time_budget / len(names))
        results[one.name] = train(recipe, data, out=None if out is None else Path(out) / one.name, quiet=quiet)
    scores = {name: result.best.valid_accuracy for name, result in results.items()}
    best = max(checkpoints, key=lambda one: scores[one.name])
    reason = f"the best validation accuracy of {len(names)} fine-tuned: {scores[best.name]:.4g}"
    return CheckpointSelection(best, reason, scores, results[best.name])
