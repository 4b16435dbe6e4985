"""A callback for Lightning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from windvane.curvature.explosion_alarm import ExplosionAlarm
from windvane.curvature.fisher_penalty import FisherPenalty
from windvane.curvature.fisher_trace import FisherTracker
from windvane.curvature.integrations import FisherParts


def fisher_callback(
    *,
    penalty: FisherPenalty | None = None,
    tracker: FisherTracker | None = None,
    alarm: ExplosionAlarm | None = None,
    logits_of: Callable[[Any, Any], Tensor] = lambda module, batch: module(batch[0]),
    targets_of: Callable[[Any], Tensor] = lambda batch: batch[1],
) -> Any:
    """Return a callback that measures and penalizes before each optimizer step.

    It runs after unscaling and before clipping, in the Trainer's precision; with gradient accumulation it uses the
    last batch. The module logs the records, and checkpoints contain the state.

    Parameters
    ----------
    penalty
        Added at each step.
    tracker
        Measures, in a separate forward pass.
    alarm
        Checks each record of the tracker.
    logits_of
        Computes the logits from the module and a batch.
    targets_of
        Extracts the targets from a batch; used with labels="true" only.

    Returns
    -------
    lightning.pytorch.Callback
        For ``Trainer(callbacks=[...])``.
    """
    from lightning.pytorch import Callback

    parts = FisherParts(penalty, tracker, alarm)

    class FisherCallback(Callback):  # type: ignore[misc]
        """Measures the Fisher trace and adds the Fisher Penalty."""

        @property
        def state_key(self) -> str:
            return "FisherCallback"

        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            self.batch = batch

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            def forward() -> Tensor:
                with trainer.precision_plugin.train_step_context():
                    return logits_of(pl_module, self.batch)

            parts.follow_wrapper(trainer.strategy.model)
            record = parts.measure(trainer.global_step, forward)
            if record is not None:
                pl_module.log_dict(record.scalars(), logger=trainer.logger is not None)
            if penalty is not None:
                targets = targets_of(self.batch) if penalty.labels == "true" else None
                penalty(forward, targets, _scale(trainer.precision_plugin, optimizer))

        def state_dict(self) -> dict[str, Any]:
            return parts.state_dict()

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            parts.load_state_dict(state_dict)

    return FisherCallback()


def _scale(precision: Any, optimizer: Any) -> float:
    """Return the factor of the current gradients: with float16, fused optimizers unscale only in their step."""
    scaler = getattr(precision, "scaler", None)
    return scaler.get_scale() if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False) else 1.0
