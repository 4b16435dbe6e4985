"""The Fisher trace and penalty in existing training loops.

- `training_hooks.FisherHooks`: any loop with a model and an optimizer, such as timm's training script
- `lightning.fisher_callback`: a Lightning callback
- `huggingface.fisher_trainer`: a Trainer of transformers
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from windvane.curvature.explosion_alarm import ExplosionAlarm
from windvane.curvature.fisher_penalty import FisherPenalty
from windvane.curvature.fisher_trace import FisherRecord, FisherTracker
from windvane.errors import InputError
from windvane.torch_utils import find_ddp, unwrap_model


class FisherParts:
    """What a loop does besides its training: a penalty, a tracker, an alarm, or some of them."""

    def __init__(
        self, penalty: FisherPenalty | None, tracker: FisherTracker | None, alarm: ExplosionAlarm | None
    ) -> None:
        if alarm is not None and tracker is None:
            raise InputError("alarm has no tracker. Allowed: both, or no alarm.")
        self._tracker, self._alarm = tracker, alarm
        parts = {"penalty": penalty, "tracker": tracker}
        self._given = {name: part for name, part in parts.items() if part is not None}

    def follow_wrapper(self, called: nn.Module) -> None:
        """Point penalty and tracker at the `DistributedDataParallel` that the loop has put around their network."""
        # The penalty then adds the mean over processes; otherwise each process would add its own, and their networks
        # would diverge.
        if find_ddp(called) is None:
            return
        for part in self._given.values():
            if unwrap_model(part.model) is not unwrap_model(called):
                raise InputError(
                    f"{type(part).__name__} was made for another network than the one that several processes train. "
                    f"Allowed: the whole {type(unwrap_model(called)).__name__} that the loop was given."
                )
            part.model = called

    def measure(self, step: int, forward: Callable[[], Tensor]) -> FisherRecord | None:
        """Measure the trace, if this step is due, and let the alarm check it."""
        record = None if self._tracker is None else self._tracker.update(None, step, forward=forward)
        if record is not None and self._alarm is not None:
            self._alarm.update(record)
        return record

    def state_dict(self) -> dict[str, Any]:
        """Return the states of penalty and tracker, for the checkpoint of the loop."""
        return {name: part.state_dict() for name, part in self._given.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        for name, part in self._given.items():
            part.load_state_dict(state[name])
