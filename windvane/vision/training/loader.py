"""Batches on the device: from one tensor that holds the whole dataset, or decoded by worker processes.

Which rows a step takes depends on the seed and the step only, so a resumed run continues where it was, also in the
middle of an epoch.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from windvane.data.images import ImageDataset
from windvane.settings import available_cores
from windvane.vision.augment.crop import sample_crop_size
from windvane.vision.recipe import Recipe
from windvane.vision.training.device import DeviceContext, derive_seed

Batch = tuple[Tensor, Tensor]  # images uint8 (b, 3, s, s), labels int64 (b,), -1 without labels
_Key = tuple[int, int | None]  # row of an image, and the training step or None for an evaluation


class EpochSampler:
    """Rows of each step: every epoch takes all rows in a new order, except for an incomplete last batch."""

    # `batch_size` is over all processes; this one takes its part of each batch.

    def __init__(self, n: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self._n, self._seed, self._rank, self._world_size = n, seed, rank, world_size
        self.batch_size = min(n, batch_size)
        self.steps_per_epoch = max(1, n // self.batch_size)
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.int64)

    def batch_indices(self, step: int) -> Tensor:
        """Return the rows that this process takes in a step; shape (batch_size / world_size,)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, epoch))
            self._epoch, self._order = epoch, torch.randperm(self._n, generator=generator)
        batch = self._order[position * self.batch_size : (position + 1) * self.batch_size]
        return batch[self._rank :: self._world_size]


def sequential_batches(n: int, batch_size: int, rank: int, world_size: int) -> Sequence[Tensor]:
    """Return the rows that a process takes in one pass over n rows, in order; empty for ranks without a row."""
    rows = torch.arange(n)[rank::world_size]
    return rows.split(batch_size) if len(rows) else ()


def make_loader(images: ImageDataset, recipe: Recipe, device: DeviceContext, *, for_training: bool = False) -> Loader:
    """Hold a dataset on the device if it fits, else decode it when it is needed."""
    if len(images) * recipe.image_size**2 * 3 <= device.image_cache_bytes:
        return InMemoryLoader(images, recipe, device, for_training=for_training)
    return StreamingLoader(images, recipe, device)


class InMemoryLoader:
    """A whole dataset as one tensor on the device: for training the whole images, else what the recipe evaluates."""

    crops = False  # whether training images come with their random crop applied

    def __init__(
        self, images: ImageDataset, recipe: Recipe, device: DeviceContext, *, for_training: bool = False
    ) -> None:
        self.n = len(images)
        center = recipe.crops_center and not for_training
        pixels = torch.from_numpy(images.load_array(recipe.image_size, center=center))  # (n, s, s, 3)
        self._images = pixels.permute(0, 3, 1, 2).contiguous().to(device.device)  # (n, 3, s, s)
        self._labels = _labels(images).to(device.device)

    def train_batches(self, sampler: EpochSampler, start_step: int) -> Iterator[Batch]:
        """Yield the batches of a step and of all that follow, without end."""
        return (self._batch(sampler.batch_indices(step)) for step in count(start_step))

    def eval_batches(self, batch_size: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        """Yield the images of this process once, in order and without randomness."""
        return (self._batch(rows) for rows in sequential_batches(self.n, batch_size, rank, world_size))

    def _batch(self, rows: Tensor) -> Batch:
        rows = rows.to(self._images.device)
        return self._images[rows], self._labels[rows]


class StreamingLoader:
    """A dataset whose images are decoded, and cropped at full resolution, by worker processes."""

    # `workers` is by default the number of cores, without one for each process that trains.

    def __init__(self, images: ImageDataset, recipe: Recipe, device: DeviceContext, workers: int | None = None) -> None:
        self.n, self.crops = len(images), recipe.crop == "random_resized_crop"
        self._images, self._recipe, self._labels, self._device = images, recipe, _labels(images), device.device
        self._workers = max(0, available_cores() // device.world_size - 1) if workers is None else workers

    def train_batches(self, sampler: EpochSampler, start_step: int) -> Iterator[Batch]:
        return self._stream([(row, step) for row in sampler.batch_indices(step).tolist()] for step in count(start_step))

    def eval_batches(self, batch_size: int, rank: int = 0, world_size: int = 1) -> Iterator[Batch]:
        batches = sequential_batches(self.n, batch_size, rank, world_size)
        return self._stream([(row, None) for row in rows.tolist()] for rows in batches)

    def _stream(self, keys: Iterable[list[_Key]]) -> Iterator[Batch]:
        loader = DataLoader(
            _DecodedImages(self._images, self._recipe),
            batch_sampler=keys,
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=_ignore_ctrl_c,
        )
        for pixels, rows in loader:
            yield pixels.to(self._device, non_blocking=True), self._labels[rows].to(self._device, non_blocking=True)


Loader = InMemoryLoader | StreamingLoader


class _DecodedImages(Dataset[tuple[Tensor, int]]):
    """Images by row and training step, with the random crop of that step; as they are evaluated where it is None."""

    def __init__(self, images: ImageDataset, recipe: Recipe) -> None:
        self._images, self._recipe = images, recipe

    def __getitem__(self, key: _Key) -> tuple[Tensor, int]:
        row, step = key
        recipe = self._recipe
        if step is not None and recipe.crop == "random_resized_crop":
            pixels = self._crop(self._images.decode(row), np.random.default_rng([recipe.seed, step, row]))
        else:
            center = step is None and recipe.crops_center
            pixels = self._images.load(row, recipe.image_size, center=center).copy()  # (s, s, 3), writable for torch
        return torch.from_numpy(pixels).permute(2, 0, 1), row

    def _crop(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Crop an image (h, w, 3) to a random box and resize it to (s, s, 3)."""
        from PIL import Image

        draws = torch.from_numpy(rng.random(4))
        height, width = (float(side) for side in sample_crop_size(draws[0], draws[1], self._recipe.min_crop_area))
        full_height, full_width = pixels.shape[:2]
        left, top = float(draws[2]) * (1.0 - width) * full_width, float(draws[3]) * (1.0 - height) * full_height
        box = (left, top, min(left + width * full_width, full_width), min(top + height * full_height, full_height))
        size = (self._recipe.image_size, self._recipe.image_size)
        return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=box))


def _ignore_ctrl_c(worker: int) -> None:
    """Leave Ctrl-C, which a terminal sends to every process, to the one that trains; it ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _labels(images: ImageDataset) -> Tensor:
    return torch.full((len(images),), -1) if images.labels is None else torch.from_numpy(images.labels)
