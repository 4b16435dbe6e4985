"""For loops that cannot be edited, such as timm's training script: two hooks, on the model and on the optimiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from windvane.curvature.alarm import ExplosionAlarm
from windvane.curvature.integrations.processes import follow
from windvane.curvature.penalty import FisherPenalty
from windvane.curvature.tracker import FisherTracker
from windvane.errors import InputError


class FisherHooks:
    """Measure and penalise at each step of an optimiser, whatever loop calls it.

    The model's last call with gradients before the step is repeated, under autocast where it was; where gradients are
    accumulated, that is the last part. The step is the optimiser's, so the penalty comes after unscaling, and after
    clipping too: to clip with it, call the penalty in the loop instead.

    Parameters
    ----------
    model
        The network that the loop calls.
    optimizer
        Its optimiser.
    penalty
        Added at each step; not with labels="true", since hooks do not see targets.
    tracker
        Measures, with a forward pass of its own.
    alarm
        Looks at each record of the tracker, and warns.
    logits_of
        Takes the logits from what the model returns; itself by default.

    Attributes
    ----------
    step_
        Steps so far.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        penalty: FisherPenalty | None = None,
        tracker: FisherTracker | None = None,
        alarm: ExplosionAlarm | None = None,
        logits_of: Callable[[Any], Tensor] = lambda output: output,
    ) -> None:
        if penalty is not None and penalty.labels == "true":
            raise InputError("penalty has labels='true'. Allowed in hooks, which see no targets: 'sampled', 'uniform'.")
        if alarm is not None and tracker is None:
            raise InputError("alarm has no tracker to look at. Allowed: both, or no alarm.")
        for part in (penalty, tracker):
            follow(part, model)
        self.model, self.penalty, self.tracker, self.alarm = model, penalty, tracker, alarm
        self.logits_of, self.step_ = logits_of, 0
        self._call: tuple[tuple[Any, ...], Mapping[str, Any], torch.autocast] | None = None
        self._busy = False
        self._handles = (
            model.register_forward_pre_hook(self._remember, with_kwargs=True),
            optimizer.register_step_pre_hook(self._before_step),
        )

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()

    def state_dict(self) -> dict[str, Any]:
        """Give what a run needs to go on exactly, for the checkpoint of the loop.

        Returns
        -------
        dict[str, Any]
            The step, and the states of penalty and tracker.
        """
        parts = {"penalty": self.penalty, "tracker": self.tracker}
        return {"step": self.step_} | {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state.

        Parameters
        ----------
        state
            From `state_dict`.
        """
        self.step_ = state["step"]
        if self.penalty is not None:
            self.penalty.load_state_dict(state["penalty"])
        if self.tracker is not None:
            self.tracker.load_state_dict(state["tracker"])

    def _remember(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled() and not self._busy:
            kind = next(model.parameters()).device.type
            same = torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
            self._call = args, kwargs, same

    def _before_step(self, optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        if self._call is None:
            raise InputError("optimizer.step() came before a forward pass of the model with gradients.")
        (inputs, named, precision), self._call = self._call, None

        def forward() -> Tensor:
            with precision:
                return self.logits_of(self.model(*inputs, **named))

        self._busy = True
        try:
            record = None if self.tracker is None else self.tracker.update(None, self.step_, forward=forward)
            if record is not None and self.alarm is not None:
                self.alarm.update(record)
            if self.penalty is not None:
                scale = getattr(optimizer, "grad_scale", None)  # a fused step unscales by itself
                self.penalty(forward, scale=1.0 if scale is None else float(scale))
        finally:
            self._busy = False
        self.step_ += 1
