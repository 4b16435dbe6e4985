"""RandAugment on a whole batch: each image gets its own operations, on the device of the batch.

Source: the RandAugment that Steiner et al. used (arXiv 2106.10270, section 3.3; big_vision,
pp/archive/autoaugment.py). It draws a probability for each operation and then does not use it: chosen operations are
always applied. Magnitudes may exceed 10.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from windvane.errors import InputError, check_usable
from windvane.vision.augment import operations as ops
from windvane.vision.augment.augreg import AugRegLevel

Arguments = dict[Callable[..., Tensor], tuple[float, ...]]  # by operation

_REFERENCE_SIZE = 224  # pixels; the image size that the distances of the paper are meant for


def operation_arguments(magnitude: float, height: int, width: int) -> Arguments:
    """Return the arguments of each operation: none, one, or a positive and a negative one of which one is drawn."""
    # Angles, slopes, factors and gray values do not depend on the image size; distances grow with it.
    share = magnitude / 10
    angle, slope, factor = 30.0 * share, 0.3 * share, 1.8 * share + 0.1
    right, down = (100.0 * share * side / _REFERENCE_SIZE for side in (width, height))
    return {
        ops.autocontrast: (),
        ops.equalize: (),
        ops.invert: (),
        ops.rotate: (angle, -angle),
        ops.posterize: (min(8, max(1, int(4 * share))),),  # at least one bit: TensorFlow shifts by at most 7
        ops.solarize: (int(256 * share),),
        ops.color: (factor,),
        ops.contrast: (factor,),
        ops.brightness: (factor,),
        ops.sharpness: (factor,),
        ops.shear_x: (slope, -slope),
        ops.shear_y: (slope, -slope),
        ops.translate_x: (right, -right),
        ops.translate_y: (down, -down),
        ops.cutout: (round(40 * share * min(height, width) / _REFERENCE_SIZE),),
        ops.solarize_add: (min(255, int(110 * share)),),
    }


def rand_augment(images: Tensor, level: AugRegLevel, generator: torch.Generator, *, probability: float = 1.0) -> Tensor:
    """Apply `level.num_ops` random operations to each image of a uint8 batch (n, 3, h, w), drawn with replacement."""
    # `probability` is that of applying a drawn operation: 1 in AugReg, 0.5 in timm. The same generator state gives the
    # same images; a generator of the CPU spares a GPU the wait for what was drawn.
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(f"images: {images.dtype}, shape {tuple(images.shape)}. Allowed: uint8, shape (n, 3, h, w).")
    check_usable("probability", probability, 0.0 <= probability <= 1.0, "a number from 0 to 1")
    if not level.num_ops or not len(images):
        return images
    draws = torch.rand(5, level.num_ops, len(images), generator=generator, device=generator.device).cpu().numpy()
    arguments = operation_arguments(level.magnitude, *images.shape[2:])
    augmented = list(images.unbind())
    for i in range(level.num_ops):
        _apply_operations(augmented, draws[:, i], arguments, probability)
    return torch.stack(augmented)


def _apply_operations(
    images: list[Tensor], draws: NDArray[np.float32], arguments: Arguments, probability: float
) -> None:
    """Replace each image by what its draws, a column of shape (5,), decide; equal operations run as one batch."""
    numbers = (draws[0] * len(arguments)).astype(np.int64)  # (n,)
    signed = np.array([len(amounts) == 2 for amounts in arguments.values()])
    negative = (draws[1] < 0.5) & signed[numbers]  # (n,)
    applied = draws[2] < probability  # (n,)
    centers = (draws[3:] * np.array(images[0].shape[1:])[:, None]).astype(np.int64)  # (2, n)
    groups: dict[tuple[int, bool], list[int]] = defaultdict(list)
    for row in np.flatnonzero(applied).tolist():
        groups[int(numbers[row]), bool(negative[row])].append(row)
    operations = list(arguments.items())
    for (number, is_negative), rows in groups.items():
        operation, amounts = operations[number]
        amount = amounts[is_negative : is_negative + 1]
        center = (torch.from_numpy(centers[:, rows]).to(images[0].device),) if operation is ops.cutout else ()
        changed = operation(torch.stack([images[row] for row in rows]), *amount, *center)
        for row, image in zip(rows, changed.unbind(), strict=True):
            images[row] = image
