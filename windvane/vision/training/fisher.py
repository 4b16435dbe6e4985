"""The Fisher trace and the Fisher Penalty of one run, as its recipe asks for them (see `windvane.curvature`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from windvane.curvature.autograd import trainable_parameters
from windvane.curvature.explosion_alarm import ExplosionAlarm
from windvane.curvature.fisher_penalty import FisherPenalty
from windvane.curvature.fisher_trace import FisherRecord, FisherTracker
from windvane.curvature.likelihood import Output
from windvane.errors import InputError
from windvane.vision.recipe import Recipe, recipe_from_json
from windvane.vision.training.checkpoint import NAME, read_numbers
from windvane.vision.training.metrics import Evaluation

EVERY = 50  # steps from one measurement of the trace to the next
NETWORK = ("model", "model_kwargs", "image_size", "loss")  # fields of a recipe that a trace's size depends on
EARLY = 1.25  # ratio of the steps of two measurements before that: what counts is early, and short runs need a curve


class FisherMonitor:
    """Measures and penalises at each step what the recipe asks for; nothing where it asks for nothing.

    Parameters
    ----------
    network
        That is trained, on its device.
    recipe
        How.
    random_state
        Where the streams of labels start.
    """

    def __init__(self, network: nn.Module, recipe: Recipe, random_state: int) -> None:
        # Early steps of Adam with a penalty are poor (Zhao et al. 2024), so it waits for the warmup's end.
        self._start = recipe.warmup_fraction if recipe.optimizer == "adamw" else 0.0
        self._compiled = recipe.compile
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

    def use(self, module: nn.Module) -> None:
        """Take what is called in training, the network or what wraps it, in place of the network.

        Parameters
        ----------
        module
            Of the same parameters.
        """
        for one in (self._tracker, self._penalty):
            if one is not None:
                one.model = module

    def track(self, logits: Tensor, step: int, forward: Callable[[], Tensor]) -> None:
        """Measure; between the forward pass and ``backward``.

        Parameters
        ----------
        logits
            Of this step, shape (n, k), with their graph.
        step
            Its number.
        forward
            Computes them anew.
        """
        if self._tracker is not None and measured(step):  # the graph of a compiled network can be walked once only
            self._tracker.update(logits, step, forward if self._compiled else None)

    def penalise(self, progress: float, forward: Callable[[], Tensor]) -> None:
        """Add the penalty's gradient; between ``backward`` and clipping.

        Parameters
        ----------
        progress
            Share of the run that is done.
        forward
            Computes the logits of this step anew.
        """
        if self._penalty is not None and progress >= self._start:
            self._penalty(forward)

    def state_dict(self) -> dict[str, Tensor]:
        """Give the tensors that the run needs to go on exactly: the streams of labels, the penalty's last gradient."""
        found: dict[str, Tensor] = {}
        if self._tracker is not None:
            found["tracker"] = self._tracker.state_dict()["stream"]
        if self._penalty is not None:
            state = self._penalty.state_dict()
            found |= {"penalty": state["stream"]}
            found |= {f"gradient:{name}": value for name, value in (state["gradient"] or {}).items()}
        return {name: value for name, value in found.items() if value is not None}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from the tensors of a state; `resume` takes its numbers."""
        if self._tracker is not None:
            self._tracker.load_state_dict(self._tracker.state_dict() | {"stream": tensors.get("tracker")})
        if self._penalty is not None:
            gradient = {
                name: torch.empty_like(parameter).copy_(tensors[f"gradient:{name}"])
                for name, parameter in trainable_parameters(self._penalty.model).items()
                if f"gradient:{name}" in tensors
            }
            more = {"stream": tensors.get("penalty"), "gradient": gradient}
            self._penalty.load_state_dict(self._penalty.state_dict() | more)

    def to_json(self) -> dict[str, Any]:
        """Give what `resume` takes: the records, and how far the penalty is."""
        found: dict[str, Any] = {"records": [asdict(record) for record in self.records]}
        if self._penalty is not None:
            found |= {"step": self._penalty.step_, "radius": self._penalty.radius_}
        return found

    def resume(self, kept: Mapping[str, Any]) -> None:
        """Go on from the numbers of a state.

        Parameters
        ----------
        kept
            From `to_json`.
        """
        if self._tracker is not None:
            self._tracker.records_ = [FisherRecord(**record) for record in kept["records"]]
        if self._penalty is not None:
            self._penalty.step_, self._penalty.radius_ = kept["step"], kept["radius"]


def measured(step: int) -> bool:
    """Tell the steps at which the trace is measured: 0, 1, 2, then a quarter more each time, and each 50th.

    Parameters
    ----------
    step
        From 0.

    Returns
    -------
    bool
        Whether this is one.
    """
    if step < 2 or step % EVERY == 0:
        return True
    powers = [math.floor(math.log(one) / math.log(EARLY)) for one in (step - 1, step)]
    return step * (1 - 1 / EARLY) < EVERY and powers[0] < powers[1]


def load_fisher_trace(folder: str | Path) -> tuple[FisherRecord, ...]:
    """Read the Fisher trace of a run, also of one that still goes on.

    Parameters
    ----------
    folder
        Of a run of `windvane.vision.training.train` that tracked it.

    Returns
    -------
    tuple[FisherRecord, ...]
        All measurements until its last evaluation, as for `windvane.curvature.plot_trace`.

    Raises
    ------
    InputError
        Where it has none.
    ModelFileError
        Where its state is damaged.
    """
    return _read("folder", folder)[0]


def read_reference(recipe: Recipe, n_classes: int) -> tuple[FisherRecord, ...]:
    """Read the trace that a recipe wants to be compared to.

    Parameters
    ----------
    recipe
        Of this run.
    n_classes
        In its images.

    Returns
    -------
    tuple[FisherRecord, ...]
        Its measurements; none where the recipe names no reference.

    Raises
    ------
    InputError
        Where there is no trace, or it is of another network: how large a trace is depends on that.
    ModelFileError
        Where its state is damaged.
    """
    folder = recipe.fisher_reference
    if folder is None:
        return ()
    records, identity = _read("fisher_reference", folder)
    theirs = recipe_from_json(identity["recipe"])
    pairs = {name: (getattr(theirs, name), getattr(recipe, name)) for name in NETWORK}
    pairs["classes"] = len(identity["classes"]), n_classes
    odd = [f"{name} {there!r}, here {here!r}" for name, (there, here) in pairs.items() if there != here]
    if odd:
        raise InputError(
            f"fisher_reference={folder!r} is a run of another network: {'; '.join(odd)}. Allowed: a run of the same "
            "network with other settings."
        )
    return records


def _read(argument: str, folder: str | Path) -> tuple[tuple[FisherRecord, ...], dict[str, Any]]:
    """Read the trace of a run, and what the run is."""
    path, given = Path(folder) / NAME, f"{argument}={str(folder)!r}"
    if not path.is_file():
        what = "no folder" if not Path(folder).is_dir() else f"a folder without {NAME}"
        raise InputError(f"{given} is {what}. Allowed: the folder of a run of windvane.vision.train.")
    kept = read_numbers(path)
    records = tuple(FisherRecord(**record) for record in kept.get("fisher", {}).get("records", ()))
    if not records:
        raise InputError(
            f"{given} has no Fisher trace. Allowed: a run with track_fisher=True (in a shell --track-fisher)."
        )
    return records, kept["identity"]


def check_explosion(
    records: Sequence[FisherRecord], last: Evaluation, warmup: float, reference: Sequence[FisherRecord]
) -> str | None:
    """Compare the Fisher trace of a run to that of another (see `windvane.curvature.ExplosionAlarm`).

    Without another run there is nothing to say: the trace rises in good runs too (docs/how/fisher.md).

    Parameters
    ----------
    records
        All measurements of the run.
    last
        Its last evaluation.
    warmup
        Share of the run in which the learning rate rises, passed over with the first epoch.
    reference
        Of a run that went well; empty where there is none.

    Returns
    -------
    str or None
        What the alarm says, with remedies; None where it is silent.
    """
    if not reference:
        return None
    first_epoch, rise = last.step / last.epoch, warmup * last.step / last.progress
    alarm = ExplosionAlarm(math.ceil(max(first_epoch, rise)), reference=reference, quiet=True)
    for record in records:
        alarm.update(record)
    return alarm.alarms_[-1].message if alarm.alarms_ else None
