"""Train one network by a recipe: one plain loop, read from top to bottom."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import torch
from torch import nn

from windvane.data.images import ImageSplits
from windvane.errors import InputError
from windvane.vision.device import DeviceContext, find_device
from windvane.vision.networks.weights import with_pretrained_normalization
from windvane.vision.recipe import Recipe
from windvane.vision.training.checkpoint import NAME
from windvane.vision.training.metrics import ProgressLogger
from windvane.vision.training.nonfinite import NonFiniteCheck
from windvane.vision.training.optimizer import classification_loss, set_train_mode
from windvane.vision.training.run import TrainingResult, TrainingRun
from windvane.vision.training.schedule import learning_rate_at


def train(
    recipe: Recipe,
    data: ImageSplits,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    device: str | None = None,
    quiet: bool = False,
) -> TrainingResult:
    """Train one network by a recipe.

    Parameters
    ----------
    recipe
        How. With `seconds`, this call takes that long: the schedule is fitted to the speed while it runs.
    data
        Training images, and validation images or None.
    out
        Folder of the run: its best model, its state, its metrics. None to keep nothing.
    resume
        Whether to go on with the run in `out`, exactly as if it had not stopped. Where there is none yet, it begins.
    device
        As torch names it; None for a GPU where there is one. On several GPUs each process of ``accelerate launch``
        makes the same call.
    quiet
        Say nothing on the standard error stream.

    Returns
    -------
    Trained
        The best model and how it came about.

    Raises
    ------
    InputError
        Where data, folder or device are not usable, or the recipe does not fit them.
    RunMismatchError
        Where the run in `out` is of another recipe or other data.
    NotFiniteError
        Where a loss or a gradient is not finite: names the first bad tensor and the step.
    KeyboardInterrupt
        At Ctrl-C or SIGTERM, after the step at hand; `out` then holds the state of that moment. A second one does not
        wait.
    """
    began = time.monotonic()
    folder = check_folder(out, resume)
    place = find_device(device, recipe.precision)
    with own_randomness(place):
        run = TrainingRun(
            with_pretrained_normalization(recipe), data, place, ProgressLogger(quiet=quiet or not place.is_main), began
        )
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / NAME).exists():
                run.read(folder)
            run.folder = folder
        return complete(run)


def complete(run: TrainingRun) -> TrainingResult:
    """Take steps until the schedule is at its end.

    Parameters
    ----------
    run
        At its beginning, or at any later step.

    Returns
    -------
    Trained
        What came of it.
    """
    with stop_on_signal(run.place.world) as stop:
        _loop(run, stop)
    return run.result()


def _loop(run: TrainingRun, stop: StopRequest) -> None:
    recipe, place, plan, network, optimizer = run.recipe, run.place, run.plan, run.network, run.optimizer
    guard, first = NonFiniteCheck(optimizer, place.device), plan.step
    module = place.spread(network, recipe.compile)
    run.fisher.use(module)
    batches = run.batches.stream(run.order.from_step(first))
    set_train_mode(network, from_weights=recipe.weights is not None)
    while not plan.finished:
        images, labels = next(batches)  # uint8 (b, 3, s, s), (b,)
        pixels, targets = run.vary(images, labels, plan.step)
        forward = partial(run.forward, module, pixels)
        logits = forward()  # (b, k)
        run.fisher.track(logits, plan.step, forward)
        loss = classification_loss(logits, targets, recipe)
        loss.backward()
        run.fisher.penalise(plan.progress, forward)
        norm = nn.utils.clip_grad_norm_(network.parameters(), recipe.grad_clip or float("inf"))
        guard.watch(loss, norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(plan.middle, recipe)
        optimizer.step()
        optimizer.zero_grad()
        if run.average is not None:
            run.average.update(network, step=plan.step)
        run.tally.add(loss, logits, targets)
        plan.advance()
        if plan.step % place.look_every == 0 or plan.due() or stop.asked:  # nothing bad is judged or kept
            good = guard.bad_after()
            if good is not None:
                run.complain(first + good)
            plan.look()
            run.teller.step(plan, *run.tally.read(plan.elapsed))
        if plan.due():
            run.judge()
        if stop.asked and not plan.finished:
            run.leave()


def check_folder(out: str | Path | None, resume: bool) -> Path | None:
    """Refuse a folder that holds something, unless a run is to be gone on with.

    Parameters
    ----------
    out, resume
        As in `train`.

    Returns
    -------
    Path or None
        The folder, which may not exist yet.

    Raises
    ------
    InputError
        Where it is not usable.
    """
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


@contextmanager
def own_randomness(place: DeviceContext) -> Iterator[None]:
    """Leave the caller's generators as they were.

    Parameters
    ----------
    place
        Where is trained.
    """
    devices = [place.device] if place.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked for the end.

    Attributes
    ----------
    asked
        Set by the first signal.
    """

    def __init__(self) -> None:
        self.asked = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Take a signal; a second one does not wait for the step.

        Parameters
        ----------
        number, frame
            As Python calls handlers of signals.

        Raises
        ------
        KeyboardInterrupt
            The second time.
        """
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def stop_on_signal(processes: int = 1) -> Iterator[StopRequest]:
    """Take note of signals rather than be interrupted by them, where Python allows: in the main thread.

    Parameters
    ----------
    processes
        That train together. Several are interrupted as usual: they would not stop at the same step.

    Yields
    ------
    Stop
        To look at after each step.
    """
    stop = StopRequest()
    if processes > 1 or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}  # as nohup has it
    for number in heard:
        signal.signal(number, stop.note)
    try:
        yield stop
    finally:
        for number, handler in heard.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: not Python's own
