"""Which fold models of each member of an ensemble predict: as many as its weight deserves.

A trial on k folds leaves k models, of which validation asked one for each row. All k averaged predict a little better
and k times slower. The variance that the blend keeps is the sum of weight**2 x variance / models over its members, so
for a given number of models in all, each should have them in proportion to its weight.
"""

from __future__ import annotations

from collections.abc import Sequence

# Models of a whole ensemble, as a multiple of the folds.
MULTIPLE = 2.0
# Training parts that are smaller by less than this share of the largest count as large as it.
_EQUAL = 0.1


def folds_to_keep(weights: Sequence[float], train_sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Choose the folds whose models predict.

    Parameters
    ----------
    weights
        Of the members, sum 1.
    train_sizes
        Rows of each fold's training part.

    Returns
    -------
    list of tuple of int
        For each member its folds in ascending order, at least one; all folds where it is alone. Members take turns,
        so that together they have learned from all rows; where folds differ in size, as with time order, the larger
        ones come first.
    """
    n_folds, largest = len(train_sizes), max(train_sizes)
    step = max(1.0, _EQUAL * largest)
    size_class = [int((largest - size) / step) for size in train_sizes]
    chosen, first = [], 0
    for weight in weights:
        count = min(n_folds, max(1, round(MULTIPLE * n_folds * weight)))
        turns = [(first + i) % n_folds for i in range(n_folds)]
        chosen.append(tuple(sorted(sorted(turns, key=size_class.__getitem__)[:count])))
        first += count
    return chosen
