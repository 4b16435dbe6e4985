"""The numbers behind the figures of a prediction: confusion, ROC, precision and recall, errors.

Curves are scikit-learn's, thinned for drawing. Notation: n rows, k classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from windvane.evaluation.predictions import Predictions
from windvane.runtime.columns.table import Floats, Integers

Points = tuple[Floats, Floats]  # x and y of a curve

MAX_POINTS = 150  # of a drawn curve
MAX_CLASSES = 12  # of a confusion matrix
OTHERS = "others"
MAX_CURVES = 4  # classes that get curves
MAX_RANKED = 30  # the largest classes, of which the hardest get these curves
MAX_DOTS = 800  # of a scatter plot
N_BINS = 30  # of the histogram of errors
N_GROUPS = 10  # of rows with similar predictions


@dataclass(frozen=True)
class Confusion:
    """How often each class was predicted for each true class."""

    counts: Integers  # true class by predicted class, (c, c)
    names: Sequence[str]  # c labels; the last is `OTHERS` if there are more than `MAX_CLASSES`


@dataclass(frozen=True)
class ClassCurves:
    """One class against all others."""

    name: str
    auc: float
    roc: Points  # false and true positive rate
    precision_recall: Points  # recall and precision
    frequency: float  # of the class


@dataclass(frozen=True)
class ClassificationFigures:
    """How a classifier errs."""

    accuracy: float
    confusion: Confusion
    top_confusions: Sequence[tuple[str, str, int, float]]  # true, predicted, rows, share of the true class
    curves: Sequence[ClassCurves]  # the hardest classes first; of two classes only the positive one


@dataclass(frozen=True)
class RegressionFigures:
    """How a regressor errs; an error is the prediction minus the target."""

    dots: Points  # predictions and targets of some rows
    absolute_errors: tuple[float, float]  # median and 90 % quantile
    histogram: tuple[Floats, Integers]  # edges and counts of the middle 99 % of the errors
    group_predictions: Floats  # mean of each of at most `N_GROUPS` groups of similar predictions, (g,)
    group_errors: tuple[Floats, Floats, Floats]  # quartiles of the errors of each group, (g,) each


def classification_figures(predictions: Predictions, labels: Sequence[str], positive: int = 1) -> ClassificationFigures:
    """Compute the figures of class probabilities; `labels` are the names of the classes."""
    target, predicted, probabilities = predictions.target, predictions.labels, predictions.prediction
    return ClassificationFigures(
        accuracy=float(np.mean(predicted == target)),
        confusion=confusion(target, predicted, labels),
        top_confusions=top_confusions(target, predicted, labels),
        curves=class_curves(target, probabilities, labels, positive),
    )


def regression_figures(predictions: Predictions, seed: int) -> RegressionFigures:
    """Compute the figures of predicted numbers; `seed` draws the dots."""
    some = predictions.sample(MAX_DOTS, seed)
    errors = predictions.prediction - predictions.target  # (n,)
    low, high = map(float, np.quantile(errors, [0.005, 0.995]))
    counts, edges = np.histogram(errors, bins=N_BINS, range=(low, high) if high > low else (low - 0.5, high + 0.5))
    median, quantile = map(float, np.quantile(np.abs(errors), [0.5, 0.9]))
    groups = np.array_split(np.argsort(predictions.prediction, kind="stable"), min(N_GROUPS, len(errors)))
    quartiles = np.array([np.quantile(errors[rows], [0.25, 0.5, 0.75]) for rows in groups]).T  # (3, g)
    return RegressionFigures(
        dots=(some.prediction, some.target),
        absolute_errors=(median, quantile),
        histogram=(edges, counts),
        group_predictions=np.array([predictions.prediction[rows].mean() for rows in groups]),
        group_errors=(quartiles[0], quartiles[1], quartiles[2]),
    )


def class_curves(target: Integers, probabilities: Floats, labels: Sequence[str], positive: int) -> list[ClassCurves]:
    """Curves of the at most `MAX_CURVES` classes that are hardest to separate; of two classes the positive one."""
    counts = np.bincount(target, minlength=len(labels))
    largest = [positive] if len(labels) == 2 else np.argsort(-counts, kind="stable")[:MAX_RANKED].tolist()
    areas = {
        code: float(roc_auc_score(target == code, probabilities[:, code]))
        for code in largest
        if 0 < counts[code] < len(target)
    }
    return [
        ClassCurves(
            labels[code],
            areas[code],
            roc_points(target == code, probabilities[:, code]),
            precision_recall_points(target == code, probabilities[:, code]),
            float(counts[code] / len(target)),
        )
        for code in sorted(areas, key=lambda code: areas[code])[:MAX_CURVES]
    ]


def roc_points(positive: NDArray[np.bool_], score: Floats) -> Points:
    """False and true positive rates, thinned for drawing."""
    false, true, _ = roc_curve(positive, score)
    return _thin(false, true)


def precision_recall_points(positive: NDArray[np.bool_], score: Floats) -> Points:
    """Recall and precision, thinned for drawing."""
    precision, recall, _ = precision_recall_curve(positive, score)
    return _thin(recall[::-1], precision[::-1])


def confusion(target: Integers, predicted: Integers, labels: Sequence[str]) -> Confusion:
    """Count pairs of true and predicted class; of many classes the most frequent `MAX_CLASSES` and `OTHERS`."""
    k = len(labels)
    if k <= MAX_CLASSES:
        return Confusion(confusion_matrix(target, predicted, labels=np.arange(k)), labels)
    kept = np.sort(np.argsort(-np.bincount(target, minlength=k), kind="stable")[:MAX_CLASSES])
    short = np.full(k, MAX_CLASSES)
    short[kept] = np.arange(MAX_CLASSES)
    counts = confusion_matrix(short[target], short[predicted], labels=np.arange(MAX_CLASSES + 1))
    return Confusion(counts, [*(labels[i] for i in kept), OTHERS])


def top_confusions(target: Integers, predicted: Integers, labels: Sequence[str]) -> list[tuple[str, str, int, float]]:
    """Pairs of confused classes, the most frequent first: true, predicted, rows, share of the true class."""
    sizes = np.bincount(target, minlength=len(labels))
    wrong = target != predicted
    pairs, counts = np.unique(np.stack([target[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [
        (labels[i], labels[j], int(count), float(count / sizes[i]))
        for (i, j), count in zip(pairs[order], counts[order], strict=True)
    ]


def _thin(x: Floats, y: Floats) -> Points:
    """Points that are about evenly spaced along a curve, both ends among them."""
    if len(x) <= MAX_POINTS:
        return x, y
    along = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))  # (m,)
    wanted = np.linspace(0.0, along[-1], MAX_POINTS)
    kept = np.unique(np.concatenate([[0], np.searchsorted(along, wanted), [len(x) - 1]]).clip(0, len(x) - 1))
    return x[kept], y[kept]
