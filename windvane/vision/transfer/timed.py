"""Fine-tune in a given time: measure, choose what fits, train a linear probe, then fine-tune from the probe.

A linear probe is fast and safe; fine-tuning is better where there is time for it. So the probe comes first, on what all
blocks of the network see. Fine-tuning starts from its classifier layer (Kumar et al., arXiv 2202.10054), and the probe
is the first evaluation of the run, of which the best is kept: on the validation images the result is never worse than
the probe.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from windvane.data.images import ImageDataset, ImageSplits
from windvane.errors import InputError, RunMismatchError
from windvane.runtime.serialization import read_json, reading, write_json
from windvane.stop_signals import stop_on_signal
from windvane.vision.networks.create import create_model
from windvane.vision.networks.profiling import measure_timing
from windvane.vision.networks.weights import with_pretrained_normalization
from windvane.vision.recipe import Recipe
from windvane.vision.training.checkpoint import CHECKPOINT
from windvane.vision.training.device import DeviceContext, find_device
from windvane.vision.training.loader import Loader
from windvane.vision.training.run import (
    REPORT_SECONDS,
    TrainingResult,
    TrainingRun,
    count_reported,
    create_network,
    make_loaders,
    training_labels,
)
from windvane.vision.training.train import check_output_folder, run_training, train
from windvane.vision.training.training_log import ProgressLogger
from windvane.vision.transfer.finetune_plan import (
    FREEZE_FRACTIONS,
    HEAD_SHARE,
    START_IMAGES,
    FinetunePlan,
    candidate_image_sizes,
    format_plan,
    largest_useful_size,
    plan_finetuning,
)
from windvane.vision.transfer.linear_probe import (
    compare_flipped,
    extract_features,
    fit_head,
    probe_blocks,
)

PLAN = "plan.json"  # in the folder of the run
MIN_SHARE_LEFT = 0.1  # of the time, which probe and training have even if loading took all of it
_MEASURED_IMAGES = 20  # whose sizes say which ones are worth it
_CELL = 32  # pixels that become one cell of the last feature map of a convolutional network


def finetune_timed(
    recipe: Recipe,
    data: ImageSplits,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    quiet: bool = False,
    started: float | None = None,
    reported: bool = False,
) -> TrainingResult:
    """Fine-tune in a time budget: choose image size, layers and epochs by what they cost on this device.

    Parameters
    ----------
    recipe
        With `weights` and `time_budget`, as `finetune_recipe` returns. Its image size and batch size are the largest
        that are used; images are flipped only if it says so and the probe does not object.
    data
        Training images; the validation images, if any, choose the best checkpoint.
    out, resume, device, quiet, started, reported
        As in `train`.

    Returns
    -------
    TrainingResult
        The best model; its `notes` say what was chosen and why.

    Raises
    ------
    RunMismatchError
        If the run in `out` has another recipe or other data.
    NotFiniteError
        If a loss or a gradient is not finite.
    KeyboardInterrupt
        As in `train`; before the first evaluation nothing is saved.

    Examples
    --------
    >>> recipe = finetune_recipe("efficientnet_lite0", time_budget=300)
    >>> result = finetune_timed(recipe, read_images("flowers/"), out="run")  # doctest: +SKIP
    """
    started = time.monotonic() if started is None else started
    if recipe.weights is None or recipe.time_budget is None:
        raise InputError(f"weights={recipe.weights!r}, time_budget={recipe.time_budget!r}: finetune_timed needs both.")
    training_labels(data)
    folder, context = check_output_folder(out, resume), find_device(device, recipe.precision)
    if recipe.eval_crop == "center":
        raise InputError("eval_crop='center' is not usable in a given time. Allowed: None or 'squeeze'.")
    # The probe sees training images as they lie in memory, which is whole, and is to be evaluated on the same.
    recipe = replace(with_pretrained_normalization(recipe), eval_crop="squeeze", block_components=None)
    if folder is not None and (folder / CHECKPOINT).exists():
        plan = _load_plan(folder)
        chosen, data = plan.apply_to(recipe), plan.subsample(data, recipe.seed)
        result = train(
            chosen, data, out=folder, resume=True, device=device, quiet=quiet, started=started, reported=reported
        )
        return replace(result, notes=plan.notes)

    log = ProgressLogger(quiet=quiet or not context.is_main)
    with context.fork_rng():
        run, plan = _plan_and_probe(recipe, data, context, log, started, reported)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / PLAN, asdict(plan))
        with stop_on_signal(context.world_size) as stop:
            run_training(run, folder, log, stop=stop, evaluate_first=True)
        return run.result(folder)


def _plan_and_probe(
    recipe: Recipe, data: ImageSplits, device: DeviceContext, log: ProgressLogger, started: float, reported: bool
) -> tuple[TrainingRun, FinetunePlan]:
    """Measure, plan and probe; return a run whose network has the classifier layer of the probe."""
    network = create_network(recipe, len(data.train.classes), device)
    timing = measure_timing(network, recipe, data.train, device, FREEZE_FRACTIONS)
    counts = len(data.train), 0 if data.valid is None else len(data.valid)
    budget = float(recipe.time_budget or 0.0)
    left = budget - (time.monotonic() - started)
    if reported:
        left -= REPORT_SECONDS + (timing.decode + timing.forward) * count_reported(data)
    left = max(left, MIN_SHARE_LEFT * budget)
    supported = supported_image_sizes(recipe)
    largest = largest_useful_size(_usual_side(data.train, recipe.seed))
    sizes = [size for size in supported if size <= largest] or supported[-1:]
    plan = plan_finetuning(timing, sizes, *counts, left)
    plan = replace(plan, horizontal_flip=recipe.horizontal_flip, notes=(format_plan(plan, timing, *counts, left),))
    log.log(f"windvane: {plan.notes[0]}")
    chosen, data = plan.apply_to(recipe), plan.subsample(data, recipe.seed)
    loaders = make_loaders(chosen, data, device)
    if chosen.image_size != recipe.image_size:
        network = create_network(chosen, len(data.train.classes), device)
    plan, note = _probe(network, data, loaders, chosen, device, plan, HEAD_SHARE * left)
    log.log(f"windvane: {note}")
    plan = replace(plan, notes=(*plan.notes, note))
    run = TrainingRun(
        plan.apply_to(recipe),
        data,
        device,
        network=network,
        loaders=loaders,
        notes=plan.notes,
        started=started,
        reported=reported,
    )
    if not plan.epochs:
        run.schedule.stop()
    return run, plan


def _probe(
    network: nn.Module,
    data: ImageSplits,
    loaders: tuple[Loader, Loader | None],
    recipe: Recipe,
    device: DeviceContext,
    plan: FinetunePlan,
    seconds: float,
) -> tuple[FinetunePlan, str]:
    """Fit the classifier layer; return the plan with what it reads and whether to flip images, and how good it is."""
    held_out = data.valid if data.valid is not None and len(data.valid) else None
    components: int | None = None
    if plan.epochs:
        components, accuracy = probe_blocks(network, data.train, held_out, recipe, device, seconds)
    else:
        train, valid = (None if one is None else extract_features(network, one, recipe, device) for one in loaders)
        assert train is not None
        _, accuracy = fit_head(network, train, valid, seconds)
    plan = replace(plan, block_components=components)
    if held_out is None:
        return plan, "The probe was not evaluated, as there are no validation images."
    n_valid = len(held_out) if components is None else min(len(held_out), START_IMAGES)
    words = f"The linear probe is right on {accuracy:.1%} of {n_valid:,} validation images"
    if not plan.horizontal_flip:
        return plan, f"{words}."
    found = compare_flipped(network, held_out, recipe, device)
    both = f"of {found.n_images:,} of them on {found.accuracy:.1%}, flipped on {found.flipped_accuracy:.1%}"
    conclusion = f"images are {'' if found.may_flip else 'not '}flipped in training"
    return replace(plan, horizontal_flip=found.may_flip), f"{words}; {both}: {conclusion}."


def _usual_side(images: ImageDataset, seed: int) -> int:
    """Return the median short side of some images, in pixels."""
    rows = np.random.default_rng(seed).permutation(len(images))[:_MEASURED_IMAGES]
    return int(np.median([min(images.decode(row).shape[:2]) for row in rows.tolist()]))


def supported_image_sizes(recipe: Recipe) -> list[int]:
    """Return the image sizes that the network of a recipe takes, up to that of the recipe."""
    with torch.device("meta"):
        network: Any = create_model(recipe, 2)
        embedding = getattr(network, "patch_embed", None)
        token = _CELL if embedding is None else int(embedding.feat_ratio())
        sizes = candidate_image_sizes(recipe.image_size, token * max(1, round(_CELL / token)))
        return [size for size in sizes if size == recipe.image_size or _takes_size(recipe, size)]


def _takes_size(recipe: Recipe, size: int) -> bool:
    try:
        create_model(replace(recipe, image_size=size), 2)
    except InputError:
        return False
    return True


def _load_plan(folder: Path) -> FinetunePlan:
    if not (folder / PLAN).exists():
        raise RunMismatchError(f"{str(folder)!r} holds a run that was not fitted to a time.")
    content = read_json(folder / PLAN)
    with reading(folder / PLAN, TypeError):
        return FinetunePlan(**{**content, "notes": tuple(content["notes"])})
