"""Whether a result agrees with a finding of a paper: effects with 95 % intervals, and the rule that decides.

An effect is positive in the direction of the paper. Where several seeds, tables or tasks measured it, the interval
decides: above zero it agrees, below zero it contradicts, otherwise there is no effect visible at this size. One run has
no interval; there the effect has to exceed `Rule.least`. Where the paper found no difference, an effect agrees if its
interval lies within `least` of zero, and contradicts if the interval leaves zero out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import t as student_t

Verdict = Literal["agrees", "contradicts", "no effect visible at this size", "not measured"]
CONFIDENCE = 0.95
TIMES = "times"  # unit of effects that are logarithms of ratios


@dataclass(frozen=True)
class Rule:
    """What counts as an effect."""

    unit: str
    least: float  # the smallest effect that counts in one run; with `none` the largest that does not count
    none: bool = False  # whether the paper found no difference

    def limit(self) -> str:
        """Write the least effect."""
        return f"{math.exp(self.least) if self.unit == TIMES else self.least:.2f}"


@dataclass(frozen=True)
class Effect:
    """An effect with its interval."""

    mean: float
    low: float = math.nan  # NaN for one run
    high: float = math.nan
    n: int = 1  # independent values behind it

    def written(self, unit: str) -> str:
        """Write it with its interval and unit."""
        if unit == TIMES:
            numbers = [f"{math.exp(value):.2f}" for value in (self.mean, self.low, self.high)]
        else:
            numbers = [f"{value:+.2f}" for value in (self.mean, self.low, self.high)]
        between = "" if math.isnan(self.low) else f" ({numbers[1]} to {numbers[2]})"
        return f"{numbers[0]}{between} {unit}"


def over_seeds(values: Sequence[float]) -> Effect:
    """Mean with Student's interval."""
    n, mean = len(values), float(np.mean(values))
    return Effect(mean) if n == 1 else from_error(mean, float(np.std(values, ddof=1)) / math.sqrt(n), n)


def from_error(mean: float, standard_error: float, n: int) -> Effect:
    """Student's interval of a mean of `n` values."""
    reach = float(student_t.ppf((1 + CONFIDENCE) / 2, n - 1)) * standard_error
    return Effect(mean, mean - reach, mean + reach, n)


def over_tables(values: Sequence[float]) -> Effect:
    """Median of the means of all pairs with the interval of Wilcoxon's signed rank test, for values with outliers.

    Hodges and Lehmann, Estimates of location based on rank tests, 1963. With fewer than six values no interval of 95 %
    is finite.
    """
    n = len(values)
    first, second = np.triu_indices(n)
    means = np.sort((np.array(values)[first] + np.array(values)[second]) / 2)
    counts = np.zeros(len(means) + 1)  # ways to draw ranks of each sum
    counts[0] = 1
    for rank in range(1, n + 1):
        counts[rank:] = counts[rank:] + counts[: len(counts) - rank]
    below = np.cumsum(counts) / 2.0**n
    cut = int((below <= (1 - CONFIDENCE) / 2).sum())  # means that are left out at either end, and the next
    if not cut:
        return Effect(float(np.median(means)), -math.inf, math.inf, n)
    return Effect(float(np.median(means)), float(means[cut - 1]), float(means[-cut]), n)


def verdict(effect: Effect | None, rule: Rule) -> Verdict:
    """Apply a rule to an effect; None was not measured."""
    if effect is None:
        return "not measured"
    single = math.isnan(effect.low)
    low, high = (effect.mean, effect.mean) if single else (effect.low, effect.high)
    if rule.none:
        if max(-low, high) <= rule.least:
            return "agrees"
        return "contradicts" if low > 0 or high < 0 else "no effect visible at this size"
    least = rule.least if single else 0.0
    if low > least:
        return "agrees"
    return "contradicts" if high < -least else "no effect visible at this size"
