"""The fitted models of several targets: one folder inside the other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..columns.table import Floats, Table
from ..serialization import write_json
from .fitted import Fitted

KIND = "multi_target"


class FittedMultiTarget:
    """One model for each target."""

    def __init__(self, models: Sequence[Fitted]) -> None:
        self.models = models

    @staticmethod
    def write_record(folder: Path, n_targets: int) -> None:
        write_json(folder / "model.json", {"kind": KIND, "n_targets": n_targets})

    def predict(self, table: Table) -> Floats:
        """Predict numbers, or probabilities that a label is there; shape (n, t)."""
        found = [model.predict(table) for model in self.models]
        return np.column_stack([one[:, 1] if one.ndim == 2 else one for one in found])


def target_folder(folder: Path, target: int) -> Path:
    return folder / f"target_{target}"


def models_of(model: Fitted, folder: Path) -> list[tuple[Fitted, Path]]:
    """Return the models of all targets with their folders; a model of one target is alone."""
    if not isinstance(model, FittedMultiTarget):
        return [(model, folder)]
    return [(one, target_folder(folder, j)) for j, one in enumerate(model.models)]
