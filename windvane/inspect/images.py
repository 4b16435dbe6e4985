"""Batches of images where a network is, with their size in pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from windvane.errors import InputError
from windvane.inspect.batches import iter_batches
from windvane.inspect.hooks import Batch

Size = tuple[int, int]  # height and width in pixels


def image_batches(
    model: nn.Module, data: Any, batch_size: int, n_images: int | None = None
) -> Iterator[tuple[Batch, Tensor]]:
    """Go through images batch by batch, on the device of a network.

    Parameters
    ----------
    model
        Says where.
    data, batch_size, n_images
        As in `windvane.inspect.batches.batches`.

    Yields
    ------
    tuple[Batch, Tensor]
        What the network takes, and the images in it: (n, channels, height, width).

    Raises
    ------
    InputError
        A batch has no images, or there are fewer than asked for.
    """
    weight = next(model.parameters(), None)
    for batch in iter_batches(data, batch_size, n_images):
        if weight is not None:
            batch = (
                batch.to(weight.device)
                if isinstance(batch, Tensor)
                else {key: one.to(weight.device) if isinstance(one, Tensor) else one for key, one in batch.items()}
            )
        yield batch, images_in(batch)


def images_in(batch: Batch) -> Tensor:
    """Find the images in what a network takes.

    Parameters
    ----------
    batch
        A tensor, or the arguments of a network by name.

    Returns
    -------
    Tensor
        (n, channels, height, width)

    Raises
    ------
    InputError
        There are none.
    """
    parts = [batch] if isinstance(batch, Tensor) else [one for one in batch.values() if isinstance(one, Tensor)]
    images = next((part for part in parts if part.ndim == 4), None)
    if images is None:
        shapes = [tuple(part.shape) for part in parts]
        raise InputError(f"data gives {shapes}. Allowed: images (n, channels, height, width).")
    return images


def size_of(images: Tensor) -> Size:
    """Height and width of images in pixels."""
    return images.shape[-2], images.shape[-1]
