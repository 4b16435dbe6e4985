"""A typed table: the one form in which every family of models reads data.

Notation: n rows, p numbers (dates and booleans are numbers here), c categories, t texts, s sparse columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse as sp

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PIXELS = "pixels"
PIXEL_SIZE = 12  # width and height of the copies whose pixels are features where there is no network


@dataclass(frozen=True)
class FeatureView:
    """Columns of the matrix that a frozen network, or the pixels themselves, made of images."""

    weights: str  # of the network; PIXELS for the pixels of small copies
    size: int  # width and height in pixels of what the network saw
    start: int  # the columns are start .. stop - 1
    stop: int

    @classmethod
    def of_pixels(cls) -> FeatureView:
        return cls(PIXELS, PIXEL_SIZE, 0, PIXEL_SIZE**2 * 3)


@dataclass(frozen=True, eq=False)
class ImageColumn:
    """The images of n rows: positions in an array that all rows of a run share."""

    pixels: NDArray[np.uint8]  # (m, s, s, 3), RGB; may be mapped into memory
    rows: Integers  # (n,)
    views: tuple[FeatureView, ...] = ()
    unreadable: NDArray[np.bool_] | None = None  # (n,): there was no image to decode, and its pixels mean nothing

    def each(self) -> list[NDArray[np.uint8]]:
        """Return each image (s, s, 3), as a part of the shared array."""
        return [self.pixels[row] for row in self.rows.tolist()]

    def take(self, rows: Any) -> ImageColumn:
        """Return some rows; no pixel is copied."""
        unreadable = None if self.unreadable is None else self.unreadable[rows]
        return replace(self, rows=self.rows[rows], unreadable=unreadable)


@dataclass(frozen=True)
class Table:
    """Rows of typed columns."""

    # Shape (n, p + c): the numbers, then the category codes. NaN is missing. A code is the position in the vocabulary;
    # a value that training did not see has the code len(vocabulary).
    matrix: Floats
    n_numbers: int  # p
    cardinalities: tuple[int, ...] = ()  # size of the vocabulary of each of the c categories
    texts: tuple[NDArray[np.object_], ...] = ()  # t arrays of strings, each (n,); the empty string is missing
    sparse: sp.csr_matrix | None = None  # (n, s)
    images: ImageColumn | None = None  # the images that the numbers are features of

    @property
    def n_rows(self) -> int:
        return int(self.matrix.shape[0])

    @property
    def n_columns(self) -> int:
        n_sparse = 0 if self.sparse is None else int(self.sparse.shape[1])
        return int(self.matrix.shape[1]) + len(self.texts) + n_sparse

    def take(self, rows: Any) -> Table:
        return replace(
            self,
            matrix=np.asarray(self.matrix[rows]),  # (len(rows), p + c)
            texts=tuple(text[rows] for text in self.texts),
            sparse=None if self.sparse is None else self.sparse[rows],
            images=None if self.images is None else self.images.take(rows),
        )
