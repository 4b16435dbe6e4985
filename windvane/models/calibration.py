"""Probabilities out of scores: a sigmoid for each class, fitted to rows that the scores were not learned from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from windvane.data.table import Floats

_MOST_STEPS, _MOST_HALVINGS = 50, 20
_CLOSE = 1e-6


@dataclass(frozen=True)
class Sigmoids:
    """One sigmoid for each column of scores; never falling.

    Attributes
    ----------
    slope, shift
        Shape (k,): a score s has the probability 1 / (1 + exp(-slope s - shift)).
    """

    slope: Floats
    shift: Floats

    @classmethod
    def plain(cls, k: int) -> Sigmoids:
        """Take scores for log odds as they are."""
        return cls(np.ones(k), np.zeros(k))

    @classmethod
    def fit(cls, scores: Floats, target: NDArray[np.intp], weight: Floats | None = None) -> Sigmoids:
        """Fit by Newton's method to the targets that Platt (1999, section 2.2) shrinks towards the middle.

        Parameters
        ----------
        scores
            Shape (n, k): one column for each of k classes; k = 1: for the second of two.
        target
            Class of each row, 0 .. k - 1 (or 0 and 1), shape (n,).
        weight
            Weights of shape (n,).

        Returns
        -------
        Sigmoids
            A column whose best sigmoid falls gets a constant.
        """
        n, k = scores.shape
        w = np.ones((n, 1)) if weight is None else weight[:, None] * (n / weight.sum())
        positive = target[:, None] == (np.arange(k) if k > 1 else 1)  # (n, k)
        n_positive, n_negative = (w * positive).sum(axis=0), (w * ~positive).sum(axis=0)
        goal = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
        centre, spread = scores.mean(axis=0), scores.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        prior = np.log((n_positive + 1) / (n_negative + 1))
        slope, shift = _newton((scores - centre) / spread, goal, w, prior)
        falls = slope < 0
        slope, shift = np.where(falls, 0.0, slope), np.where(falls, prior, shift)
        return cls(slope / spread, shift - slope * centre / spread)

    def __call__(self, scores: Floats) -> Floats:
        """Give probabilities.

        Parameters
        ----------
        scores
            Shape (n, k).

        Returns
        -------
        ndarray
            Shape (n, max(2, k)); rows sum to 1.
        """
        return calibrated(scores, self.slope, self.shift)


def calibrated(scores: Floats, slope: Floats, shift: Floats) -> Floats:
    """Turn scores of shape (n, k) into probabilities; see `Sigmoids`."""
    odds = scores * slope + shift
    if odds.shape[1] == 1:
        return np.hstack([expit(-odds), expit(odds)])
    found = expit(odds)
    found[found.sum(axis=1) == 0] = 1.0  # all classes are out of question alike
    return np.asarray(found / found.sum(axis=1, keepdims=True))


def held_out(target: NDArray[np.intp], every: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Choose rows to calibrate on: of each class every so-manieth, none of a class with fewer.

    Parameters
    ----------
    target
        Class codes of shape (n,).
    every
        Of how many rows one is chosen.
    rng
        Which rows.

    Returns
    -------
    ndarray
        Whether a row is chosen, shape (n,).
    """
    order = rng.permutation(len(target))
    order = order[np.argsort(target[order], kind="stable")]  # class by class, in random order
    sizes = np.unique(target, return_counts=True)[1]
    place = np.arange(len(target)) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # within its class
    chosen = np.zeros(len(target), dtype=bool)
    chosen[order] = place % every == every - 1
    return chosen


def _newton(z: Floats, goal: Floats, w: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """Minimise the cross entropy of all columns at once; a step that makes a column worse is halved."""
    slope, shift = np.zeros_like(prior), prior.copy()
    loss = _cross_entropy(z, goal, w, slope, shift)
    for _ in range(_MOST_STEPS):
        p = expit(z * slope + shift)  # (n, k)
        error, curve = w * (p - goal), w * p * (1 - p)
        h, hz = curve.sum(axis=0) + 1e-9, (curve * z).sum(axis=0)
        hzz = (curve * z * z).sum(axis=0) + 1e-9
        g, gz = error.sum(axis=0), (error * z).sum(axis=0)
        determinant = h * hzz - hz * hz
        by_slope, by_shift = (h * gz - hz * g) / determinant, (hzz * g - hz * gz) / determinant
        size = np.ones_like(slope)
        for _ in range(_MOST_HALVINGS):
            after = _cross_entropy(z, goal, w, slope - size * by_slope, shift - size * by_shift)
            worse = ~(after <= loss)
            if not worse.any():
                break
            size[worse] /= 2
        size[worse] = 0.0
        slope, shift = slope - size * by_slope, shift - size * by_shift
        loss = np.where(worse, loss, after)
        if max(np.abs(size * by_slope).max(), np.abs(size * by_shift).max()) < _CLOSE:
            break
    return slope, shift


def _cross_entropy(z: Floats, goal: Floats, w: Floats, slope: Floats, shift: Floats) -> Floats:
    odds = z * slope + shift
    return np.asarray((w * (np.logaddexp(0, odds) - goal * odds)).sum(axis=0))  # (k,)
