"""Predictions on labelled images, evaluated as a whole and image by image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from windvane.data.images import ImageDataset
from windvane.errors import InputError


@dataclass(frozen=True, eq=False)
class EvaluatedImages:
    """Labelled images and the probabilities that a network predicts for them."""

    images: ImageDataset  # n images with one label each
    probabilities: NDArray[np.floating]  # (n, c), in the order of the classes of the images
    used_for_selection: bool  # whether their score selected the model

    def __post_init__(self) -> None:
        n, c = len(self.images), len(self.images.classes)
        if n == 0 or self.images.labels is None or self.images.labels.ndim != 1:
            raise InputError("images must be at least one, with one label each.")
        if self.probabilities.shape != (n, c):
            raise InputError(f"probabilities has the shape {self.probabilities.shape}, but must have {(n, c)}.")

    @property
    def target(self) -> NDArray[np.int64]:
        """True classes, shape (n,)."""
        return np.asarray(self.images.labels)

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Most probable classes, shape (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """Probabilities of the predicted classes, shape (n,)."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether prediction and truth agree, shape (n,)."""
        return np.asarray(self.predicted == self.target)

    @property
    def accuracy(self) -> float:
        """Fraction of correct predictions."""
        return float(self.correct.mean())

    def caption(self, i: int) -> str:
        """Return what stands below an image: the predicted class, its probability, and the label if that differs."""
        classes = self.images.classes
        predicted = f"{classes[self.predicted[i]]} ({self.confidence[i]:.0%})"
        return predicted if self.correct[i] else f"{predicted}, is {classes[self.target[i]]}"

    def interval(self) -> tuple[float, float]:
        """Return the 95 % confidence interval of the accuracy (Wilson's score interval)."""
        interval = binomtest(int(self.correct.sum()), len(self.target)).proportion_ci(method="wilson")
        return float(interval.low), float(interval.high)

    def top_accuracy(self, k: int) -> float:
        """Return the fraction of images whose class is among the k most probable."""
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :k]  # (n, k)
        return float((order == self.target[:, None]).any(axis=1).mean())

    def doubtful_labels(self) -> list[tuple[int, int]]:
        """Return the images whose label is probably wrong, and the class that they look like, the surest first."""
        # Confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068, equations 1 and 2): a class is
        # confident if its probability reaches the mean of those that it has on images labelled so. An image is doubtful
        # if its most probable confident class is more probable than its label. The models must not have trained on the
        # images.
        n, c = self.probabilities.shape
        is_label = np.eye(c, dtype=np.bool_)[self.target]  # (n, c)
        counts = is_label.sum(axis=0)
        sums = np.where(is_label, self.probabilities, 0.0).sum(axis=0)
        thresholds = np.divide(sums, counts, out=np.full(c, np.inf), where=counts > 0)  # (c,)
        confident = np.where(self.probabilities >= thresholds, self.probabilities, -1.0)
        looks_like = confident.argmax(axis=1)  # (n,)
        rows = np.arange(n)
        margin = self.probabilities[rows, looks_like] - self.probabilities[rows, self.target]
        doubtful = (confident[rows, looks_like] >= 0) & (margin > 0)
        order = np.argsort(-margin, kind="stable")
        return [(int(i), int(looks_like[i])) for i in order[doubtful[order]]]

    def most_confident(self, *, correct: bool, n: int, per_class: int) -> list[int]:
        """Return the positions of up to n correct, or wrong, images of highest confidence, the highest first."""
        # At most `per_class` of a predicted class are returned.
        order = np.argsort(-self.confidence, kind="stable")
        order = order[self.correct[order] == correct]
        return list(pd.Series(order).groupby(self.predicted[order]).head(per_class).head(n))
