"""The units that a number to predict is learned in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.task import Task
from windvane.runtime.columns.table import Floats


@dataclass(frozen=True)
class Units:
    """Mean 0 and standard deviation 1 on the training set, for regression; class codes stay as they are.

    Penalties then mean the same on every data set, and libraries that keep targets as float32 lose no digits of
    numbers that vary little around a large mean.

    Attributes
    ----------
    mean, spread
        Mean and standard deviation of the training target; 0 and 1 for classes.
    """

    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, target: NDArray[Any], weight: Floats | None, task: Task) -> Units:
        """Measure a training target."""
        if task.is_classification:
            return cls()
        mean = float(np.average(target, weights=weight))
        spread = float(np.sqrt(np.average((target - mean) ** 2, weights=weight)))
        return cls(mean, spread if spread > 0 else 1.0)

    def shrink(self, target: NDArray[Any]) -> NDArray[Any]:
        """Turn a target into these units."""
        return target if (self.mean, self.spread) == (0.0, 1.0) else (target - self.mean) / self.spread

    def expand(self, found: NDArray[Any]) -> Floats:
        """Turn predictions back."""
        return np.asarray(found * self.spread + self.mean)
