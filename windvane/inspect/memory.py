"""When memory does not suffice: which layers take it, and what would fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil
import torch
from torch import Tensor

from windvane.errors import InputError
from windvane.inspect.layers import Layer

LARGEST = 3  # layers in a message
SPARE = 0.8  # of the free memory may be planned with


def too_large(taps: Sequence[Layer], n_images: int, device: torch.device) -> InputError:
    """Make the error for a batch that does not fit.

    Parameters
    ----------
    taps
        The layers that are kept; none where a few images were too many already.
    n_images
        Of the batch.
    device
        Whose memory did not suffice.

    Returns
    -------
    InputError
        Names the largest layers and a batch that would fit.
    """
    fits = max(1, min(n_images // 2, int(_free(device) // max(1, sum(tap.n_bytes for tap in taps)))))
    largest = sorted(taps, key=lambda tap: -tap.n_bytes)[:LARGEST]
    sizes = _listed({tap.name: tap.n_bytes * n_images for tap in largest})
    return InputError(
        f"batch_size: a batch of {n_images} images does not fit into memory. The largest of {len(taps)} layers are "
        f'{sizes}. Allowed: about {fits} images at a time, fewer layers, or batch_size="auto", which halves them.'
    )


def check_fits(layers: Mapping[str, Tensor], n_images: int) -> None:
    """Refuse to keep more than there is memory for.

    Parameters
    ----------
    layers
        What is kept of a first batch.
    n_images
        That are to be kept in all.

    Raises
    ------
    InputError
        Where it would not fit: names the largest layers and the number of images that would.
    """
    # Joining the batches of one layer needs that layer twice.
    per_image = {name: one.numel() * one.element_size() / one.shape[0] for name, one in layers.items() if one.shape[0]}
    needed = sum(per_image.values()) + max(per_image.values(), default=0.0)
    fits = int(SPARE * psutil.virtual_memory().available // max(needed, 1.0))
    if n_images > fits:
        largest = sorted(per_image, key=lambda name: -per_image[name])[:LARGEST]
        raise InputError(
            f"layers: {len(per_image)} of {n_images} images need {needed * n_images / 1e9:.3g} GB, more than is free."
            f" The largest are {_listed({name: per_image[name] * n_images for name in largest})}. "
            f"Allowed: fewer layers, n_images up to {fits}, or reduce=, which keeps less of each."
        )


def _listed(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{name} ({size / 1e6:.3g} MB)" for name, size in sizes.items()) or "not known"


def _free(device: torch.device) -> float:
    return float(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available)
