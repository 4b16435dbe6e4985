"""Fitted linear models, as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..columns.encoder import Encoder
from ..columns.table import Floats, Table
from ..output import Output
from ..serialization import read_arrays, write_arrays
from .fitted import FittedModel, LoadOptions


class FittedLinear(FittedModel):
    kind = "linear"

    def __init__(self, encoder: Encoder, output: Output, coefficients: Floats, intercept: Floats) -> None:
        super().__init__(encoder, output)
        # Shapes (k, q) and (k,): one row for two classes or a number, else one for each class of the training set.
        self.coefficients, self.intercept = coefficients, intercept

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> FittedLinear:
        arrays = read_arrays(folder / "model.npz")
        coefficients, intercept = (arrays[name].astype(np.float64) for name in ("coefficients", "intercept"))
        k = len(output.classes) if len(output.classes) > 2 else 1
        output.check_has_classes()
        if coefficients.shape != (k, coefficients.shape[1]) or intercept.shape != (k,):
            raise ValueError("coefficients and classes do not go together")
        return cls(encoder, output, coefficients, intercept)

    def predict(self, table: Table) -> Floats:
        return self.output.from_scores(np.asarray(self.encoder.transform(table) @ self.coefficients.T + self.intercept))

    def save(self, folder: Path) -> None:
        write_arrays(folder / "model.npz", {"coefficients": self.coefficients, "intercept": self.intercept})
        self._save(folder, {})
