"""The learning problem, as policies, families and metrics read it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Kind = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True)
class Task:
    """A learning problem in numbers."""

    kind: Kind  # of each target
    n_rows: int  # of the training table
    n_columns: int
    n_classes: int = 0  # 0 for regression, and for several targets
    n_targets: int = 1  # more: several numbers, or several labels that are each there or not (kind "binary")
    quantile: float | None = None  # of a number, what is predicted in place of the mean
    ordered: bool = False  # whether the classes came with an order, as an ordered pandas Categorical has it
    log_link: bool = False  # whether models of its logarithm apply: means of numbers of at least 0 are predicted

    @property
    def is_classification(self) -> bool:
        """Whether one class of several is predicted."""
        return self.kind != "regression" and self.n_targets == 1

    @property
    def n_outputs(self) -> int:
        """Columns of a prediction: one probability for each class or label, or one number for each target."""
        return self.n_classes if self.is_classification else self.n_targets

    def prediction_shape(self, n_rows: int) -> tuple[int, ...]:
        """Shape of a prediction: (n, k) probabilities, (n,) numbers, or (n, t) of several targets."""
        return (n_rows, self.n_outputs) if self.is_classification or self.n_targets > 1 else (n_rows,)

    def of_one_target(self) -> Task:
        """Return the task of each of several targets."""
        if self.n_targets == 1:
            return self
        return replace(self, n_targets=1, n_classes=0 if self.kind == "regression" else 2)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold; `Task(**record)` reads it."""
        record = asdict(self)
        return {name: value for name, value in record.items() if (name, value) not in _OMITTED}


_OMITTED = (("n_targets", 1), ("quantile", None), ("ordered", False), ("log_link", False))  # what records leave out
