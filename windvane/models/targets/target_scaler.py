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
    A constant target has the scale 0, so that every family predicts exactly the constant.
    """

    mean: float = 0.0  # of the training target; 0 for classes
    scale: float = 1.0  # its standard deviation; 1 for classes

    @classmethod
    def of(cls, target: NDArray[Any], weight: Floats | None, task: Task) -> TargetScaler:
        if task.is_classification:
            return cls()
        if np.all(target == target[0]):  # a mean would differ from it in the last digit
            return cls(float(target[0]), 0.0)
        largest = float(np.abs(target).max())
        unit = largest if largest > 1e150 else 1.0  # whose square would be infinite
        mean = float(np.average(target / unit, weights=weight))
        scale = float(np.sqrt(np.average((target / unit - mean) ** 2, weights=weight)))
        return cls(mean * unit, scale * unit if scale > 0 else 1.0)

    def transform(self, target: NDArray[Any]) -> NDArray[Any]:
        return target if (self.mean, self.scale) == (0.0, 1.0) else (target - self.mean) / (self.scale or 1.0)
