"""AugReg levels, and RandAugment on a whole batch: every image gets operations of its own, on the batch's device.

Source: Steiner et al., "How to train your ViT?", arXiv 2106.10270, section 3.3, and the RandAugment that it used
(big_vision, pp/archive/autoaugment.py). There a probability is drawn for each operation and then not used: what is
chosen is applied. Magnitudes may go beyond 10.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from windvane.errors import InputError
from windvane.vision.augment import operations as ops
from windvane.vision.augment.augreg import AugRegLevel

OPERATIONS: Mapping[str, Callable[..., Tensor]] = MappingProxyType(
    {
        operation.__name__: operation
        for operation in (
            *(ops.autocontrast, ops.equalize, ops.invert, ops.rotate, ops.posterize, ops.solarize, ops.color),
            *(ops.contrast, ops.brightness, ops.sharpness, ops.shear_x, ops.shear_y, ops.translate_x),
            *(ops.translate_y, ops.cutout, ops.solarize_add),
        )
    }
)

_SIZE = 224  # the side of an image, in pixels, that the paper's distances are meant for
_LEFT_ALONE = 2 * len(OPERATIONS)  # the kind of change of an image that is spared


def operation_arguments(magnitude: float, height: int, width: int) -> dict[str, tuple[float, ...]]:
    """Translate a magnitude into what each operation takes.

    Angles, slopes, factors and grey values do not depend on the size of the image; distances grow with it.

    Parameters
    ----------
    magnitude
        At least 0.
    height, width
        Of the images, in pixels.

    Returns
    -------
    dict
        For each operation nothing, one amount, or two of which one is drawn: positive and negative.
    """
    share = magnitude / 10
    angle, slope, factor = 30.0 * share, 0.3 * share, 1.8 * share + 0.1
    right, down = (100.0 * share * side / _SIZE for side in (width, height))
    return {
        "autocontrast": (),
        "equalize": (),
        "invert": (),
        "rotate": (angle, -angle),
        "posterize": (min(8, max(1, int(4 * share))),),  # at least one bit: TensorFlow shifts by at most 7
        "solarize": (int(256 * share),),
        "color": (factor,),
        "contrast": (factor,),
        "brightness": (factor,),
        "sharpness": (factor,),
        "shear_x": (slope, -slope),
        "shear_y": (slope, -slope),
        "translate_x": (right, -right),
        "translate_y": (down, -down),
        "cutout": (round(40 * share * min(height, width) / _SIZE),),
        "solarize_add": (min(255, int(110 * share)),),
    }


def rand_augment(images: Tensor, level: AugRegLevel, generator: torch.Generator, *, probability: float = 1.0) -> Tensor:
    """Change each image of a batch by operations of its own.

    Which ones is drawn uniformly, with replacement. The same generator in the same state gives the same result.

    Parameters
    ----------
    images
        uint8, shape (n, 3, h, w).
    level
        Its layers and magnitude count.
    generator
        Of the CPU or the images' device. One of the CPU spares a GPU the wait for what was drawn.
    probability
        That an operation is applied once chosen: 1 in AugReg, 0.5 in timm.

    Returns
    -------
    Tensor
        uint8, the same shape; the images themselves where the level has no layers.

    Raises
    ------
    InputError
        Where the images or the probability are not usable.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"images: {images.dtype}, shape {tuple(images.shape)}. Allowed: uint8, shape (n, 3, h, w).")
    if not 0.0 <= probability <= 1.0:
        raise InputError(f"probability={probability!r} is not usable. Allowed: a number from 0 to 1.")
    if not level.num_ops or not len(images):
        return images
    draws = torch.rand(5, level.num_ops, len(images), generator=generator, device=generator.device).cpu().numpy()
    changes = list(operation_arguments(level.magnitude, *images.shape[2:]).items())
    each = list(images.unbind())
    for layer in range(level.num_ops):
        _apply_operations(each, draws[:, layer], changes, probability)
    return torch.stack(each)


def _apply_operations(
    each: list[Tensor], draws: NDArray[np.float32], changes: list[tuple[str, tuple[float, ...]]], probability: float
) -> None:
    """Replace each image as draws of shape (5, n) say; those that share an operation are changed together."""
    numbers = (draws[0] * len(changes)).astype(np.int64)  # (n,)
    centres = (draws[3:] * np.array(each[0].shape[1:])[:, None]).astype(np.int64)  # (2, n)
    signed = np.array([len(possible) == 2 for _, possible in changes])
    kinds = np.where(draws[2] < probability, 2 * numbers + ((draws[1] < 0.5) & signed[numbers]), _LEFT_ALONE)
    groups: dict[int, list[int]] = defaultdict(list)
    for row, kind in enumerate(kinds.tolist()):
        groups[kind].append(row)
    groups.pop(_LEFT_ALONE, None)
    for kind, rows in groups.items():
        name, possible = changes[kind // 2]
        own = (torch.from_numpy(centres[:, rows]).to(each[0].device),) if name == "cutout" else ()
        changed = OPERATIONS[name](torch.stack([each[row] for row in rows]), *possible[kind % 2 :][:1], *own)
        for row, image in zip(rows, changed.unbind(), strict=True):
            each[row] = image
