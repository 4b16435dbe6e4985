"""The seven AugReg levels of "How to train your ViT?" (Steiner et al., arXiv 2106.10270, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class AugRegLevel:
    """Strength of the augmentation of training images."""

    num_ops: int  # RandAugment operations per image, one after the other
    magnitude: float  # strength of the operations; 10 is the unit of the scale, not its end
    mixup_alpha: float  # Mixup draws its share from Beta(alpha, alpha); 0 for no Mixup


AUGREG_LEVELS: Mapping[str, AugRegLevel] = MappingProxyType(
    {
        "none": AugRegLevel(0, 0, 0.0),
        "light1": AugRegLevel(2, 0, 0.0),  # not nothing: factors become 0.1, solarize inverts
        "light2": AugRegLevel(2, 10, 0.2),
        "medium1": AugRegLevel(2, 15, 0.2),
        "medium2": AugRegLevel(2, 15, 0.5),
        "strong1": AugRegLevel(2, 20, 0.5),
        "strong2": AugRegLevel(2, 20, 0.8),
    }
)
