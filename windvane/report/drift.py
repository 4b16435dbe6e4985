"""Whether a test set looks like the training data: how well a forest tells their rows apart.

A classifier two-sample test: Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, 2017.
Notation: m rows of each side are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ks_2samp
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from windvane.data.scores import roc_auc
from windvane.runtime.table import Floats, Table

MOST_ROWS = 2_000  # of each side
TREES, FOLDS = 60, 3
MOST_COLUMNS = 5
CLEAR = 0.7  # ROC AUC from which the two sides differ clearly


@dataclass(frozen=True)
class Drift:
    """How well rows of the two sides can be told apart.

    Attributes
    ----------
    auc
        Cross-validated ROC AUC; 0.5 is not at all.
    noise
        Standard error of the AUC where nothing differs.
    columns
        Those that the forest used most: name, share of its gain, Kolmogorov-Smirnov distance of the two sides.
    """

    auc: float
    noise: float
    columns: Sequence[tuple[str, float, float]]

    @property
    def visible(self) -> bool:
        """Whether the difference is more than chance: three standard errors."""
        return self.auc > 0.5 + 3 * self.noise


def measure_drift(train: Table, test: Table, columns: Mapping[str, Sequence[int]], seed: int) -> Drift | None:
    """Compare two tables of one schema.

    Parameters
    ----------
    train, test
        The two sides; texts and sparse columns are not compared.
    columns
        Name -> columns of the matrix.
    seed
        Of samples, folds and forest.

    Returns
    -------
    Drift or None
        None where there is no column to compare, or too few rows.
    """
    rng = np.random.default_rng(seed)
    m = min(train.n_rows, test.n_rows, MOST_ROWS)
    if not columns or m < 2 * FOLDS:
        return None
    sides = [np.asarray(table.matrix[np.sort(rng.choice(table.n_rows, m, replace=False))]) for table in (train, test)]
    matrix = np.concatenate(sides)  # (2m, p)
    side = np.repeat([0, 1], m)
    forest = RandomForestClassifier(TREES, min_samples_leaf=5, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    probabilities = cross_val_predict(forest, matrix, side, cv=folds, method="predict_proba")
    gains = forest.fit(matrix, side).feature_importances_  # (p,)
    by_name = {name: float(gains[list(where)].sum()) for name, where in columns.items()}
    first = sorted(by_name, key=lambda name: -by_name[name])[:MOST_COLUMNS]
    described = [(name, by_name[name], _distance(sides[0], sides[1], columns[name])) for name in first]
    # The variance of the Mann-Whitney statistic without a difference, over m^2.
    return Drift(roc_auc(side, probabilities), float(np.sqrt((2 * m + 1) / (12 * m * m))), described)


def _distance(left: Floats, right: Floats, where: Sequence[int]) -> float:
    """Give the largest distance of the two distribution functions; a missing value counts as the smallest."""
    low = np.finfo(np.float64).min
    pairs = [(np.nan_to_num(left[:, j], nan=low), np.nan_to_num(right[:, j], nan=low)) for j in where]
    return max(float(ks_2samp(a, b, method="asymp").statistic) for a, b in pairs)
