"""For training loops that cannot be edited, such as timm's training script: hooks on model and optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from windvane.curvature.explosion_alarm import ExplosionAlarm
from windvane.curvature.fisher_penalty import FisherPenalty
from windvane.curvature.fisher_trace import FisherTracker
from windvane.curvature.integrations import FisherParts
from windvane.errors import InputError


class FisherHooks:
    """Measure and penalize at each step of an optimizer, in any training loop.

    Before each step the model's last forward pass with gradients is repeated, under the same autocast; with gradient
    accumulation that is the pass of the last batch. The penalty is added after unscaling, but also after clipping: to
    clip the sum, call the penalty in the loop instead.

    Parameters
    ----------
    model
        The network that the loop calls.
    optimizer
        Its optimizer.
    penalty
        Added at each step; not with labels="true", since hooks do not see targets.
    tracker
        Measures, in a separate forward pass.
    alarm
        Checks each record of the tracker.
    logits_of
        Extracts the logits from what the model returns; identity by default.

    Attributes
    ----------
    step_
        Steps so far.

    Examples
    --------
    >>> import torch
    >>> from windvane.curvature import FisherTracker
    >>> from windvane.curvature.integrations.training_hooks import FisherHooks
    >>> model = torch.nn.Linear(4, 3)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> hooks = FisherHooks(model, optimizer, tracker=FisherTracker(model, every=1))
    >>> model(torch.randn(8, 4)).square().mean().backward()
    >>> optimizer.step()
    >>> len(hooks.tracker.records_)
    1
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
            raise InputError("penalty has labels='true', but hooks see no targets. Allowed: 'sampled', 'uniform'.")
        self._parts = FisherParts(penalty, tracker, alarm)
        self._parts.follow_wrapper(model)
        self.model, self.penalty, self.tracker, self.alarm = model, penalty, tracker, alarm
        self.logits_of, self.step_ = logits_of, 0
        self._last_call: tuple[tuple[Any, ...], Mapping[str, Any], torch.autocast] | None = None
        self._is_measuring = False
        self._handles = (
            model.register_forward_pre_hook(self._record_call, with_kwargs=True),
            optimizer.register_step_pre_hook(self._before_step),
        )

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return the step and the states of penalty and tracker, for the checkpoint of the loop."""
        return {"step": self.step_} | self._parts.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.step_ = state["step"]
        self._parts.load_state_dict(state)

    def _record_call(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if torch.is_grad_enabled() and not self._is_measuring:
            device = next(model.parameters()).device.type
            autocast = torch.autocast(device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device))
            self._last_call = args, kwargs, autocast

    def _before_step(self, optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
        if self._last_call is None:
            raise InputError("optimizer.step() came before a forward pass of the model with gradients.")
        (inputs, named, autocast), self._last_call = self._last_call, None

        def forward() -> Tensor:
            with autocast:
                return self.logits_of(self.model(*inputs, **named))

        self._is_measuring = True
        try:
            self._parts.measure(self.step_, forward)
            if self.penalty is not None:
                scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer unscales by itself
                self.penalty(forward, scale=1.0 if scale is None else float(scale))
        finally:
            self._is_measuring = False
        self.step_ += 1
