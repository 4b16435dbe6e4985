"""For the Trainer of transformers, whose training step is wrapped: callbacks run after clipping and see no inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from windvane.curvature.explosion_alarm import ExplosionAlarm
from windvane.curvature.fisher_penalty import FisherPenalty
from windvane.curvature.fisher_trace import FisherTracker
from windvane.curvature.integrations import FisherParts
from windvane.errors import InputError
from windvane.torch_utils import to_device

STATE_FILE = "fisher.pt"  # in the folder of a checkpoint


def fisher_trainer(
    trainer: Any,
    *,
    penalty: FisherPenalty | None = None,
    tracker: FisherTracker | None = None,
    alarm: ExplosionAlarm | None = None,
    logits_of: Callable[[Any, Mapping[str, Any]], Tensor] | None = None,
) -> Any:
    """Make a Trainer measure and penalize after each backward pass that an optimizer step follows.

    It runs before gradients are clipped; with gradient accumulation it uses the last batch. The Trainer logs the
    records, and its checkpoints contain the state, from which ``train(resume_from_checkpoint=...)`` continues.

    Parameters
    ----------
    trainer
        A `transformers.Trainer`, before ``train()``.
    penalty, tracker
        Made for ``trainer.model``.
    alarm
        Checks each record of the tracker.
    logits_of
        Computes the logits from the model and the inputs: by default ``model(**inputs).logits``, without labels. For
        tokens, select those that count, as in ``logits[labels != -100]``.

    Returns
    -------
    transformers.Trainer
        The same object.
    """
    if not callable(getattr(trainer, "training_step", None)):
        raise InputError(f"trainer is of type {type(trainer).__name__}. Allowed: a transformers.Trainer.")
    compute = _logits_of_classifier if logits_of is None else logits_of
    plain_step, parts = trainer.training_step, FisherParts(penalty, tracker, alarm)

    def training_step(model: Any, inputs: Mapping[str, Any], num_items_in_batch: Any = None) -> Tensor:
        parts.follow_wrapper(model)
        loss: Tensor = plain_step(model, inputs, num_items_in_batch)
        if trainer.accelerator.sync_gradients:
            batch = to_device(inputs, trainer.args.device)

            def forward() -> Tensor:
                return compute(model, batch)

            record = parts.measure(trainer.state.global_step, forward)
            if record is not None and trainer.args.logging_strategy != "no":
                trainer.log(record.scalars())
            if penalty is not None:
                scaler = trainer.accelerator.scaler  # with float16; unscales later
                penalty(forward, batch.get("labels"), 1.0 if scaler is None else scaler.get_scale())
        return loss

    trainer.training_step = training_step
    _save_with_checkpoints(trainer, parts)
    return trainer


def _save_with_checkpoints(trainer: Any, parts: FisherParts) -> None:
    """Write the state into each checkpoint folder, and load it when training resumes."""
    from transformers.trainer_utils import get_last_checkpoint

    plain_train, plain_save = trainer.train, trainer.callback_handler.on_save

    def train(
        resume_from_checkpoint: str | bool | None = None, trial: Any = None, ignore_keys_for_eval: Any = None
    ) -> Any:
        checkpoint = resume_from_checkpoint
        if checkpoint is True:
            checkpoint = get_last_checkpoint(trainer.args.output_dir)
        if checkpoint and (path := Path(checkpoint) / STATE_FILE).exists():
            parts.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return plain_train(resume_from_checkpoint, trial, ignore_keys_for_eval)

    def on_save(args: Any, state: Any, control: Any) -> Any:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and folder.is_dir():
            torch.save(parts.state_dict(), folder / STATE_FILE)
        return plain_save(args, state, control)

    trainer.train, trainer.callback_handler.on_save = train, on_save


def _logits_of_classifier(model: Any, inputs: Mapping[str, Any]) -> Tensor:
    logits: Tensor = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    if logits.ndim != 2:
        raise InputError(
            f"The model's logits have shape {tuple(logits.shape)}, not (n, k). Allowed: logits_of, a function of model "
            "and inputs that returns the logits of the tokens that count."
        )
    return logits
