"""Batches of images from a tensor, an array, a data set, a `DataLoader` or any iterable."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

from windvane.errors import InputError, check_integer, check_usable, warn_user
from windvane.pages.texts import counted
from windvane.torch_utils import map_tensors, to_device, unwrap_model

Batch = Tensor | Mapping[str, Any]  # what a network takes: a tensor, or its arguments by name
Size = tuple[int, int]  # height and width in pixels
Paired = TypeVar("Paired", bound=tuple[Batch, ...])  # of the same images

MIN_IMAGES = 4  # of a batch that is compared: the unbiased estimate of HSIC divides by n - 3
TARGET_KEYS = {"label", "labels", "target", "targets"}


def iter_batches(data: Any, batch_size: int, n_images: int | None = None) -> Iterator[Batch]:
    """Yield the first `n_images` images (None: all) in batches, without their labels."""
    # Tensors, arrays and data sets are cut into batches of `batch_size`; loaders and iterables have their own. Of a
    # batch that is a tuple or list the first entry is used.
    n_yielded = 0
    for batch in map(as_batch, _raw_batches(data, batch_size, n_images)):
        length = batch_length(batch) if n_images is None else min(batch_length(batch), n_images - n_yielded)
        if length:
            yield slice_batch(batch, 0, length)
        n_yielded += length
        if n_yielded == n_images:
            return
    if n_images is not None:
        raise _too_few(n_yielded, n_images)
    if n_yielded == 0:
        raise InputError("data has no images.")


def _raw_batches(data: Any, batch_size: int, n_images: int | None) -> Iterable[Any]:
    check_integer("batch_size", batch_size)
    check_usable("n_images", n_images, n_images is None or n_images >= 1, "1 or more, or None for all")
    available = known_length(data)
    if n_images is not None and available is not None and available < n_images:
        raise _too_few(available, n_images)
    if isinstance(data, np.ndarray):
        data = torch.as_tensor(data)
    if isinstance(data, Tensor):
        return torch.split(data, batch_size)
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return DataLoader(data, batch_size)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes):
        return data
    raise InputError(
        f"data is {type(data).__name__}. Allowed: a tensor or array (n, ...), a data set, a DataLoader, or an iterable "
        "of batches."
    )


def as_batch(batch: Any) -> Batch:
    """A batch of any form as a tensor or as arguments by name, without its labels."""
    if isinstance(batch, Mapping):
        return {key: value for key, value in batch.items() if key not in TARGET_KEYS}
    if isinstance(batch, tuple | list) and batch:
        batch = batch[0]
    if isinstance(batch, np.ndarray):
        batch = torch.as_tensor(batch)
    if not isinstance(batch, Tensor) or batch.ndim == 0:
        raise InputError(
            f"data has batches of type {type(batch).__name__}. Allowed: tensors (n, ...), or tuples that begin with "
            "one."
        )
    if batch.dtype == torch.uint8:
        raise InputError("data has integers from 0 to 255 (uint8). Allowed: floats, normalized for the network.")
    return batch


def _too_few(available: int, n_images: int) -> InputError:
    return InputError(f"n_images={n_images}, but data has {counted(available, 'image')}. Allowed: up to {available}.")


def known_length(data: Any) -> int | None:
    """Number of images, or None if only reading them all would tell."""
    if isinstance(data, DataLoader):
        data = data.dataset
    has_length = isinstance(data, Tensor | np.ndarray | Dataset) and hasattr(data, "__len__")
    return len(data) if has_length else None


def paired_batches(data: Any, n_models: int, batch_size: int, n_images: int | None) -> Iterator[tuple[Batch, ...]]:
    """Yield the same images for several networks: one batch for each."""
    # `data` is one source for all networks (each gets the same object), or a tuple with one source for each network,
    # which hold the same images in the same order, for example in different sizes.
    if not isinstance(data, tuple):
        for batch in iter_batches(data, batch_size, n_images):
            yield (batch,) * n_models
        return
    if len(data) != n_models:
        raise InputError(
            f"data is a tuple of {len(data)}, but there are {n_models} networks. Allowed: one source for all (a list "
            "if it is a sequence of batches), or a tuple with one for each."
        )
    if n_models > 1 and any(isinstance(one, DataLoader) and isinstance(one.sampler, RandomSampler) for one in data):
        raise InputError(
            "data has a loader that shuffles, so the networks would see different images. Allowed: shuffle=False, or "
            "one loader for all networks."
        )
    for batches in itertools.zip_longest(*(iter_batches(one, batch_size, n_images) for one in data)):
        lengths = [0 if batch is None else batch_length(batch) for batch in batches]
        if len(set(lengths)) > 1:
            raise InputError(
                f"data has batches of {lengths} images for the networks. Allowed: the same images for each."
            )
        yield batches


def leave_out_small(steps: Iterable[Paired]) -> Iterator[Paired]:
    """Yield the batches that can be compared, and warn of those with fewer images; InputError if all have fewer."""
    n_used, n_left_out = 0, 0
    for step in steps:
        length = batch_length(step[0])
        if length < MIN_IMAGES:
            n_left_out += length
            continue
        n_used += length
        yield step
    if not n_used:
        raise InputError(
            f"data has no batch of {MIN_IMAGES} images, which the measure needs; {n_left_out} came in smaller ones. "
            f"Allowed: more images, or a batch_size of at least {MIN_IMAGES}."
        )
    if n_left_out:
        are = "is" if n_left_out == 1 else "are"
        warn_user(f"{counted(n_left_out, 'image')} {are} left out: batches of fewer than {MIN_IMAGES}.")


def image_batches(
    model: nn.Module, data: Any, batch_size: int, n_images: int | None = None
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield batches on the device of a network, each with the images in it: (n, channels, height, width)."""
    for batch in iter_batches(data, batch_size, n_images):
        batch = to_device(batch, device_of(model))
        yield batch, image_tensor(batch)


def image_batch(model: nn.Module, images: Any) -> Tensor:
    """One batch of images, a tensor or an array (n, channels, height, width), on the device of a network."""
    device = device_of(model)
    if not isinstance(images, Tensor | np.ndarray) or images.ndim != 4 or len(images) == 0:
        given = f"has the shape {tuple(images.shape)}" if hasattr(images, "shape") else f"is {type(images).__name__}"
        raise InputError(f"images {given}. Allowed: a tensor or an array (n, channels, height, width), n of 1 or more.")
    batch = as_batch(images)
    assert isinstance(batch, Tensor)
    return batch.to(device)


def image_tensor(batch: Batch) -> Tensor:
    """Find the images in a batch: (n, channels, height, width)."""
    tensors = _tensors(batch)
    images = next((tensor for tensor in tensors if tensor.ndim == 4), None)
    if images is None:
        shapes = [tuple(tensor.shape) for tensor in tensors]
        raise InputError(f"data has tensors of shape {shapes}. Allowed: images (n, channels, height, width).")
    return images


def image_size(images: Tensor) -> Size:
    """Height and width of images in pixels."""
    return images.shape[-2], images.shape[-1]


def device_of(model: nn.Module) -> torch.device:
    """Device of the first parameter; the CPU for a network without parameters. InputError for one without values."""
    parameter = next(unwrap_model(model).parameters(), None)
    if parameter is not None and parameter.is_meta:
        raise InputError(f"model: {type(model).__name__} is on the device 'meta', without weights. Allowed: any other.")
    return torch.device("cpu") if parameter is None else parameter.device


def batch_length(batch: Batch) -> int:
    """Number of images in a batch."""
    return _tensors(batch)[0].shape[0]


def slice_batch(batch: Batch, start: int, stop: int) -> Batch:
    """Images from `start` to before `stop`."""
    sliced: Batch = map_tensors(lambda tensor: tensor[start:stop], batch)
    return sliced


def _tensors(batch: Batch) -> list[Tensor]:
    return [batch] if isinstance(batch, Tensor) else [value for value in batch.values() if isinstance(value, Tensor)]
