"""Whether a test set looks like the training data: how well a forest separates their rows.

A classifier two-sample test: Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from windvane.evaluation.metric_functions import roc_auc
from windvane.runtime.columns.encoder import float32
from windvane.runtime.columns.table import Floats, Table

MAX_ROWS = 2_000  # of each table
N_TREES, N_FOLDS = 60, 3
MAX_COLUMNS = 5
CLEAR_SHIFT = 0.7  # ROC AUC from which the tables differ clearly


@dataclass(frozen=True)
class ColumnShift:
    """A column by which the forest separates the tables."""

    name: str
    importance: float  # share of the forest's gain
    distance: float  # Kolmogorov-Smirnov


@dataclass(frozen=True)
class DatasetShift:
    """How well the rows of two tables can be separated."""

    auc: float  # cross-validated ROC AUC; 0.5 means that they cannot be separated
    standard_error: float  # of the AUC of equal tables
    columns: Sequence[ColumnShift]  # the most important ones

    @property
    def is_visible(self) -> bool:
        """Whether the difference is more than chance: three standard errors."""
        return self.auc > 0.5 + 3 * self.standard_error


@np.errstate(over="ignore", invalid="ignore")  # scikit-learn sums all numbers to find missing ones; huge ones overflow
def measure_dataset_shift(
    train: Table, test: Table, columns: Mapping[str, Sequence[int]], seed: int
) -> DatasetShift | None:
    """Compare two tables of one schema in columns of the matrix (name -> positions); None if there are too few rows."""
    rng = np.random.default_rng(seed)
    m = min(train.n_rows, test.n_rows, MAX_ROWS)
    if not columns or m < 2 * N_FOLDS:
        return None
    first, second = (
        np.asarray(table.matrix[np.sort(rng.choice(table.n_rows, m, replace=False))]) for table in (train, test)
    )
    compared = [place for positions in columns.values() for place in positions]  # p places
    matrix = float32(np.concatenate([first[:, compared], second[:, compared]]))  # (2m, p)
    is_test = np.repeat([0, 1], m)  # (2m,)
    forest = RandomForestClassifier(N_TREES, min_samples_leaf=5, random_state=seed)
    folds = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    probabilities = cross_val_predict(forest, matrix, is_test, cv=folds, method="predict_proba")
    gains = np.zeros(first.shape[1])
    gains[compared] = forest.fit(matrix, is_test).feature_importances_
    gain_of = {name: float(gains[list(positions)].sum()) for name, positions in columns.items()}
    shifts = [
        ColumnShift(name, gain_of[name], _distance(first, second, columns[name]))
        for name in sorted(gain_of, key=lambda name: -gain_of[name])[:MAX_COLUMNS]
    ]
    # The variance of the Mann-Whitney statistic without a difference, over m^2.
    return DatasetShift(roc_auc(is_test, probabilities), float(np.sqrt((2 * m + 1) / (12 * m * m))), shifts)


def _distance(first: Floats, second: Floats, positions: Sequence[int]) -> float:
    """Largest Kolmogorov-Smirnov distance of some columns; a missing value counts as the smallest."""
    low = np.finfo(np.float64).min
    pairs = [(np.nan_to_num(first[:, j], nan=low), np.nan_to_num(second[:, j], nan=low)) for j in positions]
    return max(float(ks_2samp(a, b, method="asymp").statistic) for a, b in pairs)
