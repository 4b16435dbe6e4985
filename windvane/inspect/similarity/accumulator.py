"""Similarities summed over batches, with confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from windvane.errors import InputError
from windvane.inspect.result import Floats
from windvane.inspect.similarity.gram import NOT_FINITE
from windvane.inspect.similarity.measures import LayerSummary, Measure, SimilaritySums

CONFIDENCE = 0.95  # of the intervals


@dataclass(frozen=True)
class SimilarityMatrix:
    """Similarity of every layer of a network with every layer of another, with 95 % intervals."""

    values: Floats  # (layers of the first, layers of the second); NaN where one of them cannot be compared
    ci_low: Floats  # of the same shape; NaN where there was one batch
    ci_high: Floats


class SimilarityAccumulator:
    """Similarities of the layers of two networks, batch by batch."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.layers: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
        self.n_images = 0
        self._sums: list[SimilaritySums] = []  # of each batch
        self._lengths: list[int] = []  # images of each batch
        self._reasons: tuple[dict[str, set[str]], dict[str, set[str]]] = ({}, {})  # by layer of either network

    @property
    def n_batches(self) -> int:
        """Number of batches."""
        return len(self._sums)

    def add(self, left: Mapping[str, LayerSummary], right: Mapping[str, LayerSummary]) -> None:
        """Add a batch; `left` and `right` are the same object for a network with itself."""
        layers = (tuple(left), tuple(right))
        if not self._sums:
            self.layers = layers
        if layers != self.layers or not all(layers):
            raise InputError("layers: every batch must have the same layers, at least one for each network.")
        lengths = {summary.n_images for side in (left, right) for summary in side.values()}
        if len(lengths) > 1:
            raise InputError(f"The layers of a batch hold {sorted(lengths)} images. Allowed: the same images for all.")
        of_left = list(left.values())
        self._sums.append(self.measure.compare(of_left, of_left if right is left else list(right.values())))
        self._lengths.append(lengths.pop())
        self.n_images += self._lengths[-1]
        for reasons, side in zip(self._reasons, (left, right), strict=True):
            for name, summary in side.items():
                if summary.undefined_reason:
                    reasons.setdefault(name, set()).add(summary.undefined_reason)

    def matrix(self) -> SimilarityMatrix:
        """Similarities over all batches, with a jackknife interval over the batches."""
        if not self._sums:
            raise InputError("No batch was added.")
        weights = np.array(self._lengths, float) / self.n_images
        batches = [(w * one.cross, w * one.left, w * one.right) for w, one in zip(weights, self._sums, strict=True)]
        totals = [sum(parts) for parts in zip(*batches, strict=True)]
        values = _normalize(*totals)
        of_left, of_right = self.undefined()
        values[[self.layers[0].index(name) for name in of_left], :] = np.nan
        values[:, [self.layers[1].index(name) for name in of_right]] = np.nan
        if self.n_batches == 1:
            return SimilarityMatrix(values, np.full_like(values, np.nan), np.full_like(values, np.nan))
        # Each batch left out in turn.
        without = [_normalize(*(total - part for total, part in zip(totals, batch, strict=True))) for batch in batches]
        errors = np.std(without, axis=0) * np.sqrt(self.n_batches - 1)
        return t_interval(values, errors, self.n_batches)

    def undefined(self) -> tuple[dict[str, str], dict[str, str]]:
        """Layers of the first and of the second network that cannot be compared, with the reason."""
        undefined: tuple[dict[str, str], dict[str, str]] = ({}, {})
        of_itself = (sum(one.left for one in self._sums), sum(one.right for one in self._sums))
        for found, known, names, totals in zip(undefined, self._reasons, self.layers, of_itself, strict=True):
            for name, total in zip(names, np.atleast_1d(totals), strict=True):
                reasons = known.get(name, set())
                if NOT_FINITE in reasons or not total > 0:
                    found[name] = " and ".join(sorted(reasons)) or "does not distinguish any two images"
        return undefined


def t_interval(values: Floats, errors: Floats, n_parts: int) -> SimilarityMatrix:
    """Student's interval from the standard errors of `n_parts` independent parts, within -1 and 1."""
    reach = student_t.ppf((1 + CONFIDENCE) / 2, n_parts - 1) * errors
    return SimilarityMatrix(values, np.clip(values - reach, -1.0, 1.0), np.clip(values + reach, -1.0, 1.0))


def average_repeats(matrices: Sequence[SimilarityMatrix]) -> SimilarityMatrix:
    """Mean over repeats with an interval over them; a single matrix stays as it is."""
    if len(matrices) == 1:
        return matrices[0]
    values = np.stack([one.values for one in matrices])
    return t_interval(values.mean(0), values.std(0, ddof=1) / np.sqrt(len(matrices)), len(matrices))


def _normalize(cross: Floats, left: Floats, right: Floats) -> Floats:
    """Divide by the geometric mean of the layers with themselves; NaN where that is not positive."""
    scale = np.sqrt(np.clip(left, 0.0, None))[:, None] * np.sqrt(np.clip(right, 0.0, None))
    values: Floats = np.divide(cross, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    return values
