"""Batches of images on the device: from one tensor that holds the whole set, or decoded by worker processes.

Which rows a step takes depends on the seed and the step alone, so that a resumed run goes on where it was, in the
middle of an epoch too.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from windvane.data.images import ImageDataset
from windvane.settings import available_cores
from windvane.vision.augment.crop import sample_crop_size
from windvane.vision.device import DeviceContext, derive_seed
from windvane.vision.recipe import Recipe

Batch = tuple[Tensor, Tensor]  # images uint8 (b, 3, s, s), labels int64 (b,)
Choice = tuple[int, Tensor]  # step, rows (b,)
PLAIN = -1  # the step of images without randomness


class Batches(Protocol):
    """Images of one set, as squares of the recipe's size, on the device.

    A choice is a step and the rows that it takes; no randomness goes into the images of step -1.
    """

    n: int
    crops: bool  # whether the images come with their random crop done

    def stream(self, choices: Iterable[Choice]) -> Iterator[Batch]:
        """Give the batch of one choice after the other; labels are -1 where there are none."""
        ...


class EpochSampler:
    """Which rows each step takes: every epoch all of them in a new order, but for an incomplete last batch.

    Parameters
    ----------
    n
        Rows.
    batch
        Rows a step, over all processes.
    seed
        Of the run.
    rank, world
        Number of this process, and how many share each batch.
    """

    def __init__(self, n: int, batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self._n, self._seed, self._rank, self._world = n, seed, rank, world
        self.batch_size = min(n, batch)
        self.steps_per_epoch = max(1, n // self.batch_size)
        self._epoch, self._rows = -1, torch.empty(0, dtype=torch.int64)

    def rows(self, step: int) -> Tensor:
        """Give the rows that this process takes in a step; shape (batch / world,)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(derive_seed(self._seed, epoch))
            self._epoch, self._rows = epoch, torch.randperm(self._n, generator=generator)
        chosen = self._rows[position * self.batch_size : (position + 1) * self.batch_size]
        return chosen[self._rank :: self._world]

    def from_step(self, step: int) -> Iterator[Choice]:
        """Give the choices of this step and all that follow, without end."""
        while True:
            yield step, self.rows(step)
            step += 1


def sequential_batches(n: int, batch: int, rank: int = 0, world: int = 1) -> Iterator[Choice]:
    """Choose every row once, without randomness.

    Parameters
    ----------
    n
        Rows.
    batch
        Rows at once.
    rank, world
        Number of this process, and how many share the rows.

    Yields
    ------
    step, rows
        The step is -1.
    """
    mine = torch.arange(rank, n, world)
    yield from ((PLAIN, rows) for rows in mine.split(batch))


def make_loader(images: ImageDataset, recipe: Recipe, place: DeviceContext) -> Batches:
    """Hold a set on the device where it fits, else decode it as it is needed.

    Parameters
    ----------
    images
        The set.
    recipe
        Its image size and crop count.
    place
        Where to.

    Returns
    -------
    Batches
        Of all rows.
    """
    if len(images) * recipe.image_size**2 * 3 <= place.image_bytes:
        return InMemoryLoader(images, recipe, place)
    return StreamingLoader(images, recipe, place)


class InMemoryLoader:
    """A whole set as one tensor on the device.

    Parameters
    ----------
    images
        The set.
    recipe
        Its image size counts.
    place
        Where the tensor lies.
    """

    def __init__(self, images: ImageDataset, recipe: Recipe, place: DeviceContext) -> None:
        self.n, self.crops = len(images), False
        pixels = torch.from_numpy(images.load_array(recipe.image_size))  # (n, s, s, 3)
        self._images = pixels.permute(0, 3, 1, 2).contiguous().to(place.device)  # (n, 3, s, s)
        self._labels = _labels(images).to(place.device)

    def stream(self, choices: Iterable[Choice]) -> Iterator[Batch]:
        """Give the batch of one choice after the other."""
        for _, rows in choices:
            where = rows.to(self._images.device)
            yield self._images[where], self._labels[where]


class StreamingLoader:
    """A set whose images are decoded, and cropped at their full resolution, by worker processes.

    Parameters
    ----------
    images
        The set.
    recipe
        Its image size, crop and seed count.
    place
        Where batches go.
    workers
        Processes; None for one a core, but for one for each process that trains.
    """

    def __init__(self, images: ImageDataset, recipe: Recipe, place: DeviceContext, workers: int | None = None) -> None:
        self.n, self.crops = len(images), recipe.crop == "random_resized_crop"
        self._files, self._labels, self._device = _Files(images, recipe), _labels(images), place.device
        self._workers = max(0, available_cores() // place.world - 1) if workers is None else workers

    def stream(self, choices: Iterable[Choice]) -> Iterator[Batch]:
        """Give the batch of one choice after the other."""
        loader: DataLoader[Batch] = DataLoader(
            self._files,
            batch_sampler=_Choices(choices),
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=_leave_signals,
        )
        for images, rows in loader:
            yield images.to(self._device, non_blocking=True), self._labels[rows].to(self._device, non_blocking=True)


def _leave_signals(number: int) -> None:
    """Leave Ctrl-C, which a terminal sends to every process, to the one that trains; it ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class _Choices(Iterable[list[tuple[int, int]]]):
    """Choices as lists of keys of `_Files`."""

    def __init__(self, choices: Iterable[Choice]) -> None:
        self._choices = choices

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step, rows in self._choices:
            yield [(step, row) for row in rows.tolist()]


class _Files(Dataset[Batch]):
    """Single images by step and row."""

    def __init__(self, images: ImageDataset, recipe: Recipe) -> None:
        self._images, self._recipe = images, recipe

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        step, row = key
        size = self._recipe.image_size
        if step == PLAIN or self._recipe.crop != "random_resized_crop":
            pixels = self._images.take(np.array([row])).load_array(size)[0]  # (s, s, 3)
        else:
            pixels = self._crop(self._images.decode(row), np.random.default_rng([self._recipe.seed, step, row]))
        return torch.from_numpy(pixels).permute(2, 0, 1), torch.tensor(row)

    def _crop(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Cut a random part out of an image of shape (h, w, 3) and bring it to shape (s, s, 3)."""
        from PIL import Image

        draws = torch.from_numpy(rng.random(4))
        height, width = (float(side) for side in sample_crop_size(draws[0], draws[1], self._recipe.min_crop_area))
        high, wide = pixels.shape[:2]
        left, top = float(draws[2]) * (1.0 - width) * wide, float(draws[3]) * (1.0 - height) * high
        box = (left, top, min(left + width * wide, wide), min(top + height * high, high))
        size = (self._recipe.image_size, self._recipe.image_size)
        return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC, box=box))


def _labels(images: ImageDataset) -> Tensor:
    """Give the labels of a set, -1 where it has none."""
    return torch.full((len(images),), -1) if images.labels is None else torch.from_numpy(images.labels)
