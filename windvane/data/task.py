"""What is to be learned: the facts of a data set that policies, families and metrics read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class Task:
    """A learning problem in numbers.

    Attributes
    ----------
    kind
        Two classes, more, or a number to predict.
    n_rows, n_columns
        Size of the training table.
    n_classes
        Number of classes; 0 for regression.
    """

    kind: Kind
    n_rows: int
    n_columns: int
    n_classes: int = 0

    @property
    def is_classification(self) -> bool:
        """Whether classes are predicted."""
        return self.kind != "regression"

    @property
    def n_outputs(self) -> int:
        """Columns of a prediction: one probability for each class, or one number."""
        return self.n_classes if self.is_classification else 1
