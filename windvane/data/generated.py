"""Features generated from pairs of columns, for boosted trees: arithmetic, category crosses, group statistics.

Trees split on one column at a time, so a ratio, a product or a combination of two categories costs them many splits.
Which columns are combined is decided by the gain of a small LightGBM model on the training set; of the arithmetic
candidates those stay that a second small model finds useful. Category crosses become smoothed target means: of the
training rows out of fold, so that no row sees its own target. The idea is that of TabPrep (AutoGluon 1.5).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold

from windvane.data.task import Task
from windvane.runtime.columns.generated_features import (
    Cross,
    GeneratedFeatures,
    Group,
    Operation,
    category_codes,
    combine,
    cross_keys,
)
from windvane.runtime.columns.table import Floats, Integers, Table

MAX_BASES = 10  # numbers that are combined: 5 candidates for each of 45 pairs
MAX_ARITHMETIC = 24
MAX_CROSSED = 8  # categories that are crossed in pairs
MAX_CROSSES = 16
MAX_GROUPED, MAX_GROUPS = 5, 4  # numbers described within groups, and the categories that make groups
MAX_CLASSES = 10  # beyond, a target mean for each class is too many columns
SMOOTHING = 10.0  # rows that the overall mean counts as
MIN_LEVELS = 6  # a category of fewer levels is no harder to split than its target means
RANKING_ROWS = 8_000


def fit_generated(table: Table, target: NDArray[Any], task: Task, seed: int) -> tuple[GeneratedFeatures, Table]:
    """Learn which features to generate from a training set; return them with the extended training table."""
    p, cardinalities = table.n_numbers, table.cardinalities
    gains = _gains(np.asarray(table.matrix), target, task, list(range(p, p + len(cardinalities))), seed)
    best_numbers = [int(j) for j in np.argsort(-gains[:p], kind="stable") if gains[j] > 0]
    best_categories = [int(j) for j in np.argsort(-gains[p:], kind="stable")]
    arithmetic = _choose_arithmetic(np.asarray(table.matrix[:, :p]), best_numbers[:MAX_BASES], target, task, seed)
    codes = category_codes(table)
    crosses, encoded = _fit_crosses(codes, cardinalities, best_categories, target, task, seed)
    grouping = [j for j in best_categories if cardinalities[j] >= 3][:MAX_GROUPS]
    groups = tuple(
        _fit_group(codes, cardinalities, np.asarray(table.matrix), category, number)
        for category in grouping
        for number in best_numbers[:MAX_GROUPED]
    )
    generated = GeneratedFeatures(arithmetic, crosses, groups)
    return generated, generated.extend(table, codes, encoded)  # as `transform`, but with out-of-fold target means


def train_small_booster(matrix: Floats, target: NDArray[Any], task: Task, categories: list[int], seed: int) -> Any:
    """Train a LightGBM model of some ten small trees on rows with these columns of category codes; a `Booster`."""
    import lightgbm as lgb

    parameters = {
        "objective": {"binary": "binary", "multiclass": "multiclass", "regression": "regression"}[task.kind],
        "num_class": task.n_classes if task.kind == "multiclass" else 1,
        "num_leaves": 16,
        "learning_rate": 0.1,
        "feature_fraction": 0.5,
        "min_data_in_leaf": min(20, max(1, len(matrix) // 10)),
        "max_bin": 63,
        "verbosity": -1,
        "num_threads": 1,
        "deterministic": True,
        "force_col_wise": True,
        "seed": seed,
    }
    rounds = max(5, 40 // task.n_classes) if task.kind == "multiclass" else 40
    data = lgb.Dataset(matrix, target, categorical_feature=categories, params=parameters)
    return lgb.train(parameters, data, rounds)


def _gains(matrix: Floats, target: NDArray[Any], task: Task, categories: list[int], seed: int) -> Floats:
    """Return the gain of each column in a small LightGBM model, shape (q,)."""
    if matrix.shape[1] == 0:  # a sparse table, or one of texts
        return np.zeros(0)
    if len(matrix) > RANKING_ROWS:
        rows = np.random.default_rng(seed).choice(len(matrix), RANKING_ROWS, replace=False)
        matrix, target = matrix[rows], target[rows]
    if not task.is_classification:
        target = (target - target.mean()) / (target.std() or 1.0)
    booster = train_small_booster(matrix, target, task, categories, seed)
    return np.asarray(booster.feature_importance("gain"), dtype=np.float64)


def _choose_arithmetic(
    numbers: Floats, bases: list[int], target: NDArray[Any], task: Task, seed: int
) -> tuple[Operation, ...]:
    operations: list[Operation] = []
    for i, j in combinations(bases, 2):
        operations += [("-", i, j), ("+", i, j), ("*", i, j), ("/", i, j), ("/", j, i)]
    if not operations:
        return ()
    candidates = np.column_stack([combine(numbers, operation) for operation in operations])
    gains = _gains(np.hstack([numbers, candidates]), target, task, [], seed + 1)[numbers.shape[1] :]
    kept = [k for k in np.argsort(-gains, kind="stable") if gains[k] > 0][:MAX_ARITHMETIC]
    return tuple(operations[k] for k in kept)


def _fit_crosses(
    codes: Integers, cardinalities: Sequence[int], best: list[int], target: NDArray[Any], task: Task, seed: int
) -> tuple[tuple[Cross, ...], list[Floats]]:
    """Return the crosses and, for each, the out-of-fold means of the training rows."""
    outputs = target.astype(np.float64)[:, None]  # (n, k)
    if task.is_classification:
        if task.n_classes > MAX_CLASSES:
            return (), []
        outputs = np.eye(task.n_classes)[target]
        outputs = outputs[:, 1:] if task.n_classes == 2 else outputs
    singles = [j for j in best if cardinalities[j] >= MIN_LEVELS][:MAX_CROSSES]
    chosen: list[tuple[int, ...]] = [(j,) for j in singles]
    chosen += [*combinations(best[:MAX_CROSSED], 2)][:MAX_CROSSES]
    chosen += [tuple(best[:3])] if len(best) >= 3 else []
    limit = np.iinfo(np.int64).max
    crosses, encoded = [], []
    folds = list(KFold(min(5, len(codes)), shuffle=True, random_state=seed).split(codes)) if chosen else []
    for categories in chosen:
        if np.prod([float(cardinalities[j]) + 2 for j in categories]) > limit:
            continue
        keys = cross_keys(codes, cardinalities, categories)
        crosses.append(_fit_cross(categories, keys, outputs))
        means = np.empty_like(outputs)
        for train, held_out in folds:
            means[held_out] = _fit_cross(categories, keys[train], outputs[train]).encode(keys[held_out])
        encoded.append(means)
    return tuple(crosses), encoded


def _fit_cross(categories: tuple[int, ...], keys: Integers, outputs: Floats) -> Cross:
    cells, at, counts = np.unique(keys, return_inverse=True, return_counts=True)
    prior = outputs.mean(axis=0)  # (k,)
    sums = np.stack([np.bincount(at, weights=column, minlength=len(cells)) for column in outputs.T], axis=1)
    return Cross(categories, cells, (sums + SMOOTHING * prior) / (counts[:, None] + SMOOTHING), prior)


def _fit_group(codes: Integers, cardinalities: Sequence[int], matrix: Floats, category: int, number: int) -> Group:
    values, levels = matrix[:, number], codes[:, category]
    known = ~np.isnan(values)
    size = cardinalities[category] + 2
    counts = np.bincount(levels[known], minlength=size)
    overall = values[known].mean() if known.any() else 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.bincount(levels[known], weights=values[known], minlength=size) / counts
    return Group(category, number, np.where(counts > 0, means, overall))
