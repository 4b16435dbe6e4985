"""For a Trainer of transformers.

Its callbacks come after clipping and see no inputs, so its training step is wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from windvane.curvature.alarm import ExplosionAlarm
from windvane.curvature.integrations.processes import follow
from windvane.curvature.penalty import FisherPenalty
from windvane.curvature.tracker import FisherTracker
from windvane.errors import InputError

STATE = "fisher.pt"  # in a checkpoint's folder


def fisher_trainer(
    trainer: Any,
    *,
    penalty: FisherPenalty | None = None,
    tracker: FisherTracker | None = None,
    alarm: ExplosionAlarm | None = None,
    logits_of: Callable[[Any, Mapping[str, Any]], Tensor] | None = None,
) -> Any:
    """Make a Trainer measure and penalise after each backward pass that an optimiser step follows.

    Where gradients are accumulated, the last part counts. Unlike a callback it comes before gradients are clipped.
    The records are logged by the Trainer, if it logs at all. Its checkpoints hold the state of both, from which
    ``train(resume_from_checkpoint=...)`` goes on.

    Parameters
    ----------
    trainer
        Any `transformers.Trainer`, before ``train()``.
    penalty, tracker
        Made for ``trainer.model``.
    alarm
        Looks at each record of the tracker, and warns.
    logits_of
        Computes the logits from the model and the inputs: ``model(**inputs without labels).logits`` by default.
        For tokens, choose those that count, as in ``logits[labels != -100]``.

    Returns
    -------
    transformers.Trainer
        The same object.

    Raises
    ------
    InputError
        Where it is no Trainer.
    """
    if not callable(getattr(trainer, "training_step", None)):
        raise InputError(f"trainer is of type {type(trainer).__name__}. Allowed: a transformers.Trainer.")
    compute = _classify if logits_of is None else logits_of
    plain_step = trainer.training_step

    def training_step(model: Any, inputs: Mapping[str, Any], num_items_in_batch: Any = None) -> Tensor:
        for part in (penalty, tracker):
            follow(part, model)
        loss: Tensor = plain_step(model, inputs, num_items_in_batch)
        if trainer.accelerator.sync_gradients:
            here = {
                name: value.to(trainer.args.device) if isinstance(value, Tensor) else value
                for name, value in inputs.items()
            }

            def forward() -> Tensor:
                return compute(model, here)

            record = None if tracker is None else tracker.update(None, trainer.state.global_step, forward=forward)
            if record is not None:
                if trainer.args.logging_strategy != "no":
                    trainer.log(record.scalars())
                if alarm is not None:
                    alarm.update(record)
            if penalty is not None:
                scaler = trainer.accelerator.scaler  # of float16, which unscales later
                penalty(forward, here.get("labels"), 1.0 if scaler is None else scaler.get_scale())
        return loss

    trainer.training_step = training_step
    parts = {"penalty": penalty, "tracker": tracker}
    _keep_state(trainer, {name: part for name, part in parts.items() if part is not None})
    return trainer


def _keep_state(trainer: Any, parts: Mapping[str, FisherPenalty | FisherTracker]) -> None:
    """Write the state beside each checkpoint, and read it where training is resumed."""
    from transformers.trainer_utils import get_last_checkpoint

    plain_train, plain_save = trainer.train, trainer.callback_handler.on_save

    def train(
        resume_from_checkpoint: str | bool | None = None, trial: Any = None, ignore_keys_for_eval: Any = None
    ) -> Any:
        found = resume_from_checkpoint
        if found is True:
            found = get_last_checkpoint(trainer.args.output_dir)
        if found and (path := Path(found) / STATE).exists():
            kept = torch.load(path, map_location="cpu", weights_only=True)
            for name, part in parts.items():
                part.load_state_dict(kept[name])
        return plain_train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def on_save(args: Any, state: Any, control: Any) -> Any:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            torch.save({name: part.state_dict() for name, part in parts.items()}, folder / STATE)
        return plain_save(args, state, control)

    trainer.train, trainer.callback_handler.on_save = train, on_save


def _classify(model: Any, inputs: Mapping[str, Any]) -> Tensor:
    logits: Tensor = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    if logits.ndim != 2:
        raise InputError(
            f"The model's logits have shape {tuple(logits.shape)}, not (n, k). Allowed: logits_of, a function of model "
            "and inputs that gives the logits of the tokens that count."
        )
    return logits
