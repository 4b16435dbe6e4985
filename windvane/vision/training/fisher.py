"""The Fisher trace and the Fisher Penalty of one run, as its recipe sets them (see `windvane.curvature`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from windvane.curvature.explosion_alarm import ExplosionAlarm
from windvane.curvature.fisher_penalty import FisherPenalty
from windvane.curvature.fisher_trace import FisherRecord, FisherTracker
from windvane.curvature.likelihood import Output
from windvane.errors import InputError
from windvane.vision.recipe import Recipe, recipe_from_json
from windvane.vision.training.checkpoint import CHECKPOINT, load_checkpoint
from windvane.vision.training.training_log import Evaluation

INTERVAL = 50  # steps from one measurement of the trace to the next
# Ratio of the steps of two measurements before that: the early phase matters most, and short runs need a curve.
EARLY_RATIO = 1.25
# Fields of a recipe on which the size of a trace depends.
NETWORK_FIELDS = ("model", "model_kwargs", "image_size", "block_components", "loss")


class FisherMonitor:
    """Measures the trace and adds the penalty at each step, if the recipe asks for them."""

    # The label draws start from `random_state`.

    def __init__(self, network: nn.Module, recipe: Recipe, random_state: int) -> None:
        # Early steps of Adam with a penalty are poor (Zhao et al. 2024), so it waits for the end of the warmup.
        self._penalty_start = recipe.warmup_fraction if recipe.optimizer == "adamw" else 0.0
        self._compiled, self._interval = recipe.compile, recipe.fisher_interval
        self._tracker = self._penalty = None
        output: Output = "sigmoid" if recipe.loss == "binary_cross_entropy" else "softmax"
        if recipe.track_fisher or recipe.fisher_reference is not None:
            self._tracker = FisherTracker(network, 1, per_layer=False, output=output, random_state=random_state)
        if recipe.fisher_penalty:
            self._penalty = FisherPenalty(network, recipe.fisher_penalty, output=output, random_state=random_state)

    @property
    def records(self) -> tuple[FisherRecord, ...]:
        """All measurements so far."""
        return () if self._tracker is None else tuple(self._tracker.records_)

    def set_module(self, module: nn.Module) -> None:
        """Set what training calls: the network, or what wraps it."""
        for one in (self._tracker, self._penalty):
            if one is not None:
                one.model = module

    def measure(self, step: int, logits: Tensor, forward: Callable[[], Tensor]) -> None:
        """Measure the trace between the forward pass and ``backward``; `forward` recomputes the logits (n, k)."""
        is_due = is_measurement_step(step) if self._interval is None else step % self._interval == 0
        if self._tracker is not None and is_due:
            # The graph of a compiled network can be walked only once.
            self._tracker.update(logits, step, forward if self._compiled else None)

    def add_penalty(self, progress: float, forward: Callable[[], Tensor]) -> None:
        """Add the gradient of the penalty between ``backward`` and clipping; `forward` recomputes the logits."""
        if self._penalty is not None and progress >= self._penalty_start:
            self._penalty(forward)

    def state_dict(self) -> dict[str, Any]:
        return {
            "tracker": None if self._tracker is None else self._tracker.state_dict(),
            "penalty": None if self._penalty is None else self._penalty.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if self._tracker is not None:
            self._tracker.load_state_dict(state["tracker"])
        if self._penalty is not None:
            self._penalty.load_state_dict(state["penalty"])


def is_measurement_step(step: int) -> bool:
    """Whether the trace is measured: at 0, 1, 2, then a quarter more steps each time, and each 50th."""
    if step < 2 or step % INTERVAL == 0:
        return True
    powers = [math.floor(math.log(one) / math.log(EARLY_RATIO)) for one in (step - 1, step)]
    return step * (1 - 1 / EARLY_RATIO) < INTERVAL and powers[0] < powers[1]


def load_fisher_trace(folder: str | Path) -> tuple[FisherRecord, ...]:
    """Load the Fisher trace of a run, which may still be running.

    Parameters
    ----------
    folder
        Of a run with ``track_fisher=True``.

    Returns
    -------
    tuple of FisherRecord
        All measurements until its last evaluation, as for `windvane.curvature.plot_trace`.

    Raises
    ------
    ModelFileError
        If the checkpoint of the run is damaged.

    Examples
    --------
    >>> records = load_fisher_trace("run")  # doctest: +SKIP
    """
    return _load_trace("folder", folder)[0]


def load_reference(recipe: Recipe, n_classes: int) -> tuple[FisherRecord, ...]:
    """Load the trace of the reference run of a recipe; empty without one."""
    # Raises `InputError` if that run has no trace or another network, on which the size of a trace depends.
    folder = recipe.fisher_reference
    if folder is None:
        return ()
    records, identity = _load_trace("fisher_reference", folder)
    theirs, ours = recipe_from_json(identity["recipe"]).to_json(), recipe.to_json()
    pairs = {name: (theirs[name], ours[name]) for name in NETWORK_FIELDS}
    pairs["classes"] = len(identity["classes"]), n_classes
    different = [f"{name} {there!r}, here {here!r}" for name, (there, here) in pairs.items() if there != here]
    if different:
        raise InputError(
            f"fisher_reference={folder!r} is a run of another network: {'; '.join(different)}. Allowed: a run of the "
            "same network with other settings."
        )
    return records


def _load_trace(argument: str, folder: str | Path) -> tuple[tuple[FisherRecord, ...], dict[str, Any]]:
    """Return the trace and the identity of a run."""
    path, given = Path(folder) / CHECKPOINT, f"{argument}={str(folder)!r}"
    if not path.is_file():
        what = "no folder" if not Path(folder).is_dir() else f"a folder without {CHECKPOINT}"
        raise InputError(f"{given} is {what}. Allowed: the folder of a run of windvane.vision.train.")
    state = load_checkpoint(path, with_tensors=False)
    tracker = state["fisher"]["tracker"]
    if tracker is None or not tracker["records"]:
        raise InputError(
            f"{given} has no Fisher trace. Allowed: a run with track_fisher=True (in a shell --track-fisher)."
        )
    return tuple(FisherRecord(**record) for record in tracker["records"]), state["identity"]


def check_explosion(
    records: Sequence[FisherRecord], last: Evaluation, warmup_fraction: float, reference: Sequence[FisherRecord]
) -> str | None:
    """Return the message of the explosion alarm, with remedies, for a run compared to a reference; None if silent."""
    # Without a reference there is no alarm: the trace rises in good runs too (docs/how/fisher.md). The first epoch and
    # the warmup are ignored; `last` is the last evaluation of the run, at step 0 if nothing was trained.
    if not (records and reference):
        return None
    first_epoch, warmup = last.step / last.epoch, warmup_fraction * last.step / last.progress
    alarm = ExplosionAlarm(math.ceil(max(first_epoch, warmup)), reference=reference, quiet=True)
    for record in records:
        alarm.update(record)
    return alarm.alarms_[-1].message if alarm.alarms_ else None
