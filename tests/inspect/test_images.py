from __future__ import annotations

import pytest
import torch
from torch import nn

from windvane.errors import InputError
from windvane.inspect.images import image_batches, images_in, size_of


def test_batches_come_with_their_images() -> None:
    model, x = nn.Conv2d(3, 1, 1), torch.randn(5, 3, 6, 8)
    parts = list(image_batches(model, x, 2))
    assert [len(images) for _, images in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([images for _, images in parts]), x)
    assert size_of(parts[0][1]) == (6, 8)
    named = [{"mask": torch.ones(2), "pixel_values": x[:2]}]
    ((batch, images),) = image_batches(model, named, 2)
    assert set(batch) == {"mask", "pixel_values"}
    assert torch.equal(images, x[:2])
    assert sum(len(images) for _, images in image_batches(nn.Identity(), x, 2, n_images=3)) == 3


def test_what_is_no_image() -> None:
    with pytest.raises(InputError, match=r"data gives \[\(4, 7\)\]. Allowed: images"):
        images_in(torch.zeros(4, 7))
