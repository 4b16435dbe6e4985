"""Maps over images: how much each place counts for what a network returns."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F

from windvane.inspect.plots import image_grid, relative_to_peaks
from windvane.inspect.result import Axes, Figure, Floats, long_frame
from windvane.inspect.tokens import TokenGrid


@dataclass(frozen=True)
class SaliencyMaps:
    """How much each place of each image counts.

    Examples
    --------
    ::

        found = grad_cam(resnet, images)
        found.upsampled(224, 224)[0]  # a map over the first image, from 0 to 1
    """

    values: Floats  # (n, rows, columns), from 0 up, on the scale of the method
    grid: TokenGrid  # where rows and columns lie in the image
    method: str  # "Grad-CAM" or "attention rollout"
    layer: str  # that was read, or the last one

    @property
    def scaled(self) -> Floats:
        """The maps divided by the largest value of each, (n, rows, columns); zero where nothing counts."""
        return relative_to_peaks(self.values)

    def upsampled(self, height: int, width: int) -> Floats:
        """Enlarge the maps to the size of an image.

        Parameters
        ----------
        height, width
            Of the image in pixels.

        Returns
        -------
        ndarray
            (n, height, width), bilinear between the places, the largest place of each image near 1.
        """
        maps = torch.from_numpy(self.scaled)[:, None]
        enlarged: Floats = F.interpolate(maps, (height, width), mode="bilinear", align_corners=False)[:, 0].numpy()
        return enlarged

    def to_frame(self) -> pd.DataFrame:
        """One row for each image and place: image, row, column, value."""
        n, rows, columns = self.values.shape
        index = {"image": range(n), "row": range(rows), "column": range(columns)}
        return long_frame(index, {"value": self.values})

    def plot(self, ax: Axes | None = None) -> Figure:
        """The maps, each from zero to its own peak."""
        titles = [f"image {i}" for i in range(len(self.values))]
        return image_grid(self.scaled, titles, ax, title=f"{self.method}, {self.layer}", label="share of the peak")
