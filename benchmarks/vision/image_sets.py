"""What the scripts on sets of images share: which images belong together, and how good a network is."""

from __future__ import annotations

from windvane import vision
from windvane.data.images import ImageDataset

GROUPS = {
    "traffic_signs": lambda name: name.rsplit("_", 1)[0],  # frames of a track
    "magnetic_tiles": lambda name: name.partition("_num_")[2],  # a tile at several exposures
}


def accuracy_of(model: vision.TrainedModel, images: ImageDataset | None) -> float:
    """Return the accuracy on labelled images, such as those of a split."""
    assert images is not None
    return float((vision.predict_proba(model, images).argmax(axis=1) == images.labels).mean())
