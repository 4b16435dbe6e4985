"""Prediction intervals and prediction sets with a wanted coverage, from the errors on validation rows.

Split-conformal prediction on out-of-fold predictions: a score says how badly a prediction missed a row, and the
quantile of the validation rows' scores says how much a new row is allowed. Notation: n rows to predict, k classes,
m stored scores, g knots.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns.table import Floats
from .ensemble import Ensemble, apply_temperature
from .errors import InputError
from .serialization import read_sealed, reading, write_sealed

FILE = "uncertainty.json"  # in a run, a saved and an exported model
SEPARATOR = "|"  # of the labels of a set in files
ROUNDING = 1e-12  # of coverages and probabilities that are equal on paper

Masks = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of validation rows, at most some of them, and the coverage that each as a limit reaches on new rows."""

    values: Floats  # (m,), ascending
    coverages: Floats  # (m,), ascending, below 1: with n equal rows i / (n + 1) for the i-th smallest score
    n_rows: int  # that the scores are of

    def limit(self, coverage: float, whose: str = "") -> float:
        """Return the smallest stored score that reaches a coverage; InputError if there are too few rows for it."""
        at = int(np.searchsorted(self.coverages, coverage - ROUNDING))
        if at == len(self.values):
            least = math.ceil(coverage / (1 - coverage) - 1e-9)
            allowed = "a class that has rows"
            if len(self.values):
                allowed = f"at most {math.floor(float(self.coverages[-1]) * 1e6) / 1e6:.6g}"
            raise InputError(
                f"coverage={coverage!r} needs at least {least} validation rows{whose}, but the model has {self.n_rows}."
                f" Allowed: {allowed}."
            )
        return float(self.values[at])

    def to_json(self) -> dict[str, Any]:
        return {"values": self.values.tolist(), "coverages": self.coverages.tolist(), "n_rows": self.n_rows}

    @classmethod
    def from_json(cls, record: Any) -> Scores:
        """Read what `to_json` wrote; ValueError or TypeError where it is not that."""
        scores = cls(_ascending(record["values"]), _ascending(record["coverages"]), int(record["n_rows"]))
        if len(scores.values) != len(scores.coverages) or scores.n_rows < len(scores.values):
            raise ValueError("scores and coverages have different lengths")
        if len(scores.coverages) and not 0 < scores.coverages[0] <= scores.coverages[-1] < 1:
            raise ValueError("a coverage is not between 0 and 1")
        return scores


@dataclass(frozen=True, eq=False)
class Intervals:
    """Turns predicted numbers into intervals: each side has a width, by prediction, times the limit of the scores."""

    scores: Scores  # of a row: its error, divided by the width of its side
    knots: Floats  # (g,), predictions, strictly ascending; straight lines between them, constant outside
    below: Floats  # (g,), above 0
    above: Floats  # (g,), above 0

    def widths(self, prediction: Floats) -> tuple[Floats, Floats]:
        """Return the widths of both sides, shape (n,) each, for a limit of 1."""
        return np.interp(prediction, self.knots, self.below), np.interp(prediction, self.knots, self.above)

    def apply(self, prediction: Floats, limit: float) -> Floats:
        """Return the lower and upper ends, shape (n, 2)."""
        below, above = self.widths(prediction)
        return np.column_stack([prediction - limit * below, prediction + limit * above])

    def to_json(self) -> dict[str, Any]:
        widths = {"knots": self.knots.tolist(), "below": self.below.tolist(), "above": self.above.tolist()}
        return {"scores": self.scores.to_json(), **widths}

    @classmethod
    def from_json(cls, record: Any) -> Intervals:
        """Read what `to_json` wrote; ValueError or TypeError where it is not that."""
        knots, below, above = (np.array(record[name], dtype=float) for name in ("knots", "below", "above"))
        if not len(knots) == len(below) == len(above) > 0 or not np.all(np.diff(_ascending(knots)) > 0):
            raise ValueError("the knots are not strictly ascending, or have other lengths than the widths")
        if not (np.all(np.isfinite([below, above])) and min(below.min(), above.min()) > 0):
            raise ValueError("a width is not finite and above 0")
        return cls(Scores.from_json(record["scores"]), knots, below, above)


@dataclass(frozen=True, eq=False)
class ClassSets:
    """Turns probabilities into sets of classes: those whose probability is at least 1 - the limit of the scores."""

    scores: Scores  # of a row: 1 - the probability of its true class
    by_class: tuple[Scores, ...]  # (k,), of the rows of each class; empty where there are too many classes
    temperature: float  # of the blended probabilities, as it was when the scores were computed

    def limits(self, coverage: float, classes: NDArray[Any], by_class: bool) -> Floats:
        """Return the limit for each class, shape (k,); InputError if there are too few rows."""
        if not by_class:
            return np.full(len(classes), self.scores.limit(coverage))
        if not self.by_class:
            raise InputError(f"by_class=True is not usable with {len(classes)} classes. Allowed: False.")
        each = zip(self.by_class, classes.tolist(), strict=True)
        return np.array([scores.limit(coverage, f" of class {label!r}") for scores, label in each])

    def apply(self, blend: Floats, limits: Floats, allow_empty: bool) -> Masks:
        """Return whether a class is in the set of a row, shape (n, k), from blended probabilities."""
        probabilities = apply_temperature(blend, self.temperature)
        found = np.asarray(1 - probabilities <= limits + ROUNDING)
        if not allow_empty:
            found[np.arange(len(found)), probabilities.argmax(axis=1)] = True
        return found

    def to_json(self) -> dict[str, Any]:
        by_class = [scores.to_json() for scores in self.by_class]
        return {"scores": self.scores.to_json(), "by_class": by_class, "temperature": self.temperature}

    @classmethod
    def from_json(cls, record: Any) -> ClassSets:
        """Read what `to_json` wrote; ValueError or TypeError where it is not that."""
        temperature = float(record["temperature"])
        if not 0 < temperature < math.inf:
            raise ValueError(f"the temperature is {temperature}")
        by_class = tuple(Scores.from_json(scores) for scores in record["by_class"])
        return cls(Scores.from_json(record["scores"]), by_class, temperature)


Uncertainty = Intervals | ClassSets


def check_coverage(coverage: Any, argument: str = "coverage") -> float:
    """Return a coverage as a float; InputError if it is no number between 0 and 1."""
    is_number = isinstance(coverage, Real | np.number) and not isinstance(coverage, bool)
    if not is_number or not 0 < float(coverage) < 1:
        raise InputError(f"{argument}={coverage!r} is not usable. Allowed: a number above 0 and below 1.")
    return float(coverage)


def join_labels(sets: Masks, classes: NDArray[Any]) -> list[str]:
    """Return the labels of each set as one text, for files."""
    return [SEPARATOR.join(str(label) for label in classes[row].tolist()) for row in sets]


def write_uncertainty(path: Path, uncertainty: Uncertainty, ensemble: Ensemble) -> None:
    """Write the file of an ensemble, whole or not at all; an earlier one is replaced."""
    write_sealed(path, {"members": _members(ensemble), **uncertainty.to_json()})


def read_uncertainty(path: Path, ensemble: Ensemble, n_classes: int) -> Uncertainty | None:
    """Read the file of an ensemble (`n_classes` is 0 for a number); None if it is missing or of other members."""
    if not path.exists():
        return None
    record = read_sealed(path)
    with reading(path):
        if record["members"] != _members(ensemble):
            return None
        if not n_classes:
            return Intervals.from_json(record)
        sets = ClassSets.from_json(record)
        if len(sets.by_class) not in (0, n_classes):
            raise ValueError(f"scores of {len(sets.by_class)} classes, not of {n_classes}")
        return sets


def _members(ensemble: Ensemble) -> Any:
    """The members as JSON returns them; a later change of the decision leaves the scores as they are."""
    return json.loads(json.dumps([asdict(member) for member in ensemble.members]))


def _ascending(values: Any) -> Floats:
    found = np.array(values, dtype=float)
    if found.ndim != 1 or not np.all(np.isfinite(found)) or np.any(np.diff(found) < 0):
        raise ValueError("the values are not finite and ascending")
    return found
