"""From what a model computes to what is predicted."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from .columns.table import Floats

SMALLEST_PROBABILITY = 1e-15  # of which a logarithm is taken


@dataclass(frozen=True)
class Output:
    """Probabilities of all classes, or numbers in the units of the target."""

    n_classes: int  # 0 for a number
    classes: tuple[int, ...] = ()  # codes that the training set held, ascending; empty where the model has all itself
    mean: float = 0.0  # of the training target, which was learned with mean 0 and standard deviation 1
    scale: float = 1.0

    @classmethod
    def from_json(cls, content: Any) -> Output:
        """Read what `to_json` wrote; ValueError or TypeError where it is not that."""
        mean, scale = float(content["mean"]), float(content["scale"])
        output = cls(int(content["n_classes"]), tuple(map(int, content["classes"])), mean, scale)
        if not (math.isfinite(mean) and math.isfinite(scale)):
            raise ValueError(f"{mean=} and {scale=} of the target")
        known = all(0 <= code < output.n_classes for code in output.classes)
        if not known or list(output.classes) != sorted(set(output.classes)):
            raise ValueError(f"classes {output.classes} of {output.n_classes}")
        return output

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def check_has_classes(self) -> None:
        """Check the record of a model that lacks classes without training rows; ValueError where it names none."""
        if bool(self.classes) != bool(self.n_classes):
            raise ValueError(f"classes {self.classes} of {self.n_classes}")

    def from_values(self, values: Floats) -> Floats:
        """Turn numbers of mean 0 into those of the target, shape (n,)."""
        return np.asarray(values * self.scale + self.mean)

    def from_probabilities(self, probabilities: Floats) -> Floats:
        """Give classes that training did not see the probability 0; shape (n, n_classes)."""
        if len(self.classes) == self.n_classes:
            return probabilities
        found = np.zeros((len(probabilities), self.n_classes))
        found[:, self.classes] = probabilities
        return found

    def from_scores(self, scores: Floats) -> Floats:
        """Turn linear scores into predictions.

        They have one column for a number or for the second of two classes, else one for each of `classes`. One class
        alone has all certainty.
        """
        if not self.n_classes:
            return self.from_values(scores[:, 0])
        if len(self.classes) == 1:
            return self.from_probabilities(np.ones((len(scores), 1)))
        if len(self.classes) == 2:
            return self.from_probabilities(np.hstack([expit(-scores), expit(scores)]))
        return self.from_probabilities(softmax(scores, axis=1))


def log_probabilities(probabilities: NDArray[Any]) -> NDArray[Any]:
    """Return finite logarithms: what is below `SMALLEST_PROBABILITY` counts as that."""
    return np.asarray(np.log(np.clip(probabilities, SMALLEST_PROBABILITY, 1.0)))
