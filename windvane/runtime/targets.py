"""Several targets of one model: what they are called, and the form in which a user has them.

Notation: n rows, t targets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from .columns.table import Floats
from .conformal import join_labels
from .labels import labels_from_json, labels_to_json

Form = Literal["array", "frame", "lists"]


@dataclass(frozen=True, eq=False)
class Targets:
    """The targets of a model that has several: numbers, or labels that are each there or not."""

    names: NDArray[Any]  # of the columns, or the labels themselves where they came as lists, (t,)
    form: Form  # an array or a table with a column for each target, or a list of labels for each row
    values: tuple[NDArray[Any], ...] | None = None  # of each label, what stands for "not there" and "there"

    def __len__(self) -> int:
        return len(self.names)

    @property
    def are_labels(self) -> bool:
        """Whether they are labels, of which probabilities are predicted, and not numbers."""
        return self.values is not None

    @property
    def titles(self) -> list[str]:
        return [str(name) for name in self.names.tolist()]

    def decide(self, raw: Floats) -> Any:
        """Turn numbers, or values of labels (above one half: there), (n, t), into predictions in training's form."""
        if self.values is None:
            return raw if self.form == "array" else pd.DataFrame(raw, columns=self.names)
        codes = (raw > 0.5).astype(np.intp)  # (n, t)
        if self.form == "lists":
            return [self.names[row].tolist() for row in codes.astype(bool)]
        columns = [values[codes[:, j]] for j, values in enumerate(self.values)]
        if self.form == "array":
            return np.column_stack(columns)
        return pd.DataFrame(dict(enumerate(columns))).set_axis(self.names, axis=1)

    def columns(self, raw: Floats) -> pd.DataFrame:
        """Turn what `decide` takes into a table of predictions for a file."""
        if self.form == "lists":
            return pd.DataFrame({"prediction": join_labels(raw > 0.5, self.names)})
        found: pd.DataFrame = replace(self, form="frame").decide(raw)
        return found.set_axis(self.titles, axis=1)

    def to_json(self) -> dict[str, Any]:
        values = None if self.values is None else [labels_to_json(one) for one in self.values]
        return {"names": labels_to_json(self.names), "form": self.form, "values": values}

    @classmethod
    def from_json(cls, record: Any) -> Targets | None:
        """Read what `to_json` wrote; None stays None, ValueError where it is not that."""
        if record is None:
            return None
        names, form, values = labels_from_json(record["names"]), record["form"], record["values"]
        if values is not None:
            values = tuple(labels_from_json(one) for one in values)
        sizes = None if values is None else [len(one) for one in values]
        if len(names) < 2 or form not in get_args(Form) or sizes not in (None, [2] * len(names)):
            raise ValueError(f"targets {names.tolist()} of the form {form!r} with {sizes} values")
        return cls(names, form, values)
