"""What every fitted model is: an encoder, what its output means, and how it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from ..columns.encoder import Encoder
from ..columns.table import Floats, Table
from ..output import Output
from ..serialization import write_json


class Fitted(Protocol):
    """What the members of an ensemble are: anything that predicts a table."""

    def predict(self, table: Table) -> Floats:
        """Predict probabilities of shape (n, n_classes), or numbers of shape (n,)."""


class FittedModel:
    """The encoder of a model, what its output means, and, in each class below, how it predicts."""

    kind: ClassVar[str]

    def __init__(self, encoder: Encoder, output: Output) -> None:
        self.encoder, self.output = encoder, output

    @property
    def classes(self) -> NDArray[np.intp]:
        """Codes of the classes that the training set held; empty for a number."""
        return np.asarray(self.output.classes, dtype=np.intp)

    def predict(self, table: Table) -> Floats:
        """Predict probabilities of shape (n, n_classes), or numbers of shape (n,)."""
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Write the model into an existing folder."""
        raise NotImplementedError

    def _save(self, folder: Path, more: Mapping[str, Any]) -> None:
        self.encoder.save(folder)
        write_json(folder / "model.json", {"kind": self.kind, "output": self.output.to_json(), **more})


@dataclass(frozen=True)
class LoadOptions:
    """How models are opened."""

    n_threads: int  # of one prediction
    n_bagged: int  # models whose predictions are averaged
    trusted: Sequence[str]  # types that skops may open
