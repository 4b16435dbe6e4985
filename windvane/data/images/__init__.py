"""Image data: read folders, tables, arrays and datasets into splits; every image is decoded once up front."""

from windvane.data.images.dataset import ImageDataset, ImageSplits
from windvane.data.images.read import read_images, read_unlabelled
from windvane.data.images.sources import Columns

__all__ = ["Columns", "ImageDataset", "ImageSplits", "read_images", "read_unlabelled"]
