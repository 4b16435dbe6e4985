"""What a network says of labelled images, judged: by class, by pair of classes, and image by image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from windvane.data.images import ImageDataset
from windvane.errors import InputError

Z = 1.96  # standard errors on both sides hold 95 %


@dataclass(frozen=True, eq=False)
class EvaluatedImages:
    """Labelled images and the probabilities that a network gives them.

    Attributes
    ----------
    images
        n images with one label each.
    probabilities
        Shape (n, c), in the order of the images' classes.
    chose
        Whether their score chose the model.

    Raises
    ------
    InputError
        Where there are no labels, or the shapes do not fit.
    """

    images: ImageDataset
    probabilities: NDArray[np.floating]
    chose: bool

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
    def certainty(self) -> NDArray[np.float64]:
        """Probabilities of these, shape (n,)."""
        return np.asarray(self.probabilities.max(axis=1), dtype=np.float64)

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """Where prediction and truth agree, shape (n,)."""
        return np.asarray(self.predicted == self.target)

    @property
    def accuracy(self) -> float:
        """Share that is right."""
        return float(self.right.mean())

    @property
    def log_loss(self) -> float:
        """Mean negative logarithm of the true class's probability."""
        true = self.probabilities[np.arange(len(self.target)), self.target].astype(np.float64)
        return float(-np.log(np.maximum(true, np.finfo(np.float64).tiny)).mean())

    def interval(self) -> tuple[float, float]:
        """Give the 95 % interval of the accuracy (Wilson's score interval)."""
        n, share = len(self.target), self.accuracy
        middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """Images by true class (rows) and predicted class (columns), shape (c, c)."""
        c = len(self.images.classes)
        return np.bincount(self.target * c + self.predicted, minlength=c * c).reshape(c, c)

    def found(self) -> NDArray[np.float64]:
        """Give the share of each class's images that are called so, shape (c,); nan without images."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.diag(self.confusion) / self.confusion.sum(axis=1))

    def trusted(self) -> NDArray[np.float64]:
        """Give the share of the images called so that are of the class, shape (c,); nan where none is called so."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.diag(self.confusion) / self.confusion.sum(axis=0))

    def balanced_accuracy(self) -> float:
        """Give the mean share that is found, over the classes that have images."""
        return float(np.nanmean(self.found()))

    def pairs(self) -> list[tuple[int, int, int]]:
        """List the pairs of true and other class that are confused, with the images, the most frequent first."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")
        rows, columns = np.unravel_index(order[: np.count_nonzero(wrong)], wrong.shape)
        return [(int(i), int(j), int(wrong[i, j])) for i, j in zip(rows, columns, strict=True)]

    def most_certain(self, *, right: bool, most: int, each: int) -> list[int]:
        """Choose the images of which the network is most certain.

        Parameters
        ----------
        right
            Whether those that it has right, or those that it has wrong.
        most
            How many at most.
        each
            How many of a predicted class at most.

        Returns
        -------
        list of int
            Positions, the most certain first.
        """
        chosen: list[int] = []
        count = np.zeros(len(self.images.classes), dtype=np.int64)
        for i in np.argsort(-self.certainty, kind="stable").tolist():
            if self.right[i] == right and count[self.predicted[i]] < each and len(chosen) < most:
                count[self.predicted[i]] += 1
                chosen.append(i)
        return chosen
