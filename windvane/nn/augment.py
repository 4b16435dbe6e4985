"""AugReg levels, and RandAugment on a whole batch: every image gets operations of its own, on the batch's device.

Source: Steiner et al., "How to train your ViT?", arXiv 2106.10270, section 3.3, and the RandAugment that it used
(big_vision, pp/archive/autoaugment.py). There a probability is drawn for each operation and then not used: what is
chosen is applied. Magnitudes may go beyond 10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from windvane.errors import InputError
from windvane.nn import operations as ops

REGULARISATION = (0.0, 0.1)  # the paper's two levels: dropout, and the largest drop rate of stochastic depth

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


@dataclass(frozen=True)
class AugregLevel:
    """How strongly images are varied.

    Attributes
    ----------
    layers
        Operations for each image, one after the other.
    magnitude
        How strong they are; 10 is the unit of the scale, not its end.
    mixup
        Alpha of Mixup; 0 for none.
    """

    layers: int
    magnitude: float
    mixup: float


AUGREG_LEVELS: Mapping[str, AugregLevel] = MappingProxyType(
    {
        "none": AugregLevel(0, 0, 0.0),
        "light1": AugregLevel(2, 0, 0.0),  # not nothing: factors become 0.1, solarize inverts
        "light2": AugregLevel(2, 10, 0.2),
        "medium1": AugregLevel(2, 15, 0.2),
        "medium2": AugregLevel(2, 15, 0.5),
        "strong1": AugregLevel(2, 20, 0.5),
        "strong2": AugregLevel(2, 20, 0.8),
    }
)


def amounts(magnitude: float, height: int, width: int) -> dict[str, tuple[float, ...]]:
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


def rand_augment(images: Tensor, level: AugregLevel, generator: torch.Generator, *, probability: float = 1.0) -> Tensor:
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
    if not len(images):
        return images
    draws = torch.rand(5, level.layers, len(images), generator=generator, device=generator.device).cpu()
    changes = list(amounts(level.magnitude, *images.shape[2:]).items())
    for drawn in draws.unbind(1):  # (5, n)
        images = _change_each(images, drawn, changes, probability)
    return images


def _change_each(
    images: Tensor, drawn: Tensor, changes: list[tuple[str, tuple[float, ...]]], probability: float
) -> Tensor:
    """Apply one operation to each image; images that share one are changed together."""
    numbers = (drawn[0] * len(changes)).long()  # (n,)
    signed = torch.tensor([len(each) == 2 for _, each in changes])
    kinds = 2 * numbers + ((drawn[1] < 0.5) & signed[numbers])
    kinds[drawn[2] >= probability] = _LEFT_ALONE
    kinds, order = kinds.sort(stable=True)
    centres = (drawn[3:, order] * torch.tensor(images.shape[2:])[:, None]).long().to(images.device)  # (2, n)
    order = order.to(images.device)
    present, counts = kinds.unique_consecutive(return_counts=True)
    sizes = counts.tolist()
    done = []
    for kind, part, centre in zip(
        present.tolist(), images[order].split(sizes), centres.split(sizes, dim=1), strict=True
    ):
        if kind == _LEFT_ALONE:
            done.append(part)
            continue
        name, each = changes[kind // 2]
        own = (centre,) if name == "cutout" else ()
        done.append(OPERATIONS[name](part, *each[kind % 2 : kind % 2 + 1], *own))
    result = torch.empty_like(images)
    result[order] = torch.cat(done)
    return result
