"""Similarities added up over batches, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from windvane.errors import InputError
from windvane.inspect.similarity.gram import NOT_FINITE
from windvane.inspect.similarity.measures import Floats, LayerSummary, Measure, SimilaritySums

LEVEL = 0.95  # of the intervals


@dataclass(frozen=True)
class SimilarityMatrix:
    """Similarity of every layer of a network with every layer of another.

    Attributes
    ----------
    values
        (layers of the first, layers of the second); NaN where one of them cannot be compared.
    ci_low, ci_high
        Ends of the 95 % interval; NaN where there was one batch.
    """

    values: Floats
    ci_low: Floats
    ci_high: Floats


class SimilarityAccumulator:
    """Similarities of the layers of two networks, batch by batch.

    Parameters
    ----------
    measure
        Of similarity.
    """

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.layers: tuple[tuple[str, ...], tuple[str, ...]] | None = None
        self.n_images = 0
        self._scores: list[SimilaritySums] = []
        self._weights: list[int] = []
        self._undefined: tuple[dict[str, set[str]], dict[str, set[str]]] = ({}, {})

    @property
    def n_batches(self) -> int:
        """How many were added."""
        return len(self._scores)

    def add(self, left: Mapping[str, LayerSummary], right: Mapping[str, LayerSummary]) -> None:
        """Take a batch into account.

        Parameters
        ----------
        left, right
            Sketches of the layers of both networks; the very same mapping for a network with itself.

        Raises
        ------
        InputError
            Where the layers are not those of the first batch, or the numbers of images differ.
        """
        layers = (tuple(left), tuple(right))
        if self.layers is None:
            self.layers = layers
        if layers != self.layers or not all(layers):
            raise InputError("layers: every batch must have the same layers, at least one for each network.")
        numbers = {summary.n_images for side in (left, right) for summary in side.values()}
        if len(numbers) > 1:
            raise InputError(f"The layers of a batch hold {sorted(numbers)} images. Allowed: the same images for all.")
        first = list(left.values())
        self._scores.append(self.measure.compare(first, first if right is left else list(right.values())))
        self._weights.append(numbers.pop())
        self.n_images += self._weights[-1]
        for reasons, side in zip(self._undefined, (left, right), strict=True):
            for name, summary in side.items():
                if summary.undefined_reason:
                    reasons.setdefault(name, set()).add(summary.undefined_reason)

    def matrix(self) -> SimilarityMatrix:
        """Divide the sums.

        Returns
        -------
        SimilarityMatrix
            With a jackknife interval over the batches.

        Raises
        ------
        InputError
            Where no batch was added.
        """
        if not self._scores:
            raise InputError("No batch was added.")
        weights = np.array(self._weights, float) / self.n_images
        cross = sum(w * one.cross for w, one in zip(weights, self._scores, strict=True))
        left = sum(w * one.left for w, one in zip(weights, self._scores, strict=True))
        right = sum(w * one.right for w, one in zip(weights, self._scores, strict=True))
        values = self._masked(_divide(cross, left, right))
        if self.n_batches == 1:
            return SimilarityMatrix(values, np.full_like(values, np.nan), np.full_like(values, np.nan))
        without = [
            _divide(cross - w * one.cross, left - w * one.left, right - w * one.right)
            for w, one in zip(weights, self._scores, strict=True)
        ]
        error = np.std(without, axis=0) * np.sqrt(self.n_batches - 1)
        return t_interval(values, error, self.n_batches)

    def undefined(self) -> tuple[dict[str, str], dict[str, str]]:
        """Say which layers of each network cannot be compared, and why.

        Returns
        -------
        tuple of dict
            For the first and the second network: layer -> reason.
        """
        reasons: tuple[dict[str, str], dict[str, str]] = ({}, {})
        for side, (reason, found) in enumerate(zip(reasons, self._undefined, strict=True)):
            own = sum((one.right if side else one.left) for one in self._scores)
            for name, size in zip((self.layers or ((), ()))[side], np.atleast_1d(own), strict=True):
                known = found.get(name, set())
                if NOT_FINITE in known or not size > 0:
                    reason[name] = " and ".join(sorted(known)) or "tells no two images apart"
        return reasons

    def _masked(self, values: Floats) -> Floats:
        for side, reasons in enumerate(self.undefined()):
            for name in reasons:
                index = (self.layers or ((), ()))[side].index(name)
                values[(index, slice(None)) if side == 0 else (slice(None), index)] = np.nan
        return values


def t_interval(values: Floats, errors: Floats, n_parts: int) -> SimilarityMatrix:
    """Put Student's interval around values.

    Parameters
    ----------
    values
        Estimates.
    errors
        Their standard errors.
    n_parts
        Independent parts that the errors come from.

    Returns
    -------
    SimilarityMatrix
        The ends stay within -1 and 1.
    """
    reach = student.ppf((1 + LEVEL) / 2, n_parts - 1) * errors
    return SimilarityMatrix(values, np.clip(values - reach, -1.0, 1.0), np.clip(values + reach, -1.0, 1.0))


def average_repeats(maps: Sequence[SimilarityMatrix]) -> SimilarityMatrix:
    """Average the maps of repeats.

    Parameters
    ----------
    maps
        At least one.

    Returns
    -------
    SimilarityMatrix
        With an interval over the repeats where there are several; else the only one.
    """
    if len(maps) == 1:
        return maps[0]
    values = np.stack([one.values for one in maps])
    return t_interval(values.mean(0), values.std(0, ddof=1) / np.sqrt(len(maps)), len(maps))


def _divide(cross: Floats, left: Floats, right: Floats) -> Floats:
    """Divide by the geometric mean of the layers with themselves; NaN where that is not positive."""
    scale = np.sqrt(np.clip(left, 0.0, None))[:, None] * np.sqrt(np.clip(right, 0.0, None))
    values: Floats = np.divide(cross, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    return values
