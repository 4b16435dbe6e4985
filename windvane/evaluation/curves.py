"""The numbers behind the figures of a classifier: confusion, ROC, precision and recall.

Curves are scikit-learn's, thinned for drawing. Notation: n rows, k classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from windvane.runtime.columns.table import Floats, Integers

Points = tuple[Floats, Floats]  # x and y of a curve

MAX_POINTS = 150  # of a drawn curve
MAX_CLASSES = 12  # of a confusion matrix
OTHERS = "others"
MAX_CURVES = 4  # classes that get curves
MAX_RANKED = 30  # the largest classes, of which the hardest get these curves


@dataclass(frozen=True)
class ClassCurves:
    """One class against all others."""

    name: str
    auc: float
    roc: Points  # false and true positive rate
    precision_recall: Points  # recall and precision
    frequency: float  # of the class


def class_curves(
    target: Integers, probabilities: Floats, labels: Sequence[str], positive: int | None
) -> list[ClassCurves]:
    """Curves of the positive one of two classes, or of the at most `MAX_CURVES` that are hardest to separate."""
    counts = np.bincount(target, minlength=len(labels))
    largest = np.argsort(-counts, kind="stable")[:MAX_RANKED].tolist() if positive is None else [positive]
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


def confusion(
    target: Integers, predicted: Integers, labels: Sequence[str]
) -> tuple[Integers, Sequence[str]]:  # (c, c), c names
    """Count rows by true and predicted class; of many classes those of the largest `MAX_CLASSES`, and of `OTHERS`."""
    k = len(labels)
    if k <= MAX_CLASSES:
        return confusion_matrix(target, predicted, labels=np.arange(k)), labels
    kept = np.sort(np.argsort(-np.bincount(target, minlength=k), kind="stable")[:MAX_CLASSES])
    short = np.full(k, MAX_CLASSES)
    short[kept] = np.arange(MAX_CLASSES)
    counts = confusion_matrix(short[target], short[predicted], labels=np.arange(MAX_CLASSES + 1))
    return counts, [*(labels[i] for i in kept), OTHERS]


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
