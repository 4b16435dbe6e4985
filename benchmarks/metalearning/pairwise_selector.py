"""Which policy suits a table, learned from the losses of every policy on many other tables.

The selector of Auto-Sklearn 2.0 (Feurer et al., arXiv 2007.04074): for each pair of policies a random forest predicts
from the size of a table which of the two is better there; the pairs vote. It is used offline only: what ships is the
table of `tabulate` over a grid of sizes, which `windvane.search.strategy.policy` looks up.

Notation: n tables, p policies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from windvane.errors import InputError
from windvane.runtime.columns.table import Floats, Integers
from windvane.search.strategy.policy import PolicyTable

_SAME = 1e-9  # votes that differ by less are tied: probabilities carry rounding errors


class Selector:
    """The classifiers of all pairs and the count of their votes.

    Each pair has a copy of `classifier`, such as a random forest of scikit-learn, with `seed` as its random state. A
    `soft` vote is divided by the probability that it predicts; otherwise the winner has it whole. `order` has the
    positions of the p policies, the most robust first. It decides what votes leave open, and its first is chosen for a
    table with more rows, or more columns, than every table with at least as many of the other.
    """

    known_: Floats  # rows and columns of the tables it learned from, shape (n, 2)
    pairs_: dict[tuple[int, int], Any]  # the classifier of two positions; None where the two were always equal

    def __init__(self, classifier: Any, order: Sequence[int], *, soft: bool = False, seed: int = 0) -> None:
        self.classifier, self.order, self.soft, self.seed = classifier, tuple(order), soft, seed

    def fit(self, sizes: Floats, losses: Floats, spans: Floats) -> Selector:
        n, p = losses.shape
        if sizes.shape != (n, 2) or spans.shape != (n,) or sorted(self.order) != list(range(p)):
            raise InputError(
                f"sizes, losses, spans and order have the shapes {sizes.shape}, {losses.shape}, {spans.shape} and "
                f"({len(self.order)},). Allowed: (n, 2), (n, p), (n,), and each of the p positions once."
            )
        if not np.isfinite(losses).all():
            raise InputError("losses holds a value that is not finite. Allowed: the worst loss for what failed.")
        self.known_ = sizes
        self.pairs_ = {
            (i, j): self._fit_pair(sizes, losses[:, i], losses[:, j], spans) for i in range(p) for j in range(i + 1, p)
        }
        return self

    def _fit_pair(self, sizes: Floats, first: Floats, second: Floats, spans: Floats) -> Any:
        differ = first != second
        if not np.any(differ):
            return None
        weight = np.abs(first - second)[differ] / spans[differ]
        classifier = clone(self.classifier).set_params(random_state=self.seed)
        return classifier.fit(sizes[differ], (first < second)[differ], sample_weight=weight)

    def wins(self, sizes: Floats) -> Floats:
        """Return the votes of every pair of policies."""
        p = len(self.order)
        found = np.zeros((len(sizes), p, p))
        for (i, j), model in self.pairs_.items():
            vote = np.full(len(sizes), 0.5)  # (q,)
            if model is not None:
                vote = model.predict_proba(sizes)[:, model.classes_].sum(axis=1)  # the column of True, if there is one
            if not self.soft:
                vote = np.where(np.abs(vote - 0.5) < _SAME, 0.5, np.round(vote))
            found[:, i, j], found[:, j, i] = vote, 1 - vote
        return found

    def select(self, sizes: Floats) -> Integers:
        chosen = np.full(len(sizes), self.order[0], dtype=np.int64)  # (q,)
        inside = is_covered(sizes, self.known_)
        if np.any(inside):
            chosen[inside] = [elect(votes, self.order) for votes in self.wins(sizes[inside])]
        return chosen


def is_covered(sizes: Floats, known: Floats) -> NDArray[np.bool_]:
    """Return whether a known table is at least as large in both rows and columns."""
    larger = np.all(sizes[:, None] <= known, axis=2)  # (q, n)
    return np.asarray(np.any(larger, axis=1))


def elect(wins: Floats, order: Sequence[int]) -> int:
    """Count votes; those who tie are counted again among themselves, and then the fixed order decides."""
    standing = np.arange(len(wins))
    while True:
        votes = wins[np.ix_(standing, standing)].sum(axis=1)
        best = standing[votes >= votes.max() - _SAME]
        if len(best) == len(standing):
            return next(position for position in order if position in best)
        standing = best


def tabulate(
    selector: Selector, names: Sequence[str], rows: Sequence[int], columns: Sequence[int], reasons: Mapping[str, str]
) -> PolicyTable:
    """Ask the selector once for every cell of a grid, in its geometric middle; an open cell is beyond all data."""
    middles = np.stack(np.meshgrid(_middles(rows), _middles(columns), indexing="ij"), axis=-1)  # (r, c, 2)
    chosen = selector.select(middles.reshape(-1, 2)).reshape(len(rows), len(columns))
    policies = tuple(tuple(names[position] for position in line) for line in chosen.tolist())
    used = {name: reasons[name] for line in policies for name in line}
    return PolicyTable(tuple(rows), tuple(columns), policies, used)


def _middles(edges: Sequence[int]) -> list[float]:
    inner = [math.sqrt(max(low, 1) * high) for low, high in pairwise(edges)]
    return [*inner, math.inf]
