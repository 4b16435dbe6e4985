"""The metrics that are computed most often: faster than scikit-learn's, equal to them and with their parameters.

Targets are class codes 0 .. k - 1 or numbers, shape (n,); probabilities have the shape (n, k).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from windvane.runtime.columns.table import Floats
from windvane.runtime.output import log_probabilities

Codes = NDArray[np.integer[Any]]

SMALLEST = 1e-15  # divisor


def roc_auc(y_true: Codes, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    """Area under the ROC curve, of more than two classes the mean over those that occur; 0.5 if undefined."""
    return _against_the_rest(_auc, y_true, y_pred, sample_weight, undefined=0.5)


def average_precision(y_true: Codes, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    """Area under the steps of precision over recall, of more than two classes the mean over those that occur."""
    return _against_the_rest(_step_area, y_true, y_pred, sample_weight, undefined=0.0)


def log_loss(y_true: Codes, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    """Mean negative log of the probability of the true class; rows are normalized, probabilities at least 1e-15."""
    total = np.maximum(y_pred.sum(axis=1), SMALLEST)
    likelihood = y_pred[np.arange(len(y_true)), y_true] / total  # (n,)
    return _mean(-log_probabilities(likelihood), sample_weight)


def accuracy(y_true: Codes, y_pred: Codes, sample_weight: Floats | None = None) -> float:
    """Share of correct labels."""
    return _mean(y_true == y_pred, sample_weight)


def balanced_accuracy(y_true: Codes, y_pred: Codes, sample_weight: Floats | None = None) -> float:
    """Mean share of correct labels over the classes that occur."""
    weight = np.ones(len(y_true)) if sample_weight is None else sample_weight
    sizes = np.bincount(y_true, weights=weight)  # (k,)
    hits = np.bincount(y_true, weights=weight * (y_true == y_pred))
    return float(np.mean(hits[sizes > 0] / sizes[sizes > 0]))


def f1(y_true: Codes, y_pred: Codes, sample_weight: Floats | None = None) -> float:
    """Harmonic mean of precision and recall of the second of two classes; 0 if it neither occurs nor is predicted."""
    scores, _, _ = _f1_of_classes(y_true, y_pred, sample_weight)
    return float(scores[1]) if len(scores) > 1 else 0.0


def f1_macro(y_true: Codes, y_pred: Codes, sample_weight: Floats | None = None) -> float:
    """Mean F1 over the classes that occur or are predicted."""
    scores, _, there = _f1_of_classes(y_true, y_pred, sample_weight)
    return float(np.mean(scores[there]))


def f1_weighted(y_true: Codes, y_pred: Codes, sample_weight: Floats | None = None) -> float:
    """Mean F1 of the classes, weighted by their rows."""
    scores, sizes, _ = _f1_of_classes(y_true, y_pred, sample_weight)
    return float(np.average(scores, weights=sizes))


def precision(y_true: Codes, y_pred: Codes, sample_weight: Floats | None = None) -> float:
    """Share of the rows predicted as the second of two classes that are of it; 0 without any such row."""
    hits, selected, _ = _second_class(y_true, y_pred, sample_weight)
    return hits / selected if selected > 0 else 0.0


def recall(y_true: Codes, y_pred: Codes, sample_weight: Floats | None = None) -> float:
    """Share of the rows of the second of two classes that are predicted as it; 0 without any such row."""
    hits, _, positives = _second_class(y_true, y_pred, sample_weight)
    return hits / positives if positives > 0 else 0.0


def matthews_corrcoef(y_true: Codes, y_pred: Codes, sample_weight: Floats | None = None) -> float:
    """Correlation of true and predicted classes (Gorodkin, 2004); 0 if either is constant."""
    k = int(max(y_true.max(), y_pred.max())) + 1
    weight = np.ones(len(y_true)) if sample_weight is None else sample_weight
    true, predicted = (np.bincount(codes, weights=weight, minlength=k) for codes in (y_true, y_pred))
    n, hits = float(weight.sum()), float(weight[y_true == y_pred].sum())
    variances = (n**2 - float(true @ true)) * (n**2 - float(predicted @ predicted))
    return float((hits * n - true @ predicted) / np.sqrt(variances)) if variances > 0 else 0.0


def ordinal_mae(y_true: Codes, y_pred: Codes, sample_weight: Floats | None = None) -> float:
    """Mean distance of the ranks of true and predicted classes."""
    return _mean(np.abs(y_true - y_pred), sample_weight)


def quadratic_kappa(y_true: Codes, y_pred: Codes, sample_weight: Floats | None = None) -> float:
    """Cohen's kappa with squared distances of the ranks (1968); 0 if all rows are of one class and predicted as it.

    The distances that are expected by chance have a closed form: the two variances and the squared distance of means.
    """
    observed = _mean(np.square(y_true - y_pred), sample_weight)
    means = [_mean(codes, sample_weight) for codes in (y_true, y_pred)]
    variances = [_mean(np.square(c - m), sample_weight) for c, m in zip((y_true, y_pred), means, strict=True)]
    expected = sum(variances) + (means[0] - means[1]) ** 2
    return 1.0 - observed / expected if expected > 0 else 0.0


def brier_score(y_true: Codes, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    """Mean squared error of the probabilities: of the second of two classes, or summed over more."""
    if y_pred.shape[1] == 2:
        return _mean(np.square(y_pred[:, 1] - (y_true == 1)), sample_weight)
    true = y_pred[np.arange(len(y_true)), y_true]
    return _mean(np.square(y_pred).sum(axis=1) + 1.0 - 2.0 * true, sample_weight)


def subset_accuracy(y_true: Codes, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    """Share of rows all of whose labels are right; probabilities of t labels, shape (n, t)."""
    return _mean((y_true == (y_pred > 0.5)).all(axis=1), sample_weight)


def hamming_loss(y_true: Codes, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    """Share of wrong labels; probabilities of t labels, shape (n, t)."""
    return _mean((y_true != (y_pred > 0.5)).mean(axis=1), sample_weight)


def f1_micro(y_true: Codes, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    """F1 of all labels together; probabilities of t labels, shape (n, t)."""
    weight = np.ones(len(y_true)) if sample_weight is None else sample_weight
    found = y_pred > 0.5
    both = float(weight @ (y_true.sum(axis=1) + found.sum(axis=1)))
    return 2 * float(weight @ (y_true * found).sum(axis=1)) / both if both > 0 else 0.0


def f1_samples(y_true: Codes, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    """Mean over the rows of the F1 of their labels, 0 without any; probabilities of t labels, shape (n, t)."""
    found = y_pred > 0.5
    both = y_true.sum(axis=1) + found.sum(axis=1)
    return _mean(2 * (y_true * found).sum(axis=1) / np.where(both > 0, both, 1), sample_weight)


def mean_squared_error(y_true: Floats, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    return _mean(np.square(y_true - y_pred), sample_weight)


def root_mean_squared_error(y_true: Floats, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    return float(np.sqrt(mean_squared_error(y_true, y_pred, sample_weight)))


def mean_absolute_error(y_true: Floats, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    return _mean(np.abs(y_true - y_pred), sample_weight)


def r2(y_true: Floats, y_pred: Floats, sample_weight: Floats | None = None) -> float:
    """Share of the variance that is explained; for a constant target 1 if the prediction is perfect, otherwise 0."""
    unexplained = mean_squared_error(y_true, y_pred, sample_weight)
    variance = _mean(np.square(y_true - _mean(y_true, sample_weight)), sample_weight)
    if variance == 0:
        return 1.0 if unexplained == 0 else 0.0
    return 1.0 - unexplained / variance


def _mean(values: NDArray[Any], weight: Floats | None) -> float:
    return float(np.mean(values) if weight is None else np.average(values, weights=weight))


def _second_class(y_true: Codes, y_pred: Codes, weight: Floats | None) -> tuple[float, float, float]:
    """Weight of the rows that are of the second class and predicted as it, predicted as it, and of it."""
    weight = np.ones(len(y_true)) if weight is None else weight
    true, predicted = y_true == 1, y_pred == 1
    return float(weight[true & predicted].sum()), float(weight[predicted].sum()), float(weight[true].sum())


def _f1_of_classes(
    y_true: Codes, y_pred: Codes, weight: Floats | None
) -> tuple[Floats, Floats, NDArray[np.bool_]]:  # each (k,)
    """F1 of each class up to the largest code, the weight of its rows, and whether it occurs or is predicted."""
    k = int(max(y_true.max(), y_pred.max())) + 1
    sizes = np.bincount(y_true, weights=weight, minlength=k)
    predicted = np.bincount(y_pred, weights=weight, minlength=k)
    right = y_true == y_pred
    hits = np.bincount(y_true[right], weights=None if weight is None else weight[right], minlength=k)
    both = sizes + predicted
    there = (np.bincount(y_true, minlength=k) + np.bincount(y_pred, minlength=k)) > 0
    return 2 * hits / np.where(both > 0, both, 1), sizes.astype(np.float64), there


def _against_the_rest(
    area: Callable[[Floats, Floats], float], y_true: Codes, y_pred: Floats, weight: Floats | None, undefined: float
) -> float:
    """Mean area of each class against the rest, without the classes for which it is undefined."""
    if y_pred.shape[1] == 2:
        areas = [area(*_cumulative_counts(y_true == 1, y_pred[:, 1], weight))]
    else:
        areas = [area(*_cumulative_counts(y_true == code, y_pred[:, code], weight)) for code in range(y_pred.shape[1])]
    defined = [value for value in areas if not np.isnan(value)]
    return float(np.mean(defined)) if defined else undefined


def _cumulative_counts(positive: NDArray[np.bool_], score: Floats, weight: Floats | None) -> tuple[Floats, Floats]:
    """Weights of positives and negatives at or above each of the t distinct scores, the highest first; shapes (t,)."""
    order = np.argsort(-score)
    ordered = score[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # (t,), the last row of each score
    share = np.ones(len(score)) if weight is None else weight[order]
    hits = np.cumsum(share * positive[order])[last]
    return hits, np.cumsum(share)[last] - hits


def _auc(positives: Floats, negatives: Floats) -> float:
    """Trapezoids: rows with equal scores count half."""
    total = positives[-1] * negatives[-1]
    if total <= 0:
        return float("nan")
    heights = positives + np.append(0.0, positives[:-1])
    return float(np.sum(heights * np.diff(negatives, prepend=0.0)) / (2 * total))


def _step_area(positives: Floats, negatives: Floats) -> float:
    if positives[-1] <= 0:
        return float("nan")
    precision = positives / np.maximum(positives + negatives, SMALLEST)
    return float(np.sum(precision * np.diff(positives, prepend=0.0)) / positives[-1])
