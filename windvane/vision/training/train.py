"""Train one network by a recipe: one plain loop, read from top to bottom."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor, nn

from windvane.data.images import ImageSplits
from windvane.errors import InputError
from windvane.stop_signals import NEVER, StopRequest, stop_on_signal
from windvane.vision.recipe import Recipe
from windvane.vision.training.checkpoint import CHECKPOINT
from windvane.vision.training.device import find_device
from windvane.vision.training.nonfinite import NonFiniteCheck
from windvane.vision.training.run import TrainingResult, TrainingRun
from windvane.vision.training.schedule import learning_rate_at
from windvane.vision.training.training_log import ProgressLogger, write_metrics, write_tensorboard

SILENT = ProgressLogger(quiet=True)


def train(
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
    """Train one network by a recipe.

    Parameters
    ----------
    recipe
        All settings. With a `time_budget` this call takes that long: the schedule follows the measured speed.
    data
        Training images; the validation images, if any, choose the best checkpoint.
    out
        Folder of the run, for its best model, checkpoint and metrics; None to write nothing.
    resume
        Continue the run in `out` exactly, if there is one.
    device
        As named by torch; None for a GPU if there is one. On several GPUs each process of ``accelerate launch`` makes
        the same call.
    quiet
        Print no progress.
    started
        Instant of `time.monotonic` from which a time budget counts; None for the start of this call.
    reported
        Whether the time budget includes a call of `write_report` after this one.

    Returns
    -------
    TrainingResult
        The best model and the history of its training.

    Raises
    ------
    RunMismatchError
        If the run in `out` has another recipe or other data.
    NotFiniteError
        If a loss or a gradient is not finite; names the first such tensor and the step.
    KeyboardInterrupt
        At Ctrl-C or SIGTERM, after the current step; `out` then holds a checkpoint of that moment. A second signal
        does not wait.

    Examples
    --------
    >>> recipe = Recipe("vit_lite_7_4", image_size=32, epochs=50)
    >>> result = train(recipe, read_images("flowers/"), out="run")  # doctest: +SKIP
    """
    started = time.monotonic() if started is None else started
    folder = check_output_folder(out, resume)
    context = find_device(device, recipe.precision)
    with context.fork_rng():
        resumes = folder is not None and (folder / CHECKPOINT).exists()
        if recipe.block_components is not None and not resumes:
            raise InputError(
                f"block_components={recipe.block_components!r} is set by finetune_timed alone. Allowed: None."
            )
        run = TrainingRun(recipe, data, context, started=started, reported=reported)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            if resumes:
                run.load(folder)
        with stop_on_signal(context.world_size) as stop:
            run_training(run, folder, ProgressLogger(quiet=quiet or not context.is_main), stop=stop)
        return run.result(folder)


def run_training(
    run: TrainingRun,
    folder: Path | None = None,
    log: ProgressLogger = SILENT,
    *,
    stop: StopRequest = NEVER,
    until_epoch: float = math.inf,
    deadline: float = math.inf,
    evaluate_first: bool = False,
) -> None:
    """Train until the schedule, an epoch or a deadline on the monotonic clock is reached."""
    # Evaluations are logged, and written if there is a folder; a stop request saves a checkpoint and raises
    # KeyboardInterrupt.
    recipe, device, schedule, network, optimizer = run.recipe, run.device, run.schedule, run.network, run.optimizer
    if evaluate_first:
        _evaluate(run, folder, log)
    nonfinite, first_step = NonFiniteCheck(optimizer, device.device), schedule.step
    module = device.wrap_model(network, recipe.compile)
    run.fisher.set_module(module)
    batches = run.train_loader.train_batches(run.sampler, schedule.step)
    run.set_train_mode()
    while not (schedule.finished or run.epoch >= until_epoch or time.monotonic() >= deadline):
        if stop.requested:
            _interrupt(run, folder)
        images, labels = next(batches)  # uint8 (b, 3, s, s), (b,)
        if schedule.step == first_step:
            schedule.start_steps()
        pixels, targets = run.augment(images, labels, schedule.step)  # float32 (b, 3, s, s), (b, k)
        losses, outputs = list[Tensor](), list[Tensor]()
        for part, logits, loss in run.micro_batch_losses(module, pixels, targets):
            if not outputs:
                run.fisher.measure(schedule.step, logits, partial(run.forward, module, part))
            loss.backward()
            losses.append(loss.detach())
            outputs.append(logits.detach())
        loss, logits = torch.stack(losses).sum(), torch.cat(outputs)  # of the batch: (), (b, k)
        run.fisher.add_penalty(schedule.progress, partial(run.forward, module, pixels[: recipe.micro_batch_size]))
        norm = nn.utils.clip_grad_norm_(network.parameters(), recipe.grad_clip or float("inf"))
        nonfinite.update(loss, norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(schedule.step_midpoint, recipe)
        optimizer.step()
        optimizer.zero_grad()
        if run.ema is not None:
            run.ema.update(network, step=schedule.step)
        run.metrics.update(loss, logits, targets)
        schedule.advance()
        if schedule.step % device.sync_interval == 0 or schedule.evaluation_due() or stop.requested:
            bad_step = nonfinite.first_bad_step()  # checked before anything is evaluated or saved
            if bad_step is not None:
                run.raise_nonfinite(first_step + bad_step)
            schedule.measure_speed()
            log.log_step(schedule, *run.metrics.compute(schedule.elapsed))
        if schedule.evaluation_due():
            _evaluate(run, folder, log)


def _evaluate(run: TrainingRun, folder: Path | None, log: ProgressLogger) -> None:
    started = time.monotonic()
    evaluation = run.evaluate()
    log.log_evaluation(evaluation)
    message = run.new_explosion_message()
    if message is not None:
        log.log(f"windvane: {message}")
    if folder is not None and run.device.is_main:
        write_metrics(folder, run.history)
        write_tensorboard(folder, evaluation)
        run.save(folder)
    run.schedule.record_evaluation_time(time.monotonic() - started)
    run.metrics.reset(run.schedule.elapsed)


def _interrupt(run: TrainingRun, folder: Path | None) -> NoReturn:
    """Save the state between two steps, and raise KeyboardInterrupt with the way to resume."""
    saved = "nothing was saved, as the run has no folder"
    if folder is not None and run.device.is_main:
        run.save(folder)
        saved = f"resume from {str(folder)!r} with resume=True, in a shell the same command with --resume"
    schedule = run.schedule
    raise KeyboardInterrupt(f"stopped after step {schedule.step}, {schedule.progress:.0%} of the run: {saved}")


def check_output_folder(out: str | Path | None, resume: bool) -> Path | None:
    """Return the folder of a run, which may not exist yet; raises if it holds something and is not resumed."""
    if out is None:
        if resume:
            raise InputError("resume=True needs out, the folder of the run.")
        return None
    folder = Path(out)
    if folder.is_file():
        raise InputError(f"out={str(folder)!r} is a file. Allowed: a folder.")
    if folder.is_dir() and any(folder.iterdir()) and not resume:
        raise InputError(f"out={str(folder)!r} is not empty. Allowed: a new or empty folder, or resume=True.")
    return folder
