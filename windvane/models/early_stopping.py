"""Early stopping: the validation loss after each iteration, and when more of them is useless."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy.special import log_softmax

from windvane.data.task import Task
from windvane.models.base import DataSplit
from windvane.models.targets.target_scaler import TargetScaler
from windvane.runtime.columns.table import Floats
from windvane.runtime.output import log_probabilities


class EarlyStopping:
    """Losses of the iterations so far, lower being better."""

    def __init__(self, patience: int, losses: Iterable[float] = ()) -> None:
        self.patience = patience  # iterations without improvement that are always allowed
        self.losses: list[float] = []  # one an iteration; what is not finite counts as infinite
        self.best = 0  # number of iterations with the lowest loss, the first of equals; 0 before the first
        for loss in losses:
            self.update(loss)

    def update(self, loss: float) -> bool:
        """Append a loss; return whether it is the lowest so far."""
        self.losses.append(float(loss) if math.isfinite(loss) else math.inf)
        improved = self.best == 0 or self.losses[-1] < self.losses[self.best - 1]
        if improved:
            self.best = len(self.losses)
        return improved

    @property
    def should_stop(self) -> bool:
        return is_out_of_patience(len(self.losses), self.best, self.patience)


def is_out_of_patience(iterations: int, best: int, patience: int) -> bool:
    """Whether too many iterations followed the best one; a model that improved for long may well do so again."""
    return iterations - best > max(0.3 * best + 20, patience)


def validation_loss(found: Floats, validation: DataSplit, task: Task, target_scaler: TargetScaler) -> float:
    """Return what early stopping watches: the log loss, or in the units of training the squared or pinball loss."""
    if task.is_classification:
        losses = -log_probabilities(found[np.arange(len(found)), validation.target])
    elif task.quantile is not None:
        short = (validation.target - found) / (target_scaler.scale or 1.0)
        losses = np.maximum(task.quantile * short, (task.quantile - 1) * short)
    else:
        losses = ((found - validation.target) / (target_scaler.scale or 1.0)) ** 2
    return float(np.average(losses, weights=validation.weight))


def score_loss(scores: Floats, validation: DataSplit, task: Task, target_scaler: TargetScaler) -> float:
    """Return the log loss of a network's scores (n, k), or the squared loss of its only score in units of training."""
    target = validation.target
    if task.is_classification:
        losses = -log_softmax(scores, axis=1)[np.arange(len(target)), target]
    else:
        losses = (scores[:, 0] - target_scaler.transform(target)) ** 2
    return float(np.average(losses, weights=validation.weight))
