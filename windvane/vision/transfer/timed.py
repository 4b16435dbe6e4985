"""Transfer in a given time: measure, choose what fits, probe, then fine-tune from the probe.

A linear probe is fast and safe; fine-tuning is better where there is time for it. So the probe comes first. Its head is
where fine-tuning starts (Kumar et al., arXiv 2202.10054), and it is the first evaluation of the run, of which the best
is kept: on the validation images the result is never worse than the probe.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from windvane.data.images import ImageDataset, ImageSplits
from windvane.runtime.serialization import read_json, reading, write_json
from windvane.errors import InputError, RunMismatchError
from windvane.vision.device import DeviceContext, find_device
from windvane.vision.networks.create import classifier_layer, create_model
from windvane.vision.networks.profiling import measure_timing
from windvane.vision.networks.weights import with_pretrained_normalization
from windvane.vision.recipe import Recipe
from windvane.vision.training.checkpoint import NAME
from windvane.vision.training.metrics import ProgressLogger
from windvane.vision.training.run import Prepared, TrainingResult, TrainingRun, check_images, prepare
from windvane.vision.training.train import check_folder, complete, own_randomness, train
from windvane.vision.transfer.budget import (
    FROZEN,
    HEAD_SHARE,
    FinetunePlan,
    candidate_image_sizes,
    format_plan,
    plan_finetuning,
)
from windvane.vision.transfer.linear_probe import Features, extract_features, fit_head

CHOSEN = "chosen.json"  # in the folder of the run
_CELL = 32  # pixels a side that become one cell of the last map of a convolutional network
_BATCHES = 8  # at least so many an epoch, where images are few
_SURE = 2.0  # standard errors


@dataclass(frozen=True)
class Chosen:
    """What an adaptation chose; kept, so that a resumed run does not choose again.

    Attributes
    ----------
    way
        Sizes and counts.
    horizontal_flip
        Whether images are mirrored.
    notes
        Why, in words.
    """

    way: FinetunePlan
    horizontal_flip: bool
    notes: tuple[str, ...]

    def settle(self, recipe: Recipe) -> Recipe:
        """Give the recipe that is trained."""
        batch = max(1, min(recipe.batch_size, self.way.n_train // _BATCHES))
        return replace(
            recipe,
            image_size=self.way.image_size,
            freeze_fraction=self.way.freeze_fraction,
            horizontal_flip=self.horizontal_flip,
            batch_size=batch,
            learning_rate=recipe.learning_rate * batch / recipe.batch_size,
        )

    def limit(self, data: ImageSplits, seed: int) -> ImageSplits:
        """Give the images that are used."""
        return replace(
            data,
            train=_some(data.train, self.way.n_train, seed),
            valid=None if data.valid is None else _some(data.valid, self.way.n_valid, seed),
        )


def finetune_timed(
    recipe: Recipe,
    data: ImageSplits,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> TrainingResult:
    """Make the best of weights in a given time: choose pixels, layers and epochs by what they cost here.

    Parameters
    ----------
    recipe
        With `weights` and `seconds`. Its image size is the largest that is tried, its batch the largest that is used;
        images are mirrored only where it says so and the probe does not object.
    data
        Training images, and validation images or None.
    out, resume, device, quiet
        As in `train`.

    Returns
    -------
    Trained
        The best model; `notes` say what was chosen and why.

    Raises
    ------
    InputError
        Where data, folder or device are not usable, or the recipe lacks weights or seconds.
    RunMismatchError
        Where the run in `out` is of another recipe or other data.
    NotFiniteError
        Where a loss or a gradient is not finite.
    KeyboardInterrupt
        As in `train`; before the first evaluation nothing is kept.
    """
    began = time.monotonic()
    if recipe.weights is None or recipe.time_budget is None:
        raise InputError(f"weights={recipe.weights!r}, time_budget={recipe.time_budget!r}: adapt needs both.")
    check_images(data)
    folder, place = check_folder(out, resume), find_device(device, recipe.precision)
    recipe = with_pretrained_normalization(recipe)
    if folder is not None and (folder / NAME).exists():
        kept = _read(folder)
        settled, data = kept.settle(recipe), kept.limit(data, recipe.seed)
        return replace(train(settled, data, out=folder, resume=True, device=device, quiet=quiet), notes=kept.notes)
    with own_randomness(place):
        run, chosen = _begin(recipe, data, place, ProgressLogger(quiet=quiet), began)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / CHOSEN, asdict(chosen))
            run.folder = folder
        run.judge()
        return complete(run)


def _begin(
    recipe: Recipe, data: ImageSplits, place: DeviceContext, teller: ProgressLogger, began: float
) -> tuple[TrainingRun, Chosen]:
    """Measure, choose and probe: a run whose network has the probe's head."""
    costs = measure_timing(recipe, data.train, place, FROZEN)
    counts = len(data.train), 0 if data.valid is None else len(data.valid)
    left = float(recipe.time_budget or 0.0) - (time.monotonic() - began)
    way = plan_finetuning(costs, _sizes(recipe), *counts, left)
    note = format_plan(way, costs, *counts, left)
    teller.line(f"windvane: {note}")
    chosen = Chosen(way, recipe.horizontal_flip, (note,))
    settled, data = chosen.settle(recipe), chosen.limit(data, recipe.seed)
    prepared = prepare(settled, data, place)
    flip, more = _probe(prepared, settled, place, HEAD_SHARE * left)
    teller.line(f"windvane: {more}")
    chosen = replace(chosen, horizontal_flip=flip, notes=(note, more))
    run = TrainingRun(chosen.settle(recipe), data, place, teller, began, prepared)
    run.notes = chosen.notes
    if not way.epochs:
        run.plan.stop()
    return run, chosen


def _probe(prepared: Prepared, recipe: Recipe, place: DeviceContext, seconds: float) -> tuple[bool, str]:
    """Give a network the head of a linear probe; say whether images may be mirrored, and how good the probe is."""
    network = prepared.network
    seen = extract_features(network, prepared.train, recipe, place)
    if prepared.valid is None:
        fit_head(network, seen, None)
        return recipe.horizontal_flip, "The probe was not judged, as there are no validation images."
    judged = extract_features(network, prepared.valid, recipe, place)
    _, accuracy = fit_head(network, seen, judged, seconds)
    words = f"The linear probe is right on {accuracy:.1%} of {len(judged.labels):,} validation images"
    if not recipe.horizontal_flip:
        return False, f"{words}."
    mirrored = extract_features(network, prepared.valid, recipe, place, mirrored=True)
    lost = _right(network, judged) - _right(network, mirrored)  # (n,)
    flip = float(lost.mean()) <= _SURE * float(lost.std()) / len(lost) ** 0.5
    conclusion = "mirrored images are trained on too" if flip else "images are not mirrored in training"
    return flip, f"{words}, on {_right(network, mirrored).mean():.1%} of them mirrored: {conclusion}."


def _right(network: nn.Module, features: Features) -> NDArray[np.float64]:
    """Say of each image whether the head is right, 0 or 1; shape (n,)."""
    head = classifier_layer(network)
    with torch.inference_mode():
        values = torch.from_numpy(features.values).to(head.weight)  # (n, d)
        logits = F.linear(values, head.weight.flatten(1), head.bias)  # (n, k)
    return np.asarray(logits.argmax(dim=1).cpu().numpy() == features.labels, dtype=np.float64)


def _sizes(recipe: Recipe) -> list[int]:
    """List the image sizes that the network takes, up to the recipe's."""
    with torch.device("meta"):
        network: Any = create_model(recipe, 2)
        embedding = getattr(network, "patch_embed", None)
        token = _CELL if embedding is None else int(embedding.feat_ratio())
        sizes = candidate_image_sizes(recipe.image_size, token * max(1, round(_CELL / token)))
        return [size for size in sizes if size == recipe.image_size or _takes(recipe, size)]


def _takes(recipe: Recipe, size: int) -> bool:
    try:
        create_model(replace(recipe, image_size=size), 2)
    except InputError:
        return False
    return True


def _some(images: ImageDataset, n: int, seed: int) -> ImageDataset:
    """Take n images at random; all of them in their order, where there are no more."""
    if n >= len(images):
        return images
    return images.take(np.sort(np.random.default_rng(seed).permutation(len(images))[:n]))


def _read(folder: Path) -> Chosen:
    """Read what an earlier call chose."""
    if not (folder / CHOSEN).exists():
        raise RunMismatchError(f"{str(folder)!r} holds a run that was not fitted to a time.")
    kept = read_json(folder / CHOSEN)
    with reading(folder / CHOSEN, TypeError):
        return Chosen(FinetunePlan(**kept["way"]), bool(kept["horizontal_flip"]), tuple(kept["notes"]))
