"""What is to be learned: the facts of a data set that policies, families and metrics read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class Task:
    """A learning problem in numbers."""

    kind: Kind
    n_rows: int  # of the training table
    n_columns: int
    n_classes: int = 0  # 0 for regression

    @property
    def is_classification(self) -> bool:
        """Whether classes are predicted."""
        return self.kind != "regression"

    @property
    def n_outputs(self) -> int:
        """Columns of a prediction: one probability for each class, or one number."""
        return self.n_classes if self.is_classification else 1
