"""Mixup of a batch: images and targets are blended with those of a partner.

Source: Zhang et al., arXiv 1710.09412, as AugReg used it (big_vision, utils): one share for the whole batch, the larger
of lambda and 1 - lambda for the image itself, the batch shifted by one as partners.
"""

from __future__ import annotations

import torch
from torch import Tensor

from windvane.errors import InputError, check_usable

_CANDIDATES = 64  # pairs drawn at once; none is accepted with a chance below 2^-64, the acceptance being at least 1/2


def mixup(images: Tensor, targets: Tensor, alpha: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blend float images (n, ...) and targets (n, k) with those of the previous image in the batch."""
    # Lambda is drawn from Beta(alpha, alpha), 0 < alpha <= 1, on the device of the generator.
    check_usable("alpha", alpha, 0.0 < alpha <= 1.0, "a number above 0 and at most 1")
    for name, values in (("images", images), ("targets", targets)):
        if not values.is_floating_point():
            raise InputError(f"{name}: {values.dtype}. Allowed: floating point numbers.")
    if len(images) != len(targets):
        raise InputError(f"targets: {len(targets)} rows. Allowed: one for each of the {len(images)} images.")
    own = sample_lambda(alpha, generator).to(images.device)
    return _blend(images, own), _blend(targets, own)


def sample_lambda(alpha: float, generator: torch.Generator) -> Tensor:
    """Draw max(lambda, 1 - lambda) with lambda from Beta(alpha, alpha): float64, no dimensions, no device sync."""
    # Joehnk (1964): of uniform u, v with x + y <= 1 for x = u^(1/alpha), y = v^(1/alpha), x / (x + y) is that lambda.
    pairs = torch.rand(2, _CANDIDATES, generator=generator, device=generator.device, dtype=torch.float64)
    logs = pairs.log() / alpha  # (2, candidates)
    accepted = logs.exp().sum(0) <= 1.0
    first = accepted.to(torch.uint8).argmax()
    return (logs[0] - logs[1]).abs().sigmoid().take(first)


def _blend(values: Tensor, own: Tensor) -> Tensor:
    return torch.lerp(values.roll(1, 0), values, own.to(values.dtype))
