from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, kstest

from windvane.errors import InputError
from windvane.vision.augment.mixup import mixup, sample_lambda


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 6), alpha=st.floats(0.01, 1.0), seed=st.integers(0, 2**32))
def test_equals_the_plain_sum(n: int, alpha: float, seed: int) -> None:
    images, targets = torch.rand(n, 3, 5, 4, generator=seeded(1)), torch.rand(n, 7, generator=seeded(2)).round()
    mixed, blended = mixup(images, targets, alpha, seeded(seed))
    own = float(sample_lambda(alpha, seeded(seed)))
    assert 0.5 <= own <= 1.0
    for number in range(n):
        partner = (number - 1) % n
        torch.testing.assert_close(mixed[number], own * images[number] + (1 - own) * images[partner])
        torch.testing.assert_close(blended[number], own * targets[number] + (1 - own) * targets[partner])


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8, 1.0])
def test_share_comes_from_the_beta_distribution(alpha: float) -> None:
    generator = seeded()
    shares = np.array([float(sample_lambda(alpha, generator)) for _ in range(2000)])
    law = beta(alpha, alpha)
    assert kstest(shares, lambda share: law.cdf(share) - law.cdf(1 - share)).pvalue > 0.001


def test_the_generator_decides_and_memory_format_stays() -> None:
    images = torch.rand(4, 3, 8, 8, generator=seeded(1)).contiguous(memory_format=torch.channels_last)
    targets = torch.eye(4)
    first, again, other = (mixup(images, targets, 0.5, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(first[1].sum(1), torch.ones(4))


@pytest.mark.parametrize("alpha", [0.0, -0.2, 1.5, float("nan")])
def test_unusable_alpha(alpha: float) -> None:
    with pytest.raises(InputError, match=r"alpha=.*above 0 and at most 1"):
        mixup(torch.rand(2, 3, 4, 4), torch.eye(2), alpha, seeded())


def test_unusable_batch() -> None:
    with pytest.raises(InputError, match=r"targets: torch.int64"):
        mixup(torch.rand(2, 3, 4, 4), torch.tensor([0, 1]), 0.5, seeded())
    with pytest.raises(InputError, match=r"images: torch.uint8"):
        mixup(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.eye(2), 0.5, seeded())
    with pytest.raises(InputError, match=r"targets: 3 rows. Allowed: one for each of the 2"):
        mixup(torch.rand(2, 3, 4, 4), torch.eye(3), 0.5, seeded())
