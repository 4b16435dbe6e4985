"""Fitted multilayer perceptrons, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from ..columns.encoder import Encoder, float32
from ..columns.table import Floats, Table
from ..output import Output
from ..serialization import read_arrays, write_arrays
from .fitted import FittedModel, LoadOptions
from .realmlp import PORTION, Single


class FittedMLP(FittedModel):
    kind = "mlp"

    def __init__(self, encoder: Encoder, output: Output, arrays: Sequence[Single], activation: str) -> None:
        super().__init__(encoder, output)
        self.arrays, self.activation = list(arrays), activation  # weights, then biases of all layers; "relu" or "tanh"
        # In float64: a row's prediction then depends neither on its neighbours nor on threads beyond 1e-15.
        self._double = [array.astype(np.float64) for array in self.arrays]

    @classmethod
    def load(cls, folder: Path, content: Any, encoder: Encoder, output: Output, options: LoadOptions) -> FittedMLP:
        kept = read_arrays(folder / "model.npz")
        arrays = [kept[str(i)].astype(np.float32, casting="safe") for i in range(2 * int(content["layers"]))]
        if content["activation"] not in ("relu", "tanh"):
            raise ValueError(f"activation {content['activation']!r} is not known")
        return cls(encoder, output, arrays, content["activation"])

    def predict(self, table: Table) -> Floats:
        features = float32(self.encoder.transform(table)).astype(np.float64)
        portions = (features[start : start + PORTION] for start in range(0, max(features.shape[0], 1), PORTION))
        scores = np.vstack([mlp_scores(rows, self._double, self.activation) for rows in portions])  # (n, outputs)
        if not self.output.n_classes:
            return self.output.from_values(scores[:, 0])
        return np.asarray(softmax(logits(scores), axis=1))

    def save(self, folder: Path) -> None:
        write_arrays(folder / "model.npz", {str(i): array for i, array in enumerate(self.arrays)})
        self._save(folder, {"layers": len(self.arrays) // 2, "activation": self.activation})


def mlp_scores(features: Any, arrays: Sequence[Any], activation: str) -> Floats:
    """Run a multilayer perceptron: scores of shape (n, outputs), before the last function."""
    layers = len(arrays) // 2
    hidden = features
    for i, (weights, bias) in enumerate(zip(arrays[:layers], arrays[layers:], strict=True)):
        hidden = hidden @ weights + bias
        if i < layers - 1:
            hidden = np.tanh(hidden) if activation == "tanh" else np.maximum(hidden, 0)
    return np.asarray(hidden, dtype=np.float64)


def logits(scores: Floats) -> Floats:
    """Return a score for each class, where a network of two classes has one for both."""
    return np.hstack([np.zeros_like(scores), scores]) if scores.shape[1] == 1 else scores
