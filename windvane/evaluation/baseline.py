"""The simplest baseline: one prediction for all rows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from windvane.evaluation.metrics import Metric, best_constant
from windvane.runtime.columns.table import Floats


@dataclass(frozen=True)
class ConstantBaseline:
    """A constant prediction and its loss on the validation rows, each predicted by the training set of its fold."""

    prediction: tuple[float, ...]  # of all training rows: frequencies of the k classes, or a number a target
    loss: float

    @property
    def values(self) -> Floats:
        """The prediction as `Predictions.constant_score` takes it, (k,), (t,) or ()."""
        values = np.array(self.prediction)
        return values if len(values) > 1 else values[0]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> Self | None:
        """Read what `to_json` wrote; None stays None."""
        return None if record is None else cls(tuple(map(float, record["prediction"])), float(record["loss"]))


def constant_prediction(
    target: NDArray[Any], n_classes: int, metric: Metric, weight: Floats | None = None
) -> Floats:  # (k,) or (), of t targets (t,)
    """Return the frequencies of the classes, or of numbers and labels what `best_constant` returns."""
    if n_classes:
        counts = np.bincount(target.astype(np.int64), weights=weight, minlength=n_classes)
        return np.asarray(counts / counts.sum())
    return np.asarray(best_constant(target.astype(np.float64), metric, weight))
