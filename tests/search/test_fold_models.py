from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from windvane.search.ensemble_selection import MODELS_PER_FOLD, allocate_fold_models


@given(
    counts=st.lists(st.integers(1, 25), min_size=1, max_size=10),
    sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=10),
)
@settings(max_examples=100, deadline=None)
def test_each_member_keeps_some_folds_and_heavier_ones_not_fewer(counts: list[int], sizes: list[int]) -> None:
    weights = sorted((np.array(counts) / sum(counts)).tolist(), reverse=True)
    kept = allocate_fold_models(weights, sizes)
    lengths = [len(folds) for folds in kept]
    assert all(list(folds) == sorted(set(folds)) for folds in kept)
    assert all(0 <= fold < len(sizes) for folds in kept for fold in folds)
    assert min(lengths) >= 1
    assert lengths == sorted(lengths, reverse=True)
    assert sum(lengths) <= MODELS_PER_FOLD * len(sizes) + 1.5 * len(weights)


def test_a_member_alone_keeps_all_folds() -> None:
    assert allocate_fold_models([1.0], [80] * 5) == [(0, 1, 2, 3, 4)]


def test_members_take_turns_so_that_all_rows_are_learned_from() -> None:
    assert allocate_fold_models([0.4, 0.2, 0.2, 0.1, 0.1], [80, 79, 80, 80, 80]) == [
        (0, 1, 2, 3),
        (0, 4),
        (1, 2),
        (3,),
        (4,),
    ]


def test_folds_that_learned_from_more_rows_come_first() -> None:
    assert allocate_fold_models([0.4, 0.3, 0.2, 0.1], [20, 40, 60, 80]) == [(1, 2, 3), (2, 3), (2, 3), (3,)]


def test_shares_in_proportion_to_weights_leave_the_least_variance() -> None:
    """Against every other division of as many models."""
    weights = np.array([0.5, 0.3, 0.2])
    lengths = np.array([len(folds) for folds in allocate_fold_models(weights.tolist(), [10] * 5)])
    others = [np.array([a, b, lengths.sum() - a - b]) for a in range(1, 6) for b in range(1, 6)]
    allowed = [other for other in others if 1 <= other[2] <= 5]
    assert (weights**2 / lengths).sum() <= min((weights**2 / other).sum() for other in allowed) * (1 + 1e-9)
