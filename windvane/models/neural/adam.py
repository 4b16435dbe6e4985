"""Adam with decoupled weight decay, and a schedule of growing cycles, for parameters in one flat array."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from windvane.runtime.models.realmlp import Single

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.95, 1e-8  # RealMLP's
CYCLE_ENDS = (1, 3, 7, 15, 31, 63, 127, 255, 511)  # epochs at which the learning rate is zero


@dataclass(frozen=True)
class ParamGroup:
    """Neighbouring parameters that learn alike."""

    where: slice  # their place in the flat array
    lr_factor: float  # times the learning rate of a step
    weight_decay: float = 0.0  # times the learning rate of a step: the share by which it shrinks them


class Adam:
    """Parameters with the running means of their gradients and squared gradients; float32, of one shape."""

    def __init__(
        self, parameters: Single, exp_avg: Single | None = None, exp_avg_sq: Single | None = None, updates: int = 0
    ) -> None:
        self.parameters, self.updates = parameters, updates
        self.exp_avg = np.zeros_like(parameters) if exp_avg is None else exp_avg
        self.exp_avg_sq = np.zeros_like(parameters) if exp_avg_sq is None else exp_avg_sq

    def step(self, gradient: Single, learning_rate: float, groups: Iterable[ParamGroup]) -> None:
        """Update the parameters of all groups; the array of the gradient is reused for the step."""
        self.updates += 1
        correction_1, correction_2 = 1 - _BETA_1**self.updates, 1 - _BETA_2**self.updates
        self.exp_avg *= _BETA_1
        self.exp_avg += (1 - _BETA_1) * gradient
        self.exp_avg_sq *= _BETA_2
        np.square(gradient, out=gradient)
        gradient *= 1 - _BETA_2
        self.exp_avg_sq += gradient
        step = np.sqrt(self.exp_avg_sq, out=gradient)
        step += _EPSILON
        np.divide(self.exp_avg, step, out=step)
        for group in groups:
            step[group.where] *= learning_rate * group.lr_factor * math.sqrt(correction_2) / correction_1
            if group.weight_decay:
                self.parameters[group.where] *= 1 - learning_rate * group.weight_decay
        self.parameters -= step


def coslog_schedule(epoch: float) -> float:
    """Return the share of the highest learning rate: RealMLP's cosine cycles, each twice as long as the one before."""
    return 0.5 * (1 - math.cos(2 * math.pi * math.log2(1 + epoch)))
