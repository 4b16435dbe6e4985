"""The numbers behind the figures of a prediction: score, interval, confusion, calibration, residuals.

Notation: v judged rows, k classes. Curves come from scikit-learn; here they are thinned for drawing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from windvane.data.metrics import CLASSIFICATION, REGRESSION, Metric
from windvane.data.task import Task
from windvane.predictor import Predictor
from windvane.report.evidence import Judged
from windvane.runtime.table import Floats, Integers

MOST_POINTS = 150  # of a drawn curve
MOST_CLASSES = 12  # of a confusion matrix
BINS = 10  # of equal counts, for calibration
RESAMPLES, FEWEST_RESAMPLES = 200, 60
MOST_SECONDS = 2.0  # for the resamples
OTHERS = "others"


@dataclass(frozen=True)
class Confusion:
    """How often a class was taken for another.

    Attributes
    ----------
    counts
        True class by predicted class, shape (c, c).
    names
        c labels; the last is `OTHERS` where there are more than `MOST_CLASSES`.
    """

    counts: Integers
    names: list[str]


def score_of(predictor: Predictor, judged: Judged) -> float:
    """Judge the ensemble's prediction by the run's metric, in the metric's own direction."""
    shown = predictor.weighted(judged.raw) if predictor.metric.needs == "labels" else judged.raw
    return predictor.metric.score(predictor.metric.loss(judged.target, shown, judged.weight))


def baseline(task: Task, metric: Metric, known: NDArray[Any], judged: Judged) -> float:
    """Score a guess that knows the target's distribution and no column.

    Parameters
    ----------
    task, metric
        Of the run.
    known
        Target of the training rows.
    judged
        The rows to guess.

    Returns
    -------
    float
        Of class frequencies, or of the mean (the median where the metric is a mean absolute error).
    """
    v = len(judged.target)
    guess: Floats
    if task.is_classification:
        guess = np.tile(np.bincount(known.astype(np.int64), minlength=task.n_classes) / len(known), (v, 1))
    else:
        middle = np.median if metric.name == "mae" else np.mean
        guess = np.full(v, float(middle(known.astype(np.float64))))
    return metric.score(metric.loss(judged.target, guess, judged.weight))


def interval(predictor: Predictor, judged: Judged, seed: int) -> tuple[float, float] | None:
    """Say how uncertain a score is for want of rows: the middle 95 % of its bootstrap (Efron, 1979).

    Parameters
    ----------
    predictor, judged
        The prediction.
    seed
        Of the resamples.

    Returns
    -------
    tuple of float or None
        Lower and upper end; None for metrics of one's own, which may not bear resampled rows, and for rows so many
        that resampling them takes long, where the interval is narrow.
    """
    metric = predictor.metric
    if metric not in (*CLASSIFICATION.values(), *REGRESSION.values()):
        return None
    shown = predictor.weighted(judged.raw) if metric.needs == "labels" else judged.raw
    rng, scores, end = np.random.default_rng(seed), list[float](), time.monotonic() + MOST_SECONDS
    while len(scores) < RESAMPLES and time.monotonic() < end:
        rows = rng.integers(len(judged.target), size=len(judged.target))
        weight = None if judged.weight is None else judged.weight[rows]
        scores.append(metric.score(metric.loss(judged.target[rows], shown[rows], weight)))
    if len(scores) < FEWEST_RESAMPLES:
        return None
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def roc_points(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    """Give false and true positive rates, thinned for drawing."""
    false, true, _ = roc_curve(positive, score)
    return _thinned(false, true)


def precision_points(positive: NDArray[np.bool_], score: Floats) -> tuple[Floats, Floats]:
    """Give recall and precision, thinned for drawing."""
    precision, recall, _ = precision_recall_curve(positive, score)
    return _thinned(recall[::-1], precision[::-1])


def calibration(right: NDArray[np.bool_], probability: Floats) -> tuple[Floats, Floats]:
    """Compare probabilities with what happened, in bins of equal counts.

    Parameters
    ----------
    right
        Whether it happened, shape (v,).
    probability
        What was said, shape (v,).

    Returns
    -------
    tuple of ndarray
        Mean probability and share that happened, at most `BINS` values each; equal to scikit-learn's
        ``calibration_curve(strategy="quantile")``.
    """
    from sklearn.calibration import calibration_curve

    share, said = calibration_curve(right, probability, n_bins=BINS, strategy="quantile")
    return said, share


def confusion(target: Integers, predicted: Integers, labels: list[str]) -> Confusion:
    """Count pairs of true and predicted class; of many classes the most frequent ones.

    Parameters
    ----------
    target, predicted
        Codes, shape (v,).
    labels
        k names.

    Returns
    -------
    Confusion
        Of at most `MOST_CLASSES` classes and `OTHERS`.
    """
    k = len(labels)
    if k <= MOST_CLASSES:
        return Confusion(confusion_matrix(target, predicted, labels=np.arange(k)), labels)
    kept = np.sort(np.argsort(-np.bincount(target, minlength=k), kind="stable")[:MOST_CLASSES])
    short = np.full(k, MOST_CLASSES)
    short[kept] = np.arange(MOST_CLASSES)
    counts = confusion_matrix(short[target], short[predicted], labels=np.arange(MOST_CLASSES + 1))
    return Confusion(counts, [*(labels[i] for i in kept), OTHERS])


def confused(target: Integers, predicted: Integers, n_classes: int) -> list[tuple[int, int, int, float]]:
    """List the pairs of classes that are confused, the most frequent first.

    Parameters
    ----------
    target, predicted
        Codes, shape (v,).
    n_classes
        k.

    Returns
    -------
    list of (int, int, int, float)
        True code, predicted code, rows, and their share of the true class.
    """
    sizes = np.bincount(target, minlength=n_classes)
    wrong = target != predicted
    pairs, counts = np.unique(np.stack([target[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(int(i), int(j), int(n), n / sizes[i]) for (i, j), n in zip(pairs[order], counts[order], strict=True)]


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Keep points that lie about evenly along a curve, both ends among them."""
    if len(x) <= MOST_POINTS:
        return x, y
    along = np.append(0.0, np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y))))  # (m,)
    wanted = np.linspace(0.0, along[-1], MOST_POINTS)
    kept = np.unique(np.concatenate([[0], np.searchsorted(along, wanted), [len(x) - 1]]).clip(0, len(x) - 1))
    return x[kept], y[kept]
