"""From images, however they are given, to the table of their features that the models of a run read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from windvane.data.images.checks import decode_squares
from windvane.data.images.listing import ImageListing, Skipped
from windvane.data.images.sources import Columns, list_images
from windvane.data.images.summary import describe_skipped
from windvane.errors import InputError, warn_user
from windvane.runtime.columns.table import FeatureView, Floats, ImageColumn, Table
from windvane.runtime.images import Pixels

if TYPE_CHECKING:
    from windvane.vision.transfer.frozen_features import FeatureExtractor

CHUNK = 1024  # images that are decoded at once for a prediction
GRAY = 128  # the value of pixels that could not be decoded


@dataclass(frozen=True, eq=False)
class ImageReader:
    """How the images of a run are read."""

    size: int  # width and height in pixels at which images are kept
    views: tuple[FeatureView, ...]
    weights: tuple[str, ...]  # names of pretrained networks; those of the views are saved in `folder`
    prior: tuple[float, ...]  # frequencies of the classes, predicted for images that cannot be read
    folder: Path  # a sub-folder for each network
    columns: Columns = field(default_factory=Columns)  # of tables that list images

    def listing(self, source: Any) -> ImageListing:
        """List the images of a source, whatever form it has; sub-folders are not classes here."""
        return list_images(source, self.columns, labelled=False)

    def short_names(self, source: Any) -> tuple[str, ...]:
        """Return the names of the images of a source, of paths no more than the last folder."""
        return tuple("/".join(Path(name).parts[-2:]) for name in self.listing(source).names)

    def tables(self, source: Any) -> Iterator[Table]:
        """Yield the table of each chunk of images, a row for each; a warning names those that cannot be decoded."""
        listing = self.listing(source)
        if not listing.items:
            raise InputError("There is no image to predict.")
        skipped: list[Skipped] = []
        for start in range(0, len(listing.items), CHUNK):
            items, names = listing.items[start : start + CHUNK], listing.names[start : start + CHUNK]
            pixels = np.full((len(items), self.size, self.size, 3), GRAY, dtype=np.uint8)
            checks = decode_squares(items, pixels, np.arange(len(items)))
            known = listing.problems[start : start + CHUNK]
            problems = [one or (check.problem if check else "") for one, check in zip(known, checks, strict=True)]
            skipped += [Skipped(*pair) for pair in zip(names, problems, strict=True) if pair[1]]
            yield self.table(pixels, np.array([bool(one) for one in problems]))
        if skipped:
            what = "Images that cannot be read are predicted by the frequencies of the classes."
            warn_user(" ".join([what, *describe_skipped(skipped, "unreadable")]))

    def read(self, source: Any) -> Table:
        """Return one table of all images of a source."""
        tables = list(self.tables(source))
        columns = [table.images for table in tables if table.images is not None]
        pixels = np.concatenate([column.pixels for column in columns])
        unreadable = np.concatenate([column.unreadable for column in columns if column.unreadable is not None])
        images = ImageColumn(pixels, np.arange(len(pixels)), self.views, unreadable=unreadable)
        matrix = np.concatenate([table.matrix for table in tables])
        return Table(matrix, matrix.shape[1], images=images)

    def table(self, pixels: Pixels, unreadable: NDArray[np.bool_]) -> Table:
        """Return the table of images (n, s, s, 3); the pixels of those in the mask `unreadable` (n,) mean nothing."""
        features = [self.extractor.compute(view, pixels) for view in self.views]
        matrix: Floats = np.concatenate(features, axis=1).astype(np.float64)
        images = ImageColumn(pixels, np.arange(len(pixels)), self.views, unreadable=unreadable)
        return Table(matrix, matrix.shape[1], images=images)

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """The networks, loaded when they are needed."""
        from windvane.vision.transfer.frozen_features import FeatureExtractor

        return FeatureExtractor(self.weights, self.folder)

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary that JSON can hold."""
        return {
            "size": self.size,
            "views": [asdict(view) for view in self.views],
            "weights": list(self.weights),
            "prior": list(self.prior),
            "columns": asdict(self.columns),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any], folder: Path) -> ImageReader:
        """Read what `to_json` wrote."""
        return cls(
            size=int(record["size"]),
            views=tuple(FeatureView(**view) for view in record["views"]),
            weights=tuple(map(str, record["weights"])),
            prior=tuple(map(float, record["prior"])),
            folder=folder,
            columns=Columns(**record["columns"]),
        )
