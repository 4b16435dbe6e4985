"""Standardization of the target of a regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.task import Task
from windvane.runtime.columns.table import Floats


@dataclass(frozen=True)
class TargetScaler:
    """Mean 0 and standard deviation 1 on the training set, for regression; class codes stay as they are.

    Penalties then mean the same on every data set, and libraries that keep targets as float32 lose no digits of
    numbers that vary little around a large mean.
    """

    mean: float = 0.0  # of the training target; 0 for classes
    scale: float = 1.0  # its standard deviation; 1 for classes

    @classmethod
    def of(cls, target: NDArray[Any], weight: Floats | None, task: Task) -> TargetScaler:
        """Measure a training target."""
        if task.is_classification:
            return cls()
        mean = float(np.average(target, weights=weight))
        scale = float(np.sqrt(np.average((target - mean) ** 2, weights=weight)))
        return cls(mean, scale if scale > 0 else 1.0)

    def transform(self, target: NDArray[Any]) -> NDArray[Any]:
        """Turn a target into these units."""
        return target if (self.mean, self.scale) == (0.0, 1.0) else (target - self.mean) / self.scale
