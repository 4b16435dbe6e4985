"""Whatever holds images -> batches of them, the same for every network."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler

from windvane.errors import InputError
from windvane.inspect.hooks import Batch, batch_length, slice_batch

_TARGETS = {"label", "labels", "target", "targets"}


def iter_batches(data: Any, batch_size: int, n_images: int | None = None) -> Iterator[Batch]:
    """Go through images batch by batch.

    Parameters
    ----------
    data
        A tensor or array (n, ...), a data set, a `DataLoader`, or any iterable of batches; of a batch that is a tuple
        or list the first entry is taken, and what a mapping calls labels or targets is left out.
    batch_size
        For a tensor, an array or a data set; the others have their own.
    n_images
        How many are wanted, the first ones; None for all.

    Yields
    ------
    Batch
        A tensor (n, ...), or a mapping with such tensors.

    Raises
    ------
    InputError
        Where there are fewer images than were asked for, none at all, or something else than images.
    """
    given = 0
    for batch in map(_inputs, _whole_batches(data, batch_size, n_images)):
        wanted = batch_length(batch) if n_images is None else min(batch_length(batch), n_images - given)
        if wanted:
            yield slice_batch(batch, 0, wanted)
        given += wanted
        if given == n_images:
            return
    if n_images is not None:
        raise _too_few(given, n_images)
    if given == 0:
        raise InputError("data has no images.")


def _whole_batches(data: Any, batch_size: int, n_images: int | None) -> Iterable[Any]:
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size} is too small. Allowed: 1 or more.")
    if n_images is not None and n_images < 1:
        raise InputError(f"n_images={n_images} is too small. Allowed: 1 or more, or None for all.")
    held = known_length(data)
    if n_images is not None and held is not None and held < n_images:
        raise _too_few(held, n_images)
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


def known_length(data: Any) -> int | None:
    """Count the images, where that can be told without looking at them.

    Parameters
    ----------
    data
        As in `batches`.

    Returns
    -------
    int or None
        Images.
    """
    if isinstance(data, DataLoader):
        data = data.dataset
    known = isinstance(data, Tensor | np.ndarray | Dataset) and hasattr(data, "__len__")
    return len(data) if known else None


def _too_few(given: int, wanted: int) -> InputError:
    return InputError(f"n_images={wanted}, but data has {given} images. Allowed: up to {given}.")


def _inputs(batch: Any) -> Batch:
    """Take what a network wants out of what a loader gives."""
    if isinstance(batch, Mapping):
        return {key: value for key, value in batch.items() if key not in _TARGETS}
    if isinstance(batch, tuple | list) and batch:
        batch = batch[0]
    if isinstance(batch, np.ndarray):
        batch = torch.as_tensor(batch)
    if not isinstance(batch, Tensor) or batch.ndim == 0:
        raise InputError(
            f"data gives batches of type {type(batch).__name__}. Allowed: tensors (n, ...), first in a batch."
        )
    if batch.dtype == torch.uint8:
        raise InputError(
            "data holds whole numbers from 0 to 255 (uint8). Allowed: floats, scaled as the network wants."
        )
    return batch


def paired_batches(data: Any, n_models: int, batch_size: int, n_images: int | None) -> Iterator[tuple[Batch, ...]]:
    """Go through images batch by batch, for several networks in step.

    Parameters
    ----------
    data
        One for all networks; or a tuple with one for each, which hold the same images in the same order, as where
        networks want different sizes.
    n_models
        How many networks there are.
    batch_size, n_images
        As in `batches`.

    Yields
    ------
    tuple of Batch
        One for each network; the very same one where `data` is one for all.

    Raises
    ------
    InputError
        As in `batches`, and where what is meant to be paired_batches has different lengths.
    """
    if not isinstance(data, tuple):
        for batch in iter_batches(data, batch_size, n_images):
            yield (batch,) * n_models
        return
    if len(data) != n_models:
        raise InputError(
            f"data is a tuple of {len(data)}, but there are {n_models} networks. Allowed: one for all (a list where it "
            "is batches), or a tuple with one for each."
        )
    if n_models > 1 and any(isinstance(one, DataLoader) and isinstance(one.sampler, RandomSampler) for one in data):
        raise InputError(
            "data has a loader that shuffles, so the networks would see other images. Allowed: shuffle=False, or one "
            "loader for all networks."
        )
    streams = [iter_batches(one, batch_size, n_images) for one in data]
    for step in itertools.zip_longest(*streams):
        lengths = [0 if batch is None else batch_length(batch) for batch in step]
        if len(set(lengths)) > 1:
            raise InputError(
                f"data has batches of {lengths} images for the networks. Allowed: the same images for each."
            )
        yield step
