"""The records of an ensemble: whose predictions are averaged, by which weights, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from .columns.table import Floats
from .errors import ModelFileError
from .output import log_probabilities

MAX_NUMBER = 2**31  # of a trial
MAX_TEMPERATURE = 1e6


@dataclass(frozen=True)
class Member:
    """A checkpoint of a trial with its share of the ensemble."""

    number: int  # of the trial
    checkpoint: str  # its name
    family: str
    weight: float  # above 0; of several targets the mean of `shares`
    folds: tuple[int, ...] = ()  # whose models predict, ascending; empty for all
    shares: tuple[float, ...] = ()  # of each of several targets, at least 0; empty where all have `weight`
    temperature: float = 1.0  # of the probabilities that one fold model predicts

    def temperature_of(self, n_models: int) -> float:
        """Return the temperature of an average of its models: those that are each too sure are not so on average."""
        return self.temperature if n_models == 1 else min(1.0, self.temperature)

    def calibrate(self, prediction: Floats, n_models: int = 1) -> Floats:
        """Sharpen or flatten what so many of its models predict on average."""
        return apply_temperature(prediction, self.temperature_of(n_models))

    def weigh(self, prediction: NDArray[np.floating[Any]]) -> Floats:
        """Return the member's part of the blend; of several targets the prediction has a column each."""
        return np.asarray((np.array(self.shares) if self.shares else self.weight) * prediction)

    @property
    def is_sound(self) -> bool:
        """Whether a record of it can be true; the name of a checkpoint is no path to elsewhere."""
        names = (self.checkpoint, self.family)
        named = all(isinstance(name, str) and not set(name) & set("/\\\0") for name in names)
        weighed = isinstance(self.weight, int | float) and 0 < self.weight <= 1 + 1e-9
        shared = all(0 <= share <= 1 + 1e-9 for share in self.shares)
        numbered = all(0 <= number < MAX_NUMBER for number in (self.number, *self.folds))
        tempered = isinstance(self.temperature, int | float) and 0 < self.temperature < MAX_TEMPERATURE
        return tempered and named and self.checkpoint not in (".", "..") and weighed and shared and numbered


@dataclass(frozen=True)
class Ensemble:
    """What predicts in the end."""

    members: tuple[Member, ...]  # weights above 0 that sum to 1, largest first
    loss: float  # of the blend on validation rows; it chose the ensemble, so it is optimistic
    temperature: float = 1.0  # the exponent 1 / temperature sharpens or flattens probabilities; 1 changes nothing
    decision_weights: tuple[float, ...] | None = None  # factor of each class before the largest probability decides
    # Cost of each error, true class by predicted class; the class with the least expected cost is predicted.
    costs: tuple[tuple[float, ...], ...] | None = None
    # Of two classes: probabilities of the second one, ascending, and what they become; straight lines between them.
    calibration: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    # Of several labels: probability of each above which it is there.
    label_thresholds: tuple[float, ...] | None = None
    averages_roots: bool = False  # whether fold models of a member are averaged by the square roots of probabilities

    def average_folds(self, predictions: Sequence[Floats]) -> Floats:
        """Average what the fold models of a member predict.

        The mean of probabilities is less sure than each of them is, and so than the out-of-fold predictions by which
        the temperature was chosen; the squared mean of their roots lies between it and the geometric mean.
        """
        if len(predictions) == 1:
            return predictions[0]
        if not self.averages_roots:
            return np.asarray(np.mean(predictions, axis=0, dtype=np.float64))
        squares = np.mean(np.sqrt(predictions), axis=0, dtype=np.float64) ** 2  # (n, k)
        return np.asarray(squares / squares.sum(axis=1, keepdims=True))

    def calibrate(self, probabilities: Floats) -> Floats:
        """Correct the blended probabilities, shape (n, k), by the temperature or the calibration."""
        if self.calibration is not None:
            return apply_calibration(probabilities, *self.calibration)
        return apply_temperature(probabilities, self.temperature)

    def decision_values(self, probabilities: Floats) -> Floats:
        """Return values (n, k) whose largest predicts the class; of labels (n, t): above one half it is there."""
        if self.label_thresholds is not None:
            return probabilities + (0.5 - np.asarray(self.label_thresholds))
        if self.costs is not None:
            return np.asarray(-(probabilities @ np.asarray(self.costs)))
        return probabilities if self.decision_weights is None else probabilities * np.asarray(self.decision_weights)

    def of_label(self, label: int) -> Ensemble:
        """Return what decides for one of several labels, as for two classes."""
        if self.label_thresholds is None:
            return self
        threshold = self.label_thresholds[label]
        return replace(self, decision_weights=(threshold, 1.0 - threshold), label_thresholds=None)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> Ensemble:
        """Read what `to_json` wrote; ModelFileError where it is not that."""
        try:
            lists: dict[str, Any] = {
                "members": tuple(_member(one) for one in record["members"]),
                "decision_weights": _floats(record.get("decision_weights")),
                "costs": _rows(record.get("costs")),
                "calibration": _rows(record.get("calibration")),
                "label_thresholds": _floats(record.get("label_thresholds")),
            }
            ensemble = cls(**{**record, **lists})
            ensemble._check()
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise ModelFileError(f"The record of the ensemble is damaged: {error!r}") from error
        return ensemble

    def _check(self) -> None:
        """Raise ValueError or TypeError where a record cannot be true."""
        weights = np.array([member.weight for member in self.members], dtype=float)
        if not (np.all(weights > 0) and abs(weights.sum() - 1) < 1e-6):  # NaN and infinity are neither
            raise ValueError(f"weights {weights.tolist()} are not above 0 with the sum 1")
        shares = np.array([member.shares for member in self.members], dtype=float)  # (m, t), or (m, 0)
        sums = np.append(shares.sum(axis=0), 1.0 + (shares.mean(axis=1) - weights if shares.size else 0.0))
        if not np.all(np.abs(sums - 1) < 1e-6):
            raise ValueError(f"shares {shares.tolist()} do not go together with weights {weights.tolist()}")
        factors = np.array([self.temperature, *(self.decision_weights or ())], dtype=float)
        if not (np.all(factors > 0) and np.all(np.isfinite(factors))):
            raise ValueError("temperature and decision weights are not finite and above 0")
        if not all(member.is_sound for member in self.members):
            raise ValueError("a member is out of range")
        if type(self.averages_roots) is not bool:
            raise ValueError(f"averages_roots is {self.averages_roots!r}")
        if not all(0 < threshold < 1 for threshold in self.label_thresholds or ()):
            raise ValueError("a threshold of a label is not between 0 and 1")
        if self.costs is not None:
            costs = np.array(self.costs)
            if costs.shape != (len(costs), len(costs)) or not np.isfinite(costs).all():
                raise ValueError("the costs are no square of finite numbers")
        if self.calibration is not None:
            knots = np.array(self.calibration)
            ascending = len(knots) == 2 and knots.shape[1] > 1 and np.all(np.diff(knots) > 0)
            if not ascending or knots.min() < 0 or knots.max() > 1:
                raise ValueError("the calibration is not two ascending rows of probabilities")


def _member(record: Any) -> Member:
    folds, shares = tuple(map(int, record.get("folds", ()))), tuple(map(float, record.get("shares", ())))
    return Member(**{**record, "number": int(record["number"]), "folds": folds, "shares": shares})


def _floats(given: Any) -> tuple[float, ...] | None:
    return None if given is None else tuple(map(float, given))


def _rows(given: Any) -> tuple[tuple[float, ...], ...] | None:
    return None if given is None else tuple(tuple(map(float, row)) for row in given)


def apply_calibration(probabilities: Floats, knots: tuple[float, ...], values: tuple[float, ...]) -> Floats:
    """Map probabilities of two classes, shape (n, 2), by straight lines between knots; their order stays."""
    second = np.interp(probabilities[:, 1], knots, values)
    return np.column_stack([1.0 - second, second])


def apply_temperature(probabilities: Floats, temperature: float) -> Floats:
    """Sharpen (below 1) or flatten (above 1) probabilities of shape (n, k)."""
    if temperature == 1.0:
        return probabilities
    return np.asarray(softmax(log_probabilities(probabilities) / temperature, axis=1))
